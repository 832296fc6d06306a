"""Pruning by trainable thresholds: the estimator, its closed forms, and the layers that use it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sparsepop.nn.masked import (
    GRANULARITIES,
    add_threshold,
    remove_threshold,
    threshold_layers,
    threshold_shape,
)
from sparsepop.nn.threshold import long_tail, prune, pruned, spread

every_granularity = pytest.mark.parametrize("granularity", GRANULARITIES)


def under_the_tail(x: Tensor) -> Tensor:
    """The integral of the long tail from 0 to x, by hand: 2x - 2x^2, then a line of slope 0.4, then flat."""
    size = x.abs()
    inner = 2 * size - 2 * size**2
    return x.sign() * torch.where(size <= 0.4, inner, 0.48 + 0.4 * (size.clamp(max=1) - 0.4))


def reference(weight: Tensor, threshold: Tensor) -> Tensor:
    """What `prune` returns, its gradient found by autograd through the integral of the estimator."""
    over = weight.abs() - spread(threshold, weight)
    smooth = under_the_tail(over)
    return weight * ((over > 0).to(weight) + smooth - smooth.detach())


def drawn(shape: tuple[int, ...], granularity: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights and thresholds on both sides of every corner of the estimator."""
    generator = torch.Generator().manual_seed(seed)
    weight = 0.8 * torch.randn(*shape, generator=generator, dtype=torch.float64)
    wanted = threshold_shape(weight, granularity)
    return weight, 0.5 * torch.rand(wanted, generator=generator, dtype=torch.float64) - 0.1


# --- the estimator


def test_the_long_tail_has_the_published_values() -> None:
    x = torch.tensor([0.0, 0.1, -0.1, 0.2, 0.25, 0.4, -0.4, 0.7, 1.0, -1.0, 1.0001], dtype=torch.float64)
    wanted = [2.0, 1.6, 1.6, 1.2, 1.0, 0.4, 0.4, 0.4, 0.4, 0.4, 0.0]
    torch.testing.assert_close(long_tail(x), torch.tensor(wanted, dtype=torch.float64))


def test_the_long_tails_integral_is_1_44() -> None:
    x = torch.linspace(-1.5, 1.5, 300_001, dtype=torch.float64)
    assert torch.trapezoid(long_tail(x), x) == pytest.approx(1.44, abs=1e-4)


def test_the_step_is_0_at_0() -> None:
    threshold = torch.tensor(0.5, dtype=torch.float64)
    weight = torch.tensor([0.5, -0.5, 0.5 + 1e-9, -0.5 - 1e-9, 0.5 - 1e-9], dtype=torch.float64)
    assert prune(weight, threshold).tolist() == [0.0, 0.0, 0.5 + 1e-9, -0.5 - 1e-9, 0.0]
    assert pruned(weight, threshold).tolist() == [True, True, False, False, True]


def test_a_weight_that_is_nan_is_not_hidden() -> None:
    assert prune(torch.tensor([float("nan"), 0.1]), torch.tensor(0.5)).isnan().tolist() == [True, False]


# --- its gradients


@every_granularity
@settings(max_examples=15)
@given(seed=st.integers(0, 2**30), shape=st.sampled_from([(1, 1), (3, 5), (4, 2, 3, 3)]))
def test_gradients_are_the_closed_forms(granularity: str, seed: int, shape: tuple[int, ...]) -> None:
    weight, threshold = drawn(shape, granularity, seed)
    weight, threshold = weight.requires_grad_(), threshold.requires_grad_()
    grad = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    by_weight, by_threshold = torch.autograd.grad(prune(weight, threshold), (weight, threshold), grad)
    over = weight.abs() - spread(threshold, weight)
    tail = torch.where(over.abs() <= 0.4, 2 - 4 * over.abs(), 0.4 * (over.abs() <= 1).to(over))
    steep = -grad * weight * tail
    sums = {"scalar": steep.sum(), "vector": steep.flatten(1).sum(1), "matrix": steep}
    wanted = grad * ((over > 0) + weight.abs() * tail)
    torch.testing.assert_close(by_weight, wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(by_threshold, sums[granularity], rtol=0, atol=1e-10)
    assert by_threshold.shape == threshold.shape


@every_granularity
def test_gradients_are_finite_differences_of_the_smoothed_step(granularity: str) -> None:
    weight, threshold = drawn((4, 6), granularity)
    grad = torch.randn(4, 6, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    def smoothed(w: Tensor, t: Tensor) -> Tensor:
        return (grad * w * under_the_tail(w.abs() - spread(t, w))).sum()

    def differences(f: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
        flat, h = at.reshape(-1), 1e-6
        steps = h * torch.eye(flat.numel(), dtype=torch.float64)
        slopes = [(f((flat + s).view_as(at)) - f((flat - s).view_as(at))) / (2 * h) for s in steps]
        return torch.stack(slopes).view_as(at)

    pair = (weight.clone().requires_grad_(), threshold.clone().requires_grad_())
    by_weight, by_threshold = torch.autograd.grad(prune(*pair), pair, grad)
    over = weight.abs() - spread(threshold, weight)
    # the smoothed step is not the step: only the second term of the product rule is the same
    structure = by_weight - grad * (over > 0)
    by_hand = differences(lambda w: smoothed(w, threshold), weight) - grad * under_the_tail(over)
    torch.testing.assert_close(structure, by_hand, rtol=0, atol=1e-7)
    torch.testing.assert_close(
        by_threshold, differences(lambda t: smoothed(weight, t), threshold), rtol=0, atol=1e-7
    )


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (3, 7)),
    "linear-sequence": (lambda: nn.Linear(7, 5, bias=False), (3, 4, 7)),
    "conv": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 7, 8)),
    "conv-reflect": (lambda: nn.Conv2d(2, 3, (3, 2), padding=1, padding_mode="reflect"), (2, 2, 5, 5)),
}
every_layer = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)


def thresholded(make: Callable[[], nn.Module], granularity: str) -> tuple[nn.Module, nn.Module, nn.Parameter]:
    """A plain layer, and its equal that prunes by thresholds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain, masked = make().double(), make().double()
    masked.load_state_dict(plain.state_dict())
    weight = plain.get_parameter("weight")
    draw = torch.rand(
        threshold_shape(weight, granularity), generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )
    threshold = nn.Parameter(weight.detach().abs().median() * 2 * draw)
    add_threshold(masked, threshold)
    return plain, masked, threshold


@every_granularity
@every_layer
def test_layers_have_the_reference_outputs_and_gradients(
    make: Callable[[], nn.Module], shape: tuple[int, ...], granularity: str
) -> None:
    plain, masked, threshold = thresholded(make, granularity)
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = masked(x)
    got.square().sum().backward()
    weight, own = plain.get_parameter("weight"), threshold.detach().clone().requires_grad_()
    with nn.utils.parametrize.cached():
        wanted = torch.func.functional_call(plain, {"weight": reference(weight, own)}, (x,))
    wanted.square().sum().backward()
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(masked.get_parameter("weight").grad, weight.grad, rtol=0, atol=1e-10)
    torch.testing.assert_close(threshold.grad, own.grad, rtol=0, atol=1e-10)


@every_layer
def test_a_scalars_gradient_is_the_sum_of_a_vectors_and_of_a_matrixs(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    sums = []
    for granularity in GRANULARITIES:
        _, masked, threshold = thresholded(make, granularity)
        with torch.no_grad():
            threshold.fill_(0.1)
        masked(torch.ones(shape, dtype=torch.float64)).square().sum().backward()
        assert threshold.grad is not None
        sums.append(threshold.grad.sum())
    torch.testing.assert_close(sums[1:], sums[:1] * 2)


def test_a_pruned_weight_learns_unless_it_is_zero_or_far_from_its_threshold() -> None:
    weight = torch.tensor([0.02, 0.0, 0.3, -0.02], dtype=torch.float64, requires_grad=True)
    threshold = torch.tensor([0.03, 0.5, 1.4, 0.03], dtype=torch.float64)
    prune(weight, threshold).sum().backward()
    assert weight.grad is not None
    wanted = torch.tensor([0.02 * 1.96, 0.0, 0.0, 0.02 * 1.96], dtype=torch.float64)
    torch.testing.assert_close(weight.grad, wanted)


def test_a_filters_threshold_changes_its_channel_alone() -> None:
    _, masked, threshold = thresholded(LAYERS["conv"][0], "vector")
    x = torch.randn(2, 4, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = masked(x)
    with torch.no_grad():
        threshold[2] += 10.0
    changed = (masked(x) != before).flatten(2).any(2).any(0)
    assert changed.tolist() == [False, False, True, False, False, False]


@every_layer
@pytest.mark.parametrize("level", [0.0, -0.7])
def test_without_positive_thresholds_a_layer_is_the_dense_one_bit_for_bit(
    make: Callable[[], nn.Module], shape: tuple[int, ...], level: float
) -> None:
    plain, masked, threshold = thresholded(make, "vector")
    with torch.no_grad():
        threshold.fill_(level)
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(masked(x), plain(x))


def test_masks_are_decided_in_float32_under_autocast() -> None:
    """Weights that bfloat16 cannot tell from their threshold are told apart."""
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0001, 0.9999]]))
    threshold = nn.Parameter(torch.ones(1))
    add_threshold(layer, threshold)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.tensor([[1.0, 64.0]]))
    assert out.item() == 1.0
    out.sum().backward()
    assert threshold.grad is not None
    assert threshold.grad.dtype == torch.float32
    assert threshold.grad.item() == pytest.approx(-2.0 * 65.0, rel=1e-2)


def test_memory_layout_is_kept() -> None:
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    out = prune(weight, torch.full((4,), 0.5, requires_grad=True))
    out.square().sum().backward()
    assert weight.grad is not None
    for tensor in (out, weight.grad):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


# --- a plain layer, and back


def test_a_layer_becomes_plain_again() -> None:
    plain, masked, _ = thresholded(LAYERS["conv"][0], "vector")
    weight = masked.get_parameter("weight")
    model = nn.Sequential(masked, nn.ReLU())
    assert list(threshold_layers(model)) == [masked]
    remove_threshold(masked)
    remove_threshold(masked)
    assert list(threshold_layers(model)) == []
    assert type(masked) is nn.Conv2d
    assert masked.get_parameter("weight") is weight
    assert masked.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 4, 7, 8, dtype=torch.float64)
    assert torch.equal(masked(x), plain(x))


def test_a_second_threshold_replaces_the_first() -> None:
    _, masked, _ = thresholded(LAYERS["linear"][0], "vector")
    other = nn.Parameter(torch.zeros((), dtype=torch.float64))
    add_threshold(masked, other)
    assert [name for name, _ in masked.named_parameters()] == ["weight", "bias", "threshold"]
    assert masked.get_parameter("threshold") is other


def test_other_layers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no thresholds for a Conv1d.*keep_dense"):
        add_threshold(nn.Conv1d(2, 2, 3), nn.Parameter(torch.zeros(2)))


def test_the_result_is_what_functional_layers_make_of_the_pruned_weight() -> None:
    _, masked, threshold = thresholded(LAYERS["linear"][0], "matrix")
    weight = masked.get_parameter("weight").detach()
    kept = torch.where(weight.abs() > threshold.detach(), weight, 0.0)
    assert 0 < kept.count_nonzero() < kept.numel()
    x = torch.randn(3, 7, dtype=torch.float64)
    assert torch.equal(masked(x), F.linear(x, kept, masked.get_parameter("bias")))

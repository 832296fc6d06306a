"""Masks: exact selection against a slow reference, and zeros wherever a weight is not alive."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsepop.masks import Masks, prunable_names, random_mask, spare_largest, top_mask, top_masks


def reference(score: Tensor, keep: int, eligible: Tensor) -> Tensor:
    """Stable descending sort of the eligible entries; NaN counts as 0."""
    values = [0.0 if math.isnan(v) else v for v in score.flatten().tolist()]
    ranked = sorted(eligible.flatten().nonzero().flatten().tolist(), key=lambda i: -values[i])
    mask = torch.zeros(score.numel(), dtype=torch.bool)
    mask[ranked[:keep]] = True
    return mask.view(score.shape)


# few different values, so that most draws have ties
entries = st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0, 2.0, math.nan, math.inf, -math.inf, 1e-30, 3e38])


@st.composite
def selections(draw: st.DrawFn) -> tuple[Tensor, int, Tensor]:
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    size = rows * columns
    score = torch.tensor(draw(st.lists(entries, min_size=size, max_size=size))).view(rows, columns)
    eligible = torch.tensor(draw(st.lists(st.booleans(), min_size=size, max_size=size))).view(rows, columns)
    return score, draw(st.integers(0, int(eligible.sum()))), eligible


@given(selections())
def test_top_mask_is_a_stable_sort(selection: tuple[Tensor, int, Tensor]) -> None:
    score, keep, eligible = selection
    mask = top_mask(score, keep, eligible)
    assert mask.dtype == torch.bool
    assert mask.shape == score.shape
    assert torch.equal(mask, reference(score, keep, eligible))
    everything = torch.ones_like(eligible)
    assert torch.equal(top_mask(score, keep), reference(score, keep, everything))


@given(selections())
def test_top_mask_sees_through_strides(selection: tuple[Tensor, int, Tensor]) -> None:
    score, keep, eligible = selection
    turned = score.t().contiguous().t()
    assert torch.equal(top_mask(turned, keep, eligible), top_mask(score, keep, eligible))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_top_mask_takes_any_float_type(dtype: torch.dtype) -> None:
    score = torch.tensor([1.0, 3.0, 3.0, 2.0], dtype=dtype)
    assert top_mask(score, 2).tolist() == [False, True, True, False]


@pytest.mark.parametrize("keep", [-1, 5])
def test_a_count_out_of_range_is_refused(keep: int) -> None:
    with pytest.raises(ValueError, match=f"cannot keep {keep} of 4 weights"):
        top_mask(torch.ones(4), keep)


def test_top_masks_share_one_budget() -> None:
    scores = {"a": torch.tensor([[5.0, 1.0]]), "b": torch.tensor([4.0, 9.0, 3.0])}
    eligible = {"b": torch.tensor([True, False, True]), "a": torch.tensor([[True, True]])}
    masks = top_masks(scores, 2, eligible)
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "a": [[True, False]],
        "b": [True, False, False],
    }


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_a_random_mask_has_exactly_its_count(rows: int, columns: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, rows * columns))
    seed = data.draw(st.integers(0, 2**63 - 1))
    one, other = (random_mask((rows, columns), keep, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert one.shape == (rows, columns)
    assert int(one.sum()) == keep
    assert torch.equal(one, other)


def test_the_largest_of_each_layer_is_spared_where_there_is_any() -> None:
    sizes = {
        "a": torch.tensor([0.5, 2.0, 1.0]),
        "none alive": torch.tensor([3.0, 4.0]),
        "empty": torch.empty(0),
    }
    alive = {"a": torch.tensor([True, False, True]), "none alive": torch.tensor([False, False])}
    spared = spare_largest(sizes, {**alive, "empty": torch.empty(0, dtype=torch.bool)})
    assert {name: size.tolist() for name, size in spared.items()} == {
        "a": [0.5, 2.0, math.inf],
        "none alive": [3.0, math.inf],
        "empty": [],
    }


def test_random_masks_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = torch.stack([random_mask((2, 5), 3, generator) for _ in range(2000)]).sum(0).double()
    # each place is hit 600 times on average; 9 degrees of freedom, 99.9% quantile 27.9
    assert float(((hits - 600) ** 2 / 600).sum()) < 27.9


def test_prunable_names_are_weights_of_convolutions_and_linear_layers() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1),
        nn.BatchNorm2d(2),
        nn.Sequential(nn.Conv1d(1, 1, 1), nn.Embedding(2, 2)),
        nn.Linear(2, 2),
    )
    assert prunable_names(model) == ["0.weight", "2.0.weight", "3.weight"]
    assert prunable_names(nn.Linear(1, 1)) == ["weight"]


# --- Masks


class Two(nn.Module):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


def two_layers() -> tuple[Two, Masks]:
    torch.manual_seed(0)
    model = Two()
    return model, Masks({name: model.get_parameter(name) for name in ("a.weight", "b.weight")})


def learned(optimizer: torch.optim.Optimizer, weight: Tensor) -> dict[str, Tensor]:
    return {**optimizer.state[weight], "weight": weight.detach()}


def half(shape: tuple[int, ...], offset: int = 0) -> Tensor:
    return ((torch.arange(math.prod(shape)) + offset) % 2 == 0).view(shape)


def test_masks_start_all_alive() -> None:
    _, masks = two_layers()
    assert (masks.alive, masks.total, masks.density) == (18, 18, 1.0)
    assert masks.shapes == {"a.weight": (3, 4), "b.weight": (2, 3)}
    assert not masks.is_sparse("a.weight")


def test_repeated_weights_count_once_and_densities_are_shares_of_the_total() -> None:
    model, _ = two_layers()
    params = {name: model.get_parameter(name) for name in ("a.weight", "b.weight")}
    masks = Masks(params, total=30, repeats={"b.weight": "a.weight"})
    assert (masks.alive, masks.total, masks.density) == (12, 30, 0.4)
    masks.set({name: half(tuple(param.shape)) for name, param in params.items()})
    assert (masks.counts, masks.alive) == ({"a.weight": 6, "b.weight": 3}, 6)
    assert sum(Masks(params, total=30).allocate(0.2).values()) == 6


def test_set_zeroes_what_it_drops_and_keeps_the_rest() -> None:
    model, masks = two_layers()
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    mask = half((3, 4))
    masks.set({"a.weight": mask})
    assert torch.equal(model.a.weight.detach(), before["a.weight"] * mask)
    for name in ("a.bias", "b.weight", "b.bias"):
        assert torch.equal(model.get_parameter(name).detach(), before[name])
    assert (masks.counts, masks.alive) == ({"a.weight": 6, "b.weight": 6}, 12)
    assert masks.is_sparse("a.weight")
    assert not masks.is_sparse("b.weight")


def test_set_copies_the_mask_it_is_given() -> None:
    _, masks = two_layers()
    mask = half((3, 4))
    masks.set({"a.weight": mask})
    mask.fill_(True)
    assert int(masks.tensors["a.weight"].sum()) == 6


OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, 0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda params: torch.optim.SGD(params, 0.1, momentum=0.9, nesterov=True),
    "adamw": lambda params: torch.optim.AdamW(params, 0.1, fused=True),
    "amsgrad": lambda params: torch.optim.AdamW(params, 0.1, amsgrad=True),
}


def learn(model: nn.Module, masks: Masks, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 4) * math.cos(step)).square().sum().backward()
        masks.mask_gradients()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_set_zeroes_weights_and_state_of_dropped_and_of_grown_weights(name: str) -> None:
    model, masks = two_layers()
    optimizer = OPTIMIZERS[name](model.parameters())
    first, second = half((3, 4)), half((3, 4), 1)
    second[0, 0] = True
    masks.set({"a.weight": first}, optimizer)
    learn(model, masks, optimizer, 3)
    weight = model.a.weight
    old = {key: value.clone() for key, value in learned(optimizer, weight).items()}
    assert all(value[0, 0] != 0 for value in old.values() if value.shape == weight.shape)
    masks.set({"a.weight": second}, optimizer)
    stayed = first & second
    assert int(stayed.sum()) == 1
    for key, value in learned(optimizer, weight).items():
        if value.shape != weight.shape:
            assert torch.equal(value, old[key])
            continue
        assert torch.equal(value[stayed], old[key][stayed])
        assert not value[~second].any()
        if key != "exp_avg_sq":
            assert not value[~stayed].any()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_stay_zero_for_a_hundred_steps(name: str) -> None:
    model, masks = two_layers()
    optimizer = OPTIMIZERS[name](model.parameters())
    optimizer.param_groups[0].update(lr=1e-3, weight_decay=5e-4)
    learn(model, masks, optimizer, 5)
    masks.set({"a.weight": half((3, 4)), "b.weight": half((2, 3))}, optimizer)
    alive = model.a.weight[half((3, 4))].clone()
    learn(model, masks, optimizer, 100)
    for param, mask in zip((model.a.weight, model.b.weight), masks.tensors.values(), strict=True):
        assert not param[~mask].any()
    assert not torch.equal(model.a.weight[half((3, 4))], alive)


def test_a_grown_weight_starts_from_the_mean_second_moment_of_the_survivors() -> None:
    model, masks = two_layers()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    masks.set({"a.weight": half((3, 4))}, optimizer)
    learn(model, masks, optimizer, 2)
    state = optimizer.state[model.a.weight]
    state["exp_avg_sq"].copy_(torch.arange(12.0).view(3, 4) * half((3, 4)))
    new = half((3, 4))
    new[0, 0], new[0, 1] = False, True
    masks.set({"a.weight": new}, optimizer)
    # alive before: 0 2 4 6 8 10; survivors 2 4 6 8 10
    assert state["exp_avg_sq"].flatten().tolist() == [0, 6, 2, 0, 4, 0, 6, 0, 8, 0, 10, 0]


def test_gradients_are_masked_where_a_layer_is_sparse() -> None:
    model, masks = two_layers()
    masks.set({"a.weight": half((3, 4))})
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    model.b.bias.grad = None
    masks.mask_gradients()
    gradients = {name: param.grad for name, param in model.named_parameters() if param.grad is not None}
    assert list(gradients) == ["a.weight", "a.bias", "b.weight"]
    assert torch.equal(gradients.pop("a.weight"), half((3, 4)).float())
    assert all(bool((gradient == 1).all()) for gradient in gradients.values())


def test_masks_that_only_observe_change_nothing() -> None:
    model, masks = two_layers()
    masks.enforced = False
    before = model.a.weight.detach().clone()
    model.a.weight.grad = torch.ones(3, 4)
    masks.set({"a.weight": half((3, 4))})
    masks.mask_gradients()
    assert torch.equal(model.a.weight.detach(), before)
    assert bool((model.a.weight.grad == 1).all())
    assert masks.counts["a.weight"] == 6


def test_the_digest_tells_masks_apart() -> None:
    one, other = two_layers()[1], two_layers()[1]
    seen = [one.digest()]
    assert other.digest() == seen[0]
    one.set({"a.weight": half((3, 4))})
    seen.append(one.digest())
    one.set({"a.weight": half((3, 4), 1)})
    seen.append(one.digest())
    one.set({"b.weight": half((2, 3))})
    seen.append(one.digest())
    assert len(set(seen)) == 4
    other.set({"b.weight": half((2, 3)), "a.weight": half((3, 4), 1)})
    assert other.digest() == seen[-1]


def test_the_digest_does_not_depend_on_the_memory_format() -> None:
    weight = nn.Parameter(torch.randn(4, 3, 2, 2))
    rows, columns = (
        Masks({"w": weight}),
        Masks({"w": nn.Parameter(weight.to(memory_format=torch.channels_last))}),
    )
    for masks in (rows, columns):
        masks.set({"w": random_mask((4, 3, 2, 2), 20, torch.Generator().manual_seed(0))})
    assert rows.digest() == columns.digest()


def test_masks_round_trip_through_their_state() -> None:
    _, masks = two_layers()
    masks.set({"a.weight": half((3, 4))})
    model, again = two_layers()
    before = model.a.weight.detach().clone()
    again.load_state_dict(masks.state_dict())
    assert (again.digest(), again.counts, again.version) == (masks.digest(), masks.counts, masks.version)
    assert torch.equal(model.a.weight.detach(), before)
    again.tensors["a.weight"].fill_(True)
    assert int(masks.tensors["a.weight"].sum()) == 6
    masks.enforced = False
    again.load_state_dict(masks.state_dict())
    assert not again.enforced


def test_every_change_has_a_version_of_its_own() -> None:
    _, masks = two_layers()
    before = masks.version
    masks.set({"a.weight": half((3, 4))})
    assert masks.version > before


def test_masks_that_do_not_fit_are_refused() -> None:
    _, masks = two_layers()
    with pytest.raises(ValueError, match=r"'2\.weight'.*a\.weight, b\.weight"):
        masks.set({"2.weight": half((3, 4))})
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(3, 4\)"):
        masks.set({"a.weight": half((4, 3))})
    state = masks.state_dict()
    with pytest.raises(ValueError, match=r"other layers: \['b\.weight'\]"):
        masks.load_state_dict({**state, "tensors": {"a.weight": half((3, 4))}})


def test_some_layers_get_their_share_of_a_density_of_more_than_there_is() -> None:
    """Where tensors stand for twice as many weights, a quarter of those is half of what is there."""
    _, masks = two_layers()
    sizes = {name: param.numel() for name, param in masks.params.items()}
    total = sum(sizes.values())
    shared = Masks(masks.params, 2 * total)
    assert masks.allocate_among(["a.weight"], 0.25) == {"a.weight": sizes["a.weight"] // 4}
    assert shared.allocate_among(["a.weight"], 0.25) == {"a.weight": sizes["a.weight"] // 2}
    assert shared.allocate_among(sizes, 0.25) == shared.allocate(0.25, "uniform")
    assert shared.allocate_among(sizes, 0.9) == sizes

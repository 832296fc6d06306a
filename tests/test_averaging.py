"""Averages in weight space against plain arithmetic, pruning back, and BatchNorm's fresh statistics."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsepop.averaging import merge, prune_back, recalibrate, share_of
from sparsepop.bits import pack_bits, unpack_bits
from sparsepop.models import build
from sparsepop.overlaps import density_of, occurrences, overlap, shared


def states(count: int, seed: int = 0) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "a": torch.randn(4, 5, generator=generator),
            "b": torch.randn(7, generator=generator),
            "n": torch.tensor(place),
        }
        for place in range(count)
    ]


def folded(parts: list[dict[str, Tensor]], average: str, factor: float = 0.5) -> dict[str, Tensor]:
    mean: dict[str, Tensor] | None = None
    for position, part in enumerate(parts):
        mean = merge(mean, part, share_of(position, average, factor))
    assert mean is not None
    return mean


@pytest.mark.parametrize("count", range(1, 7))
def test_caa_is_the_arithmetic_mean_in_any_order(count: int) -> None:
    parts = states(count)
    wanted = torch.stack([part["a"].double() for part in parts]).mean(0)
    for order in list(permutations(parts))[:24]:
        torch.testing.assert_close(folded(list(order), "caa")["a"].double(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0])
def test_cima_weighs_by_age(factor: float) -> None:
    parts = [{"x": vector} for vector in torch.eye(4, dtype=torch.float64)]
    weights = folded(parts, "cima", factor)["x"]
    wanted = [(1 - factor) ** 3] + [factor * (1 - factor) ** age for age in (2, 1, 0)]
    assert weights.tolist() == pytest.approx(wanted)
    assert float(weights.sum()) == pytest.approx(1.0)
    backwards = folded(parts[::-1], "cima", factor)["x"]
    assert not torch.allclose(weights, backwards)  # the order of tickets counts


@pytest.mark.parametrize("average", ["caa", "cima"])
@given(seed=st.integers(0, 10_000), count=st.integers(1, 6))
def test_equal_tickets_average_to_themselves_exactly(average: str, seed: int, count: int) -> None:
    (part,) = states(1, seed)
    part["a"][0] = 0.0
    mean = folded([part] * count, average, 0.3)
    assert all(torch.equal(mean[name], value) for name, value in part.items())


def test_disjoint_masks_add_up_and_shrink() -> None:
    """A connection in one of three tickets keeps a third of its strength: zeros are not left out."""
    parts = [{"w": torch.zeros(9)} for _ in range(3)]
    for place, part in enumerate(parts):
        part["w"][3 * place : 3 * place + 2 + place % 2] = place + 1.0
    mean = folded(parts, "caa")["w"]
    assert int(mean.count_nonzero()) == 2 + 3 + 2
    torch.testing.assert_close(mean, sum((part["w"] for part in parts), torch.zeros(9)) / 3)


def test_a_merge_shares_no_memory_and_keeps_counters() -> None:
    one, other = states(2)
    before = [{name: value.clone() for name, value in part.items()} for part in (one, other)]
    first = merge(None, one, 1.0)
    second = merge(first, other, 0.5)
    for value in (*first.values(), *second.values()):
        value.zero_()
    assert all(torch.equal(one[name], value) for name, value in before[0].items())
    assert all(torch.equal(other[name], value) for name, value in before[1].items())
    assert int(merge(one, other, 0.5)["n"]) == 1
    assert merge(None, {"h": torch.ones(2, dtype=torch.bfloat16)}, 1.0)["h"].dtype == torch.float32


def test_other_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="extra is not in both"):
        merge({"a": torch.ones(1)}, {"a": torch.ones(1), "extra": torch.ones(1)}, 0.5)


# --- pruning back


def union_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight != 0 for name, weight in weights.items()}


@given(st.integers(0, 10_000), st.integers(2, 60), st.booleans())
def test_global_pruning_keeps_exactly_the_largest(seed: int, keep: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(size, generator=generator) for name, size in (("a", 40), ("b", 60))}
    if ties:
        weights = {name: weight.round() + 0.5 for name, weight in weights.items()}
    masks = prune_back(weights, union_of(weights), {"a": keep - 1, "b": 1}, "global")
    assert sum(int(mask.sum()) for mask in masks.values()) == keep
    dropped = torch.cat([weights[name][~mask].abs() for name, mask in masks.items()])
    # each layer's largest stays in any case
    ranked = [weights[name][mask].abs().sort().values[:-1] for name, mask in masks.items()]
    assert bool((torch.cat(ranked) >= dropped.max()).all())
    for name, mask in masks.items():
        assert weights[name][mask].abs().max() == weights[name].abs().max()


def test_layer_pruning_keeps_each_layers_count() -> None:
    weights = {"a": torch.tensor([3.0, -4.0, 1.0, 0.0]), "b": torch.tensor([0.1, 0.2, -0.3])}
    masks = prune_back(weights, union_of(weights), {"a": 2, "b": 1}, "layer")
    assert masks["a"].tolist() == [True, True, False, False]
    assert masks["b"].tolist() == [False, False, True]


def test_the_whole_network_ranks_but_no_layer_is_emptied() -> None:
    weights = {"a": torch.tensor([3.0, -4.0, 1.0, 2.0]), "b": torch.tensor([0.1, 0.2, -0.3])}
    masks = prune_back(weights, union_of(weights), {"a": 2, "b": 1}, "global")
    assert masks["a"].tolist() == [True, True, False, False]
    assert masks["b"].tolist() == [False, False, True]
    with pytest.raises(ValueError, match="cannot keep 1 weights in 2 layers"):
        prune_back(weights, union_of(weights), {"a": 1, "b": 0}, "global")


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_what_is_sparse_enough_stays(scope: str) -> None:
    generator = torch.Generator().manual_seed(0)
    alive = {name: torch.rand(5, 8, generator=generator) < 0.4 for name in "ab"}
    weights = {name: torch.randn(5, 8, generator=generator) * mask for name, mask in alive.items()}
    weights["a"][alive["a"]] = 0.0  # alive and zero, as a weight just grown is
    counts = {name: int(mask.sum()) for name, mask in alive.items()}
    masks = prune_back(weights, alive, counts, scope)
    assert all(torch.equal(masks[name], mask) for name, mask in alive.items())


# --- BatchNorm


def network() -> nn.Module:
    torch.manual_seed(0)
    return build("wrn-10-1", (3, 8, 8), 10)


def batches(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [2.0 + 3.0 * torch.randn(16, 3, 8, 8, generator=generator) for _ in range(count)]


def test_recalibration_changes_running_statistics_alone_and_repeats_itself() -> None:
    model = network().eval()
    momenta = [part.momentum for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recalibrate(model, batches())
    once = {name: value.clone() for name, value in model.state_dict().items()}
    changed = {name for name, value in once.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "running" in name or "tracked" in name}
    recalibrate(model, batches())
    assert all(torch.equal(value, once[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert [part.momentum for part in model.modules() if isinstance(part, nn.BatchNorm2d)] == momenta


def test_recalibration_is_the_mean_of_the_batches_own_statistics() -> None:
    model = network()
    seen: list[Tensor] = []
    first = next(part for part in model.modules() if isinstance(part, nn.BatchNorm2d))
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))
    recalibrate(model, batches())
    hook.remove()
    means = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    variances = torch.stack([x.var((0, 2, 3), unbiased=True) for x in seen]).mean(0)
    assert first.running_mean is not None
    assert first.running_var is not None
    torch.testing.assert_close(first.running_mean.double(), means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first.running_var.double(), variances, rtol=1e-5, atol=1e-6)
    assert model.training


def test_recalibration_agrees_with_torchs_own() -> None:
    ours, theirs = network(), network()
    recalibrate(ours, batches())
    torch.optim.swa_utils.update_bn(batches(), theirs)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


def test_networks_without_statistics_are_not_run() -> None:
    class Refuses(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("was run")

    recalibrate(Refuses(2, 2), [torch.ones(1, 2)])


# --- masks as bits, and what they share


@given(st.lists(st.booleans(), max_size=70))
def test_bits_come_back(values: list[bool]) -> None:
    mask = torch.tensor(values, dtype=torch.bool)
    packed = pack_bits(mask)
    assert packed.numel() == -(-len(values) // 8)
    assert torch.equal(unpack_bits(packed, mask.shape), mask)


def test_what_masks_share() -> None:
    one = {"w": torch.tensor([1, 1, 0, 0, 0], dtype=torch.bool)}
    two = {"w": torch.tensor([0, 1, 1, 0, 0], dtype=torch.bool)}
    assert overlap(one, two) == 1 / 3
    found = occurrences([one, two])
    assert found["w"].tolist() == [1, 2, 1, 0, 0]
    assert occurrences([found, one])["w"].tolist() == [2, 3, 1, 0, 0]
    assert density_of(found) == 3 / 5
    assert shared(found, one) == {"from_1": 0.5, "from_2": 0.5}

"""Layer budgets: exact totals, water-filling, an independent second computation, and the published table."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sparsepop.budgets import DISTRIBUTIONS, allocate, check_density, layer_densities, limited
from sparsepop.ledger import Costs, measure_costs
from sparsepop.masks import prunable_names
from sparsepop.models import build

Shapes = dict[str, tuple[int, ...]]

sizes = st.integers(1, 40)
shape = st.one_of(st.tuples(sizes, sizes), st.tuples(sizes, sizes, st.integers(1, 5), st.integers(1, 5)))
nets = st.lists(shape, min_size=1, max_size=8).map(lambda each: {f"{i}": s for i, s in enumerate(each)})
densities = st.floats(1e-4, 1.0)
distributions = st.sampled_from(DISTRIBUTIONS)


def raw(shape: tuple[int, ...], distribution: str) -> float:
    dims = shape if distribution == "erk" else shape[:2]
    return sum(dims) / math.prod(dims)


def by_bisection(shapes: Shapes, density: float, distribution: str) -> dict[str, float]:
    """min(1, factor x raw) with the factor that gives the right mean, without any set of dense layers."""
    weights = {name: math.prod(shape) for name, shape in shapes.items()}
    target = density * sum(weights.values())
    low, high = 0.0, 1.0 / min(raw(shape, distribution) for shape in shapes.values())
    for _ in range(200):
        middle = (low + high) / 2
        kept = sum(min(1.0, middle * raw(s, distribution)) * weights[n] for n, s in shapes.items())
        low, high = (middle, high) if kept < target else (low, middle)
    return {name: min(1.0, high * raw(shape, distribution)) for name, shape in shapes.items()}


@given(nets, densities, st.sampled_from(["er", "erk"]))
def test_two_ways_to_compute_the_densities_agree(shapes: Shapes, density: float, distribution: str) -> None:
    assert layer_densities(shapes, density, distribution) == pytest.approx(
        by_bisection(shapes, density, distribution), rel=1e-9
    )


@given(nets, densities, distributions)
def test_the_mean_density_is_the_target(shapes: Shapes, density: float, distribution: str) -> None:
    shares = layer_densities(shapes, density, distribution)
    kept = sum(shares[name] * math.prod(shape) for name, shape in shapes.items())
    assert kept == pytest.approx(density * sum(math.prod(shape) for shape in shapes.values()), rel=1e-12)
    assert all(0 < share <= 1 + 1e-12 for share in shares.values())


@given(nets, densities, densities, distributions)
def test_more_weights_in_all_are_never_fewer_in_a_layer(
    shapes: Shapes, one: float, other: float, distribution: str
) -> None:
    low, high = (layer_densities(shapes, each, distribution) for each in sorted((one, other)))
    assert all(low[name] <= high[name] * (1 + 1e-12) for name in shapes)


@given(nets, densities, distributions)
def test_counts_are_exact(shapes: Shapes, density: float, distribution: str) -> None:
    weights = {name: math.prod(shape) for name, shape in shapes.items()}
    total = round(density * sum(weights.values()))
    assume(total >= len(shapes))
    counts = allocate(shapes, density, distribution)
    assert sum(counts.values()) == total
    assert list(counts) == list(shapes)
    assert all(1 <= counts[name] <= weights[name] for name in shapes)
    shares = layer_densities(shapes, density, distribution)
    if all(shares[name] * weights[name] >= 1 for name in shapes):
        assert all(abs(counts[name] - shares[name] * weights[name]) < 1 + 1e-6 for name in shapes)


def test_ties_become_dense_together() -> None:
    shapes = {"small": (2, 2), "twin": (2, 2), "large": (20, 30)}
    assert layer_densities(shapes, 0.1) == pytest.approx({"small": 1, "twin": 1, "large": 52.8 / 600})


def test_what_is_left_over_goes_to_the_largest_fractions() -> None:
    # 0.35 x (10, 10, 12) = 3.5, 3.5, 4.2, together 11: one weight is left over, to the first of the equals
    assert allocate({"a": (5, 2), "b": (5, 2), "c": (4, 3)}, 0.35, "uniform") == {"a": 4, "b": 3, "c": 4}


def test_a_layer_that_would_be_empty_gets_one_weight_from_the_others() -> None:
    # ideal: 0.4 and 3.6, together 4; uniform 0.04 of 10 and 90
    assert allocate({"tiny": (5, 2), "wide": (9, 10)}, 0.04, "uniform") == {"tiny": 1, "wide": 3}


@given(
    budgets=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    most=st.lists(st.integers(0, 80), min_size=6, max_size=6),
)
def test_what_a_layer_cannot_use_goes_to_those_that_can(budgets: list[int], most: list[int]) -> None:
    names = [f"layer{place}" for place in range(len(budgets))]
    asked, there = dict(zip(names, budgets, strict=True)), dict(zip(names, most, strict=False))
    found = limited(asked, there)
    assert sum(found.values()) == min(sum(asked.values()), sum(there.values()))
    for name in names:
        assert min(asked[name], there[name]) <= found[name] <= there[name]


def test_too_few_weights_for_the_layers_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"keeps 1 of 200 weights.*the 2 layers: use at least 0\.01"):
        allocate({"a": (10, 10), "b": (10, 10)}, 0.005)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.01, math.nan, "0.1", None, True])
def test_what_is_no_density_is_refused(density: Any) -> None:
    with pytest.raises(ValueError, match=rf"got {density!r}: it is the share of weights kept"):
        check_density(density)
    with pytest.raises(ValueError, match="share of weights kept"):
        allocate({"a": (10, 10)}, density)


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'erx'.*uniform, er, erk"):
        allocate({"a": (10, 10)}, 0.5, "erx")


# --- networks of the literature


@cache
def network(name: str, side: int, classes: int) -> tuple[Shapes, Costs]:
    with torch.device("meta"):
        model = build(name, (3, side, side), classes)
        params = dict(model.named_parameters())
        prunable = {name: params[name] for name in prunable_names(model)}
        costs = measure_costs(model, (3, side, side), prunable)
    return {name: tuple(param.shape) for name, param in prunable.items()}, costs


@pytest.mark.parametrize(
    ("density", "erk", "uniform"),
    [(0.2, 0.42, 0.223), (0.1, 0.24, 0.126), (0.05, 0.12, 0.077), (0.035, 0.09, 0.063)],
)
def test_inference_flops_of_resnet_50_match_the_published_ratios(
    density: float, erk: float, uniform: float
) -> None:
    """RigL's table (Evci et al. 2020, table 2); uniform keeps the stem dense."""
    shapes, costs = network("imagenet-resnet-50", 224, 1000)
    ratio = costs.forward_flops(layer_densities(shapes, density)) / costs.dense_flops
    assert ratio == pytest.approx(erk, abs=0.01)
    rest = dict.fromkeys([name for name in shapes if name != "conv1.weight"], density)
    assert costs.forward_flops(rest) / costs.dense_flops == pytest.approx(uniform, abs=0.0006)


def test_resnet_50_has_its_published_size() -> None:
    shapes, costs = network("imagenet-resnet-50", 224, 1000)
    assert sum(math.prod(shape) for shape in shapes.values()) == 25_502_912
    assert costs.dense_flops == pytest.approx(8.18e9, rel=1e-3)


def test_the_dense_layers_of_resnet_50() -> None:
    shapes, _ = network("imagenet-resnet-50", 224, 1000)
    dense = {
        density: {name for name, share in layer_densities(shapes, density).items() if share == 1.0}
        for density in (0.2, 0.1, 0.05, 0.035)
    }
    blocks = ["0.conv1", "0.conv3", "0.downsample.0", "1.conv1", "1.conv3", "2.conv1", "2.conv3"]
    assert dense[0.2] == {f"layer1.{block}.weight" for block in blocks} | {"layer2.0.conv1.weight"}
    assert dense[0.1] == {"layer1.0.conv1.weight"}
    assert dense[0.05] == dense[0.035] == set()


@pytest.mark.parametrize(
    ("density", "classifier", "lowest"),
    [(0.2, 0.148, 0.0435), (0.1, 0.073, 0.0213), (0.05, 0.036, 0.0106), (0.035, 0.025, 0.0074)],
)
def test_layer_densities_of_resnet_50(density: float, classifier: float, lowest: float) -> None:
    shares = layer_densities(network("imagenet-resnet-50", 224, 1000)[0], density)
    assert shares["fc.weight"] == pytest.approx(classifier, abs=0.0006)
    assert min(shares.values()) == shares["layer4.2.conv2.weight"] == pytest.approx(lowest, abs=0.00006)


@pytest.mark.parametrize(
    ("model", "classes", "counts"),
    [
        ("resnet-34", 10, (212_651, 21_265, 10_633, 2_127)),
        ("resnet-34", 100, (213_112, 21_311, 10_656, 2_131)),
        ("resnet-50", 10, (234_677, 23_468, 11_734, 2_347)),
        ("resnet-50", 100, (236_520, 23_652, 11_826, 2_365)),
    ],
)
def test_survivors_at_extreme_densities(model: str, classes: int, counts: tuple[int, ...]) -> None:
    shapes, _ = network(model, 32, classes)
    for density, count in zip((1e-2, 1e-3, 5e-4, 1e-4), counts, strict=True):
        assert sum(allocate(shapes, density).values()) == count


def test_the_thinnest_layers_of_resnet_34_at_99_99_percent() -> None:
    counts = allocate(network("resnet-34", 32, 10)[0], 1e-4)
    assert (counts["conv1.weight"], counts["layer1.0.conv1.weight"]) == (9, 17)
    assert (counts["layer4.2.conv2.weight"], counts["fc.weight"]) == (130, 66)


@settings(max_examples=20)
@given(st.floats(1e-4, 1.0))
def test_exact_on_a_real_network(density: float) -> None:
    shapes, _ = network("resnet-34", 32, 10)
    assert sum(allocate(shapes, density).values()) == round(density * 21_265_088)


def test_a_density_may_be_a_share_of_more_weights_than_there_are() -> None:
    shapes = {"a": (30, 20), "b": (10, 30)}
    assert allocate(shapes, 0.1, of=900) == allocate(shapes, 0.1)
    counts = allocate(shapes, 0.1, of=2000)
    assert counts == allocate(shapes, 200 / 900)
    assert sum(counts.values()) == 200
    assert allocate(shapes, 0.3, of=3000) == {"a": 600, "b": 300}
    with pytest.raises(
        ValueError, match=r"density 0\.31 keeps 930 of 3000 weights, but only 900.*at most 0\.3"
    ):
        allocate(shapes, 0.31, of=3000)
    with pytest.raises(ValueError, match=r"use at least 0\.001"):
        allocate(shapes, 0.0004, of=2000)

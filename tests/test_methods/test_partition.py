"""Partitions: disjoint, complete, in the network's order, and cut where they should be."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsepop.masks import prunable_names
from sparsepop.methods import Partition
from sparsepop.methods.partition import cuts, stages
from sparsepop.models import build


def shapes_of(model: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = build(model, (3, 32, 32), 1000 if model.startswith("imagenet") else 10)
    return {name: tuple(network.get_parameter(name).shape) for name in prunable_names(network)}


def sizes(groups: tuple[tuple[str, ...], ...], shapes: dict[str, tuple[int, ...]]) -> list[int]:
    return [sum(math.prod(shapes[name]) for name in group) for group in groups]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.data())
def test_cuts_are_the_best_of_all_cuts(weights: list[int], data: st.DataObject) -> None:
    parts = data.draw(st.integers(1, len(weights)))

    def merit(edges: tuple[int, ...]) -> tuple[int, int]:
        bounds = (0, *edges, len(weights))
        runs = [sum(weights[a:b]) for a, b in pairwise(bounds)]
        return max(runs), sum(run**2 for run in runs)

    best = min(merit(edges) for edges in combinations(range(1, len(weights)), parts - 1))
    found = cuts(tuple(weights), parts)
    assert len(found) == parts - 1
    assert merit(found) == best


@pytest.mark.parametrize("by", ["size", "count", "stage"])
@pytest.mark.parametrize("model", ["wrn-10-1", "resnet-20", "imagenet-resnet-50"])
def test_every_layer_is_in_one_group_in_order(model: str, by: str) -> None:
    shapes = shapes_of(model)
    groups = Partition(3, by).groups(shapes)
    assert [name for group in groups for name in group] == list(shapes)
    assert len(groups) == 3
    assert all(groups)


def test_the_four_stages_of_resnet_50() -> None:
    """The specification's sizes: 0.22, 1.2, 7.1 and 17.0 million weights; the largest holds 67%."""
    shapes = shapes_of("imagenet-resnet-50")
    groups = Partition(4, "stage").groups(shapes)
    millions = [size / 1e6 for size in sizes(groups, shapes)]
    assert millions == pytest.approx([0.22, 1.2, 7.1, 17.0], abs=0.03)
    assert max(millions) / sum(millions) == pytest.approx(0.67, abs=0.005)
    assert (groups[0][0], groups[-1][-1]) == ("conv1.weight", "fc.weight")
    balanced = sizes(Partition(4, "size").groups(shapes), shapes)
    assert max(balanced) / sum(balanced) < 0.26


def test_counts_are_even() -> None:
    shapes = shapes_of("resnet-20")
    assert [len(group) for group in Partition(4, "count").groups(shapes)] == [5, 5, 5, 5]
    assert sorted(len(group) for group in Partition(3, "count").groups(shapes)) == [6, 7, 7]


def test_one_layer_at_a_time_and_all_at_once() -> None:
    shapes = shapes_of("wrn-10-1")
    assert Partition(10).groups(shapes) == tuple((name,) for name in shapes)
    assert Partition(1).groups(shapes) == (tuple(shapes),)


def test_single_layers_join_a_stage() -> None:
    assert stages(["a", "b.0", "b.1", "c", "d.0", "d.1", "e", "f"]) == [
        ("a", "b.0", "b.1"),
        ("c", "d.0", "d.1", "e", "f"),
    ]
    assert stages(["a", "b"]) == []


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (Partition(4), "4 partitions are more than the 3 layers"),
        (Partition(2, "stage"), "the 0 stages of this network.*cut by size"),
    ],
)
def test_more_parts_than_there_are_pieces_is_refused(partition: Partition, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        partition.groups(shapes_of("lenet-300-100"))


@pytest.mark.parametrize(("parts", "by", "message"), [(0, "size", "parts=0"), (2, "depth", "'depth'")])
def test_partitions_that_cannot_be_are_refused(parts: int, by: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Partition(parts, by)

"""R_s, the share of weights that were ever alive (ITOP, Liu et al. 2021)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sparsepop.member import Member
from sparsepop.methods import DropGrow, Explored, Method, ShareWeights, Static
from sparsepop.recipe import Recipe
from sparsepop.schedule import Every
from tests.cases import BATCH, TASK, Toy, go
from tests.test_methods.small import assign, eight, push


def rates(*methods: Method, steps: int = 12) -> list[float]:
    recipe = Recipe("lenet-300-100", steps, (*methods, Explored()), batch=BATCH)
    member = Member.build(recipe, 0, TASK)
    return [recipe.methods[-1].measure(member)["explored"] for _ in go(member, Toy(), steps)]


def test_static_training_explores_its_mask_alone() -> None:
    assert set(rates(Static(0.1))) == {8860 / 88_600}


def test_all_is_explored_where_blocks_share_weights() -> None:
    recipe = Recipe("resnet-20-w4", 1, (ShareWeights(), Explored()), batch=BATCH)
    member = Member.build(recipe, 0, TASK)
    assert len({id(param) for param in member.masks.params.values()}) > 1
    assert sum(mask.numel() for mask in member.masks.tensors.values()) < member.masks.total
    assert recipe.methods[-1].measure(member) == {"explored": 1.0}


@pytest.mark.parametrize("grow", ["random", "gradient"])
def test_the_rate_rises_from_the_density_at_updates_only(grow: str) -> None:
    seen = rates(DropGrow(0.1, 0.5, Every(3), grow))
    assert seen[0] == 0.1
    assert seen == sorted(seen)
    assert seen[-1] <= 1.0
    # each update is taken in the step after 0, 3, 6 and 9
    assert [a < b for a, b in pairwise(seen)] == [True, False, False] * 4


def test_random_growth_covers_the_network_as_expected() -> None:
    """An untried weight escapes an update with probability 1 - k / (dead + k)."""
    total, fraction = 88_600, 0.5
    seen = rates(DropGrow(0.2, fraction, Every(1), "random", "uniform"))
    dead, k = 0.8 * total, fraction * 0.2 * total
    expected = [1 - 0.8 * (1 - k / (dead + k)) ** updates for updates in range(13)]
    assert seen == pytest.approx(expected, abs=0.005)


def test_a_weight_counts_once_however_often_it_lives() -> None:
    member = eight(DropGrow(0.25, 0.5, Every(1)), Explored())
    assign(member, [1.0, 2.0] + [0.0] * 6, [0, 1])
    explored = member.recipe.methods[1]
    member.memory.clear()
    explored.start(member)
    seen = []
    for grown in (4, 5, 4, 5):
        gradient = [0.0] * 8
        gradient[grown] = 1.0
        push(member, gradient)
        seen.append(explored.measure(member)["explored"] * 8)
    assert seen == [3, 4, 4, 4]

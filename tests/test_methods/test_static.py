"""Static masks: exact, random, and never touched again."""

from __future__ import annotations

import pytest
import torch

from sparsepop.budgets import allocate
from sparsepop.member import Member
from sparsepop.methods import Explored, Static
from sparsepop.recipe import Recipe
from tests.cases import STEPS, TASK, run


@pytest.mark.parametrize("distribution", ["uniform", "er", "erk"])
def test_each_layer_keeps_its_budget(distribution: str) -> None:
    member = Member.build(Recipe("wrn-10-1", STEPS, (Static(0.07, distribution),)), 0, TASK)
    assert member.masks.counts == allocate(member.masks.shapes, 0.07, distribution)


def test_masks_never_change_and_survivors_start_as_they_were_drawn() -> None:
    recipe = Recipe("lenet-300-100", STEPS, (Static(0.1), Explored()), batch=16)
    member, dense = Member.build(recipe, 0, TASK), Member.build(Recipe("lenet-300-100", STEPS), 0, TASK)
    for name, mask in member.masks.tensors.items():
        assert torch.equal(member.masks.params[name], dense.masks.params[name] * mask)
    before = member.masks.digest()
    run(member, STEPS)
    assert member.masks.digest() == before
    assert member.recipe.methods[1].measure(member) == {"explored": 8860 / 88_600}


def test_masks_depend_on_the_seed_alone() -> None:
    def digest(model: str, seed: int) -> str:
        return Member.build(Recipe(model, STEPS, (Static(0.1),)), seed, TASK).masks.digest()

    torch.manual_seed(1)
    first = digest("wrn-10-1", 3)
    torch.manual_seed(2)
    assert digest("wrn-10-1", 3) == first
    assert digest("wrn-10-1", 4) != first


@pytest.mark.parametrize(
    ("settings", "message"), [((1.5,), r"got 1\.5"), ((0.0,), r"got 0\.0"), ((0.5, "er2"), "'er2'")]
)
def test_settings_that_cannot_work_are_refused(settings: tuple[float, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Static(*settings)

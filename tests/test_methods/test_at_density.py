"""The accuracy that a cut would leave is the accuracy that a cut leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from sparsepop.member import Member
from sparsepop.methods import AtDensity, Cut, Halo, Method, NearZero, ShareWeights, Static, Thresholds
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.train import Report, train
from tests.cases import BATCH, TASK, Toy, run

RECIPE = Recipe("wrn-10-1", 12, (Halo(1e-5, 1e-3), AtDensity((0.02, 0.3, 1.0))), SGD(0.05), batch=BATCH)


class Many(Toy):
    """Enough validation images to tell cuts apart."""

    sizes: Mapping[str, int] = {**Toy.sizes, "validation": 500}


@pytest.mark.parametrize("scope", ["global", "erk"])
@pytest.mark.parametrize("density", [0.02, 0.3])
def test_it_is_what_the_cut_leaves(density: float, scope: str) -> None:
    foreseen = last_report(AtDensity((density,), scope))
    cut = last_report(Cut(density, 12, scope))
    assert foreseen.numbers[f"accuracy_at_{density:g}"] == cut.validation.accuracy
    assert foreseen.validation != cut.validation


def test_it_is_what_the_cut_leaves_of_what_thresholds_have_left() -> None:
    soft = Thresholds(0.02)
    foreseen = last_report(AtDensity((0.1,)), soft)
    cut = last_report(Cut(0.1, 12), soft)
    assert 0.1 < foreseen.density < 1.0
    assert foreseen.numbers["accuracy_at_0.1"] == cut.validation.accuracy
    assert foreseen.validation.accuracy != cut.validation.accuracy


@pytest.mark.parametrize("scope", ["global", "erk"])
def test_weights_that_repeat_others_are_not_ranked(scope: str) -> None:
    recipe = replace(RECIPE, model="residual-mlp")
    shared = (ShareWeights(), NearZero((0.05,)), Halo(1e-5, 1e-3))
    foreseen = last_report(AtDensity((0.1,), scope), *shared, recipe=recipe)
    cut = last_report(Cut(0.1, 12, scope), *shared, recipe=recipe)
    assert foreseen.numbers["accuracy_at_0.1"] == cut.validation.accuracy
    assert foreseen.validation.accuracy != cut.validation.accuracy
    assert 0.0 < foreseen.numbers["near_zero_0.05"] < foreseen.density < 1.0


def last_report(method: AtDensity | Cut, *before: Method, recipe: Recipe = RECIPE) -> Report:
    before = before or recipe.methods[:1]
    member = Member.build(replace(recipe, methods=(*before, method)), 1, TASK)
    (report,) = train(member, Many(), every=12)
    return report


def test_a_recipe_knows_which_numbers_speak_of_a_density() -> None:
    found = {name: RECIPE.density_of(name) for name in ("accuracy_at_0.3", "accuracy_at_1", "train_loss")}
    assert found == {"accuracy_at_0.3": 0.3, "accuracy_at_1": 1.0, "train_loss": None}


def test_nothing_of_the_member_changes() -> None:
    member = run(Member.build(RECIPE, 1, TASK), 3)
    before = {name: tensor.clone() for name, tensor in member.state()["model"].items()}
    strides = {name: tensor.stride() for name, tensor in before.items()}
    digest, version = member.masks.digest(), member.masks.version
    method = member.recipe.methods[1]
    numbers = method.examine(member, Many())
    after = member.state()["model"]
    assert list(numbers) == ["accuracy_at_0.02", "accuracy_at_0.3", "accuracy_at_1"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert {name: tensor.stride() for name, tensor in after.items()} == strides
    assert (member.masks.digest(), member.masks.version) == (digest, version)


def test_a_network_that_is_sparse_enough_is_taken_as_it_is() -> None:
    recipe = replace(RECIPE, methods=(Static(0.1), AtDensity((0.1, 0.5, 0.02))))
    *_, report = train(Member.build(recipe, 1, TASK), Many(), every=6)
    numbers = report.numbers
    assert numbers["accuracy_at_0.1"] == numbers["accuracy_at_0.5"] == report.validation.accuracy
    assert numbers["accuracy_at_0.02"] != report.validation.accuracy


def test_without_images_the_numbers_have_names_alone() -> None:
    member = Member.build(RECIPE, 1, TASK)
    numbers = member.recipe.methods[1].examine(member, None)
    assert list(numbers) == ["accuracy_at_0.02", "accuracy_at_0.3", "accuracy_at_1"]
    assert all(number != number for number in numbers.values())


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"density must lie in \(0, 1\], got 0"):
        AtDensity((0.5, 0.0))
    with pytest.raises(ValueError, match=r"unknown scope 'layer'.*global, uniform"):
        AtDensity((0.5,), "layer")

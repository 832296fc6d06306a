"""HALO's learning rates, as its scripts compute them."""

from __future__ import annotations

import pytest

from sparsepop.member import Member
from sparsepop.methods import Halo, halo_rates
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from tests.cases import BATCH, TASK


def rates(mode: str, *milestones: int) -> list[tuple[float, float]]:
    """The learning rates of weights and coefficients in each phase, as the optimizer gets them."""
    lr, factor = halo_rates(0.1, milestones, mode)
    recipe = Recipe("lenet-300-100", 200, (Halo(1e-8, 1e-8, lr_factor=factor),), SGD(lr), batch=BATCH)
    member = Member.build(recipe, 0, TASK)
    found = []
    for step in (0, *milestones):
        member.step = step
        member.set_learning_rate()
        groups = {id(p): group["lr"] for group in member.optimizer.param_groups for p in group["params"]}
        names = ("1.weight", "1.weight_coefficient")
        found.append(tuple(groups[id(member.model.get_parameter(name))] for name in names))
    return found


def scripts(shared: bool, drops: int) -> list[tuple[float, float]]:
    """The published code, replayed: one value that both of its optimizers' decays multiply and pass on."""
    value, seen = 0.1, [(0.1, 0.1)]
    for _ in range(drops):
        value *= 0.1
        for_weights = value
        value *= 0.1
        seen.append((for_weights if shared else value, value if shared else 0.1))
    return seen


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("clean", [(0.1, 0.1), (0.01, 0.01), (1e-3, 1e-3)]),
        ("cifar", [(0.1, 0.1), (0.01, 1e-3), (1e-4, 1e-5)]),
        ("mnist", [(0.1, 0.1), (1e-3, 0.1), (1e-5, 0.1)]),
    ],
)
def test_published_learning_rates(mode: str, expected: list[tuple[float, float]]) -> None:
    found = rates(mode, 80, 120)
    assert sum(found, ()) == pytest.approx(sum(expected, ()))
    assert rates(mode) == [(0.1, 0.1)]


@pytest.mark.parametrize("mode", ["cifar", "mnist"])
def test_more_drops_go_on_as_the_scripts_do(mode: str) -> None:
    assert sum(rates(mode, 50, 80, 120), ()) == pytest.approx(sum(scripts(mode == "cifar", 3), ()))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown mode 'reference'.*clean, cifar, mnist"):
        halo_rates(0.1, (), "reference")

"""The controller of a regulariser's coefficient: its law by hand, and that it gets there."""

from __future__ import annotations

import math

import pytest
import torch

from sparsepop.data import open_data
from sparsepop.member import Member, Task
from sparsepop.methods import Cut, Thresholds, Toward
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine
from sparsepop.train import train


def test_the_reference_falls_geometrically_and_stays() -> None:
    toward = Toward(0.01, 100)
    found = [toward.reference(step) for step in (0, 50, 100, 500)]
    assert found == pytest.approx([1.0, 0.1, 0.01, 0.01])


def test_the_coefficient_is_proportional_and_integral_in_logarithms() -> None:
    toward = Toward(0.1, 20, alpha=2e-3, gain=3.0)
    state = toward.first(torch.device("cpu"))
    assert toward.coefficient(state).item() == pytest.approx(2e-3)
    total = 0.0
    for step, density in ((1, 0.95), (2, 0.9), (19, 0.1), (40, 0.05)):
        toward.follow(state, torch.tensor(density), step)
        difference = math.log(density) - max(step / 20, 0.0) * math.log(0.1) if step < 20 else math.log(0.5)
        total += 3.0 * 10 / 20 * difference
        assert toward.coefficient(state).item() == pytest.approx(
            2e-3 * math.exp(3.0 * difference + total), rel=1e-4
        )


@pytest.mark.parametrize(("density", "factor"), [(1.0, 1e4), (0.0, 1e-4)])
def test_the_coefficient_stays_within_bounds_and_recovers(density: float, factor: float) -> None:
    toward = Toward(0.1, 10, alpha=1.0)
    state = toward.first(torch.device("cpu"))
    for _ in range(1000):
        toward.follow(state, torch.tensor(density), 10)
    assert toward.coefficient(state).item() == pytest.approx(factor, rel=1e-3)
    for _ in range(5):
        toward.follow(state, torch.tensor(0.3 if density < 0.1 else 0.03), 10)
    assert math.isfinite(toward.coefficient(state).item())
    assert (toward.coefficient(state) > 1) == (density < 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 5), r"density must lie in \(0, 1\]"),
        ((0.1, 0), "got end=0: use at least 1"),
        ((0.1, 5, 0.0), "alpha and gain must be positive, got alpha=0.0"),
        ((0.1, 5, 1e-3, -1.0), r"alpha and gain must be positive.*gain=-1.0"),
    ],
)
def test_bad_values_are_refused(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Toward(*arguments)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("granularity", "density", "alpha"),
    [
        *(("vector", density, alpha) for density, alpha in ((0.1, 5e-4), (0.02, 5e-4), (0.02, 5e-6))),
        *(("matrix", density, alpha) for density, alpha in ((0.1, 5e-4), (0.02, 5e-4), (0.02, 5e-6))),
        ("scalar", 0.1, 5e-4),
    ],
)
def test_the_density_is_met_whatever_the_first_coefficient(
    granularity: str, density: float, alpha: float
) -> None:
    data = open_data("digits")
    toward = Toward(density, 400, alpha)
    methods = (Thresholds(toward, granularity, floor=0.0), Cut(density, 600))
    recipe = Recipe("lenet-300-100", 800, methods, SGD(Cosine(0.1, 0.0, 800), weight_decay=5e-4), batch=64)
    *_, cut, last = train(Member.build(recipe, 0, Task(data.shape, data.classes)), data, every=200)
    (note,) = [note for note in cut.notes if note.kind == "cut"]
    assert note.numbers["found"] == pytest.approx(density, rel=0.35)
    assert last.alive == round(density * last.prunable)
    assert last.test is not None
    assert last.test.accuracy > 0.9

"""A soft method trains all weights: nothing beside it may set masks before they hold."""

from __future__ import annotations

import pytest

from sparsepop.methods import (
    Cut,
    DropGrow,
    Explored,
    GrowPrune,
    Halo,
    Lasso,
    Magnitude,
    Method,
    MinFanIn,
    Partition,
    PhaseDyReLU,
    Static,
    Thresholds,
    rigl,
)
from sparsepop.recipe import Recipe
from sparsepop.schedule import Every, Linear, Phases

STEPS = 12


def recipe(*methods: Method) -> Recipe:
    return Recipe("lenet-300-100", STEPS, methods, batch=8)


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (
            (Lasso(1e-4), *rigl(0.1, STEPS)),
            "DropGrow needs masks that hold at step 0, and Lasso only observes",
        ),
        (
            (*rigl(0.1, STEPS), Lasso(1e-4)),
            "before step 12: drop one, or Cut by step 0",
        ),
        ((Static(0.1), Halo(1e-5, 1e-3)), "Static needs"),
        ((Thresholds(0.1), Magnitude(0.1)), "Magnitude needs"),
        ((Thresholds(0.1), Cut(0.1, 8), GrowPrune(0.1, Partition(1), Phases(((9, 11),)))), "GrowPrune needs"),
        (
            (Lasso(1e-4), DropGrow(None, 0.3, Every(3, 6)), Cut(0.1, 7)),
            "DropGrow needs masks that hold at step 6",
        ),
    ],
)
def test_what_sets_masks_is_refused_while_they_are_observed(methods: tuple[Method, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recipe(*methods)


@pytest.mark.parametrize(
    "methods",
    [
        (Lasso(1e-4), Cut(0.1, 6), DropGrow(None, 0.3, Every(3, 6))),
        (Thresholds(0.1), Cut(0.1, 6), DropGrow(None, 0.3, Every(3, 6, 5))),
        (Thresholds(0.1), MinFanIn(2), Explored()),
        (PhaseDyReLU(Linear(1.0, 0.0, 6)), Thresholds(0.1), Lasso(1e-4)),
    ],
)
def test_what_waits_for_the_cut_is_welcome(methods: tuple[Method, ...]) -> None:
    assert recipe(*methods).methods == methods

"""The published baselines: timetables, annealing, and the order of GraNet's two halves."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from sparsepop.member import Member
from sparsepop.methods import (
    DropGrow,
    Explored,
    Magnitude,
    Method,
    Static,
    dense,
    gmp,
    granet,
    rigl,
    rigl_itop,
    sparse_evolution,
    static,
)
from sparsepop.methods import drop_grow as drop_grow_module
from sparsepop.recipe import Recipe
from sparsepop.schedule import as_schedule
from tests.cases import BATCH, TASK, run


def recipe_of(methods: tuple[Method, ...], steps: int = 40) -> Recipe:
    return Recipe("lenet-300-100", steps, methods, batch=BATCH)


def only(methods: tuple[Method, ...], kind: type[Method]) -> Any:
    (found,) = (method for method in methods if isinstance(method, kind))
    return found


def test_dense_and_static_are_what_they_say() -> None:
    assert dense() == ()
    assert static(0.3) == (Static(0.3, "erk"),)
    assert static(0.3, "uniform") == (Static(0.3, "uniform"),)


@pytest.mark.parametrize(("make", "grow"), [(rigl, "gradient"), (sparse_evolution, "random")])
def test_rigl_and_set_share_a_timetable(make: Any, grow: str) -> None:
    """Evci et al. 2020: 0.3 at first, every 100 steps, a cosine down to 0 at three quarters of the run."""
    method = only(make(0.1, 32_000), DropGrow)
    fraction = as_schedule(method.fraction)
    assert (method.grow, method.density, method.every.interval) == (grow, 0.1, 100)
    assert [fraction(step) for step in (0, 12_000, 24_000, 31_000)] == pytest.approx([0.3, 0.15, 0, 0])
    due = [step for step in range(32_000) if method.every(step)]
    assert (due[0], due[-1], len(due)) == (0, 24_000, 24_000 // 100 + 1)


def test_rigl_itop_explores_to_the_end() -> None:
    """Liu et al. 2021: every 4000 steps, 0.5 down to 0.005 over the whole run."""
    methods = rigl_itop(0.1, 88_000)
    method = only(methods, DropGrow)
    fraction = as_schedule(method.fraction)
    assert [fraction(step) for step in (0, 44_000, 88_000)] == pytest.approx([0.5, 0.2525, 0.005])
    # the paper's code has one more update after the last step, whose weights would never be trained
    assert [step for step in range(88_000) if method.every(step)] == list(range(4000, 88_000, 4000))
    assert isinstance(methods[-1], Explored)


def test_intervals_are_shares_of_the_run() -> None:
    """22 updates in RigL-ITOP's 250 epochs of 352 steps, one for each 1000 steps in GraNet's 160."""

    def updates(methods: tuple[Method, ...], steps: int) -> int:
        return sum(only(methods, DropGrow).every(step) for step in range(1, steps + 1))

    for steps in (220, 1000, 88_000):
        assert updates(rigl_itop(0.1, steps), steps) == 22
    for steps in (2816, 56_320):
        assert updates(granet(0.1, steps), steps) == 56
    assert only(rigl_itop(0.1, 1000, interval=7), DropGrow).every.interval == 7
    assert only(granet(0.1, 1000, interval=7), Magnitude).every.interval == 7


def test_gmp_starts_dense_and_ends_at_its_density() -> None:
    recipe = recipe_of(gmp(0.1, 40, interval=4, begin=0.2, end=0.6))
    # 16 steps of a cubic from step 8 to step 24
    assert [recipe.density_at(step) for step in (0, 8, 16, 24, 40)] == pytest.approx(
        [1.0, 1.0, 0.1 + 0.9 / 8, 0.1, 0.1]
    )


# --- GraNet (Liu et al. 2021)


def log_of(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, dict[str, int]]]:
    """What changed masks: which half, at which step, and the counts by layer afterwards."""
    member, log = Member.build(recipe, 0, TASK), []
    pruning = only(recipe.methods, Magnitude)
    plain = member.masks.set
    halves = {"prune": pruning, "regrow": only(recipe.methods, DropGrow)}
    assert list(halves.values()) == [m for m in recipe.methods if not isinstance(m, Static)]
    inside: list[str] = []

    def spied(*args: Any) -> None:
        plain(*args)
        log.append((inside[-1], member.step, dict(member.masks.counts)))

    def around(hook: Any, half: str) -> Any:
        def wrapped(method: Method, member: Member) -> None:
            inside.append(half)
            hook(method, member)
            inside.pop()

        return wrapped

    monkeypatch.setattr(member.masks, "set", spied)
    monkeypatch.setattr(Magnitude, "after_step", around(Magnitude.after_step, "prune"))
    monkeypatch.setattr(DropGrow, "after_backward", around(DropGrow.after_backward, "regrow"))
    run(member, recipe.steps)
    return log


@pytest.mark.parametrize("initial", [1.0, 0.5])
def test_granet_prunes_then_regrows_with_the_same_counts(
    initial: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(recipe_of(granet(0.1, 40, initial=initial, interval=5)), monkeypatch)
    # pruning ends half way, regrowing goes on
    pruned = [(half, step) for step in (5, 10, 15, 20) for half in ("prune", "regrow")]
    assert [entry[:2] for entry in log] == [*pruned, *(("regrow", step) for step in (25, 30, 35))]
    for (_, _, before), (half, _, after) in pairwise(log):
        assert (after == before) == (half == "regrow")
    alive = [sum(counts.values()) for half, _, counts in log if half == "prune"]
    cubic = [0.1 + (initial - 0.1) * left**3 for left in (3 / 4, 1 / 2, 1 / 4, 0)]
    assert alive == [round(density * 88_600) for density in cubic]


def test_granets_regrowing_replaces_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    fractions = []
    plain = drop_grow_module.drop_and_grow

    def spied(
        weight: Any, mask: Any, score: Any, alive: int, target: int, fraction: float, *, up: bool
    ) -> Any:
        new = plain(weight, mask, score, alive, target, fraction, up=up)
        assert up
        asked = math.ceil(fraction * alive)
        fractions.append((int((mask & ~new).sum()), asked, len(mask.flatten()) - alive))
        return new

    monkeypatch.setattr(drop_grow_module, "drop_and_grow", spied)
    run(Member.build(recipe_of(granet(0.1, 40, interval=5)), 0, TASK), 40)
    assert len(fractions) >= 7 * 2
    assert all(gone <= min(asked, room) for gone, asked, room in fractions)
    assert sum(gone for gone, *_ in fractions) > 0


def test_granet_sparse_to_sparse_starts_from_random_masks() -> None:
    assert granet(0.1, 40, initial=0.5)[0] == Static(0.5, "erk")
    assert not any(isinstance(method, Static) for method in granet(0.1, 40))
    assert recipe_of(granet(0.1, 40, initial=0.5, interval=5)).density_at(0) == 0.5


def test_granet_anneals_its_regrowing_over_all_steps() -> None:
    fraction = as_schedule(only(granet(0.1, 40), DropGrow).fraction)
    assert [fraction(step) for step in (0, 20, 40)] == pytest.approx([0.5, 0.2525, 0.005])

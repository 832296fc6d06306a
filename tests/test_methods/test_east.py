"""EAST put together: exact counts, the timetable, and each part switchable (Li et al. 2025)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepop.config import load
from sparsepop.data import open_data
from sparsepop.member import Member, Task
from sparsepop.methods import (
    DropGrow,
    GradientFlow,
    Method,
    PhaseDyReLU,
    Reachable,
    ShareWeights,
    east,
    rigl_itop,
)
from sparsepop.models import build
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cyclic, as_schedule, last_change
from sparsepop.train import train
from tests.cases import BATCH, TASK, Toy, go, run

ROOT = Path(__file__).parents[2]
PARTS: dict[str, dict[str, Any]] = {
    "none": {"dyrelu": False, "ratio": None, "cycles": 0},
    "dyrelu": {"ratio": None, "cycles": 0},
    "sharing": {"dyrelu": False, "cycles": 0},
    "cycles": {"dyrelu": False, "ratio": None},
    "all": {},
}
SMALL: dict[str, Any] = {"cyclic_interval": 2, "interval": 4}


def recipe(model: str = "resnet-32-w4", steps: int = 20, **settings: Any) -> Recipe:
    return Recipe(model, steps, east(0.05, steps, **{**SMALL, **settings}), batch=BATCH)


def only(methods: tuple[Method, ...], kind: type[Method]) -> Any:
    return next(method for method in methods if isinstance(method, kind))


@pytest.mark.parametrize(
    ("density", "alive"), [(0.01, 212_651), (0.001, 21_265), (0.0005, 10_633), (0.0001, 2_127)]
)
def test_the_papers_counts_on_resnet_34(density: float, alive: int) -> None:
    """Shared weights count once, their number is a share of the full network's 21,265,088; budgets alone, for
    a real network of this size takes seconds to build.
    """
    sharing, *_, cycling, _, _, _, _ = east(density, 1000)
    recipe = Recipe("resnet-34", 1000, (sharing,))
    with torch.device("meta"):
        member = Member(
            recipe, 0, Task((3, 8, 8), 10), build("resnet-34", (3, 8, 8), 10), torch.device("meta")
        )
    assert isinstance(cycling, DropGrow)
    assert member.masks.total == 21_265_088
    assert sum(p.numel() for p in member.masks.params.values()) == 11_164_352
    counts = member.masks.allocate(as_schedule(cycling.density or 0)(0))
    assert sum(counts.values()) == alive == round(density * 21_265_088)
    assert min(counts.values()) >= 1
    assert sum(member.masks.allocate(3 * density).values()) == round(3 * density * 21_265_088)


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_every_part_keeps_the_count_at_the_start_at_ends_of_cycles_and_at_the_end(
    parts: dict[str, Any],
) -> None:
    living = Member.build(recipe(**parts), 1, TASK)
    target = round(0.05 * living.masks.total)
    alive = [living.masks.alive for _ in go(living, Toy(), 20)]
    assert [alive[step] for step in (0, 4, 8, 20)] == [target] * 4
    assert set(alive[8:]) == {target}
    assert max(alive) == (round(0.15 * living.masks.total) if parts.get("cycles", 2) else target)
    living.recipe.methods[0].finish(living, Toy())
    assert living.masks.alive == target


def test_without_its_parts_it_is_rigl_itop_bit_for_bit() -> None:
    theirs = Recipe("resnet-32-w4", 12, rigl_itop(0.05, 12, interval=4), batch=BATCH)
    plain = run(Member.build(theirs, 1, TASK), 12)
    bare = replace(theirs, methods=east(0.05, 12, interval=4, **PARTS["none"]))
    apart = replace(theirs, methods=east(0.05, 12, interval=4, dyrelu=False, ratio=99, cycles=0))
    for each in (bare, apart):
        mine = run(Member.build(each, 1, TASK), 12)
        assert mine.masks.digest() == plain.masks.digest()
        pairs = zip(mine.model.state_dict().items(), plain.model.state_dict().items(), strict=True)
        assert all(one == other and torch.equal(a, b) for (one, a), (other, b) in pairs)


def test_the_papers_timetable() -> None:
    """250 epochs: two cycles of 50 up to three times the density, updates every 100 steps, then RigL-ITOP."""
    epoch = 352
    sharing, phase, cycling, exploring, *_ = east(0.001, 250 * epoch)
    assert isinstance(cycling, DropGrow)
    assert isinstance(exploring, DropGrow)
    assert sharing == ShareWeights(2)
    assert isinstance(phase, PhaseDyReLU)
    assert cycling.density == Cyclic(0.001, 50 * epoch, 2, 3.0)
    cyclic_end = last_change(as_schedule(cycling.density))
    assert cyclic_end == 100 * epoch
    due = [step for step in range(250 * epoch) if cycling.every(step)]
    assert due == list(range(100, 100 * epoch, 100))
    due = [step for step in range(250 * epoch) if exploring.every(step)]
    assert due == list(range(36_000, 250 * epoch, 4000))
    assert (cycling.fraction, exploring.density) == (0.0, None)
    fraction = as_schedule(exploring.fraction)
    assert [fraction(step) for step in (0, 125 * epoch, 250 * epoch)] == pytest.approx([0.5, 0.2525, 0.005])


@pytest.mark.parametrize("steps", [250, 1000, 88_000])
def test_the_timetable_is_scaled_to_the_run(steps: int) -> None:
    """13 updates of RigL after the cycles, or one more; 0.11% of the run between two of the cycles'."""
    cycling, exploring = (method for method in east(0.01, steps) if isinstance(method, DropGrow))
    assert sum(exploring.every(step) for step in range(steps)) in (13, 14)
    assert cycling.every.interval == max(1, round(steps / 880))
    own = [m for m in east(0.01, steps, interval=7, cyclic_interval=3) if isinstance(m, DropGrow)]
    assert [method.every.interval for method in own] == [3, 7]


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_masks_change_as_often_as_the_timetable_says(
    parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    living, steps = Member.build(recipe(**parts), 1, TASK), []
    plain = living.masks.set

    def spied(*args: Any) -> None:
        steps.append(living.step)
        plain(*args)

    monkeypatch.setattr(living.masks, "set", spied)
    run(living, 20)
    cyclic = [2, 4, 4, 6, 8]  # at 2 and 6 the peaks; the cycle's end at 4 is exact before its update is due
    assert steps == ([*cyclic, 12, 16] if parts.get("cycles", 2) else [4, 8, 12, 16])


def test_cycles_try_many_more_weights_than_they_keep() -> None:
    living = Member.build(recipe(), 1, TASK)
    *_, last = train(living, Toy(), every=10)
    assert last.numbers["explored"] > 2.5 * last.density
    assert last.numbers["classes_reached"] == 10
    assert last.numbers["executed"] > last.alive
    assert {f"gradient_{stage}" for stage in ("conv1", "layer1", "layer2", "layer3", "fc")} < set(
        last.numbers
    )


def test_every_row_tells_all_learnables() -> None:
    during, after, last = train(Member.build(recipe(), 1, TASK), Toy(), every=8)
    assert set(during.learnables) == {"norm", "bias", "gain", "dyrelu"}
    assert set(after.learnables) == set(last.learnables) == {"norm", "bias", "gain"}
    assert during.alive == after.alive == last.alive
    assert during.dense_flops > after.dense_flops == last.dense_flops
    assert [note.kind for report in (during, after, last) for note in report.notes] == ["phase"]


def test_its_watchers_stand_at_the_end() -> None:
    assert east(0.1, 100)[-2:] == (GradientFlow(), Reachable())
    assert only(east(0.1, 100, shape="triangular"), DropGrow).density.shape == "triangular"


@pytest.mark.parametrize("name", ["east", "east_ablation"])
@pytest.mark.parametrize("smoke", [False, True])
def test_its_configs_describe_members_that_meet_at_one_density(name: str, smoke: bool) -> None:
    experiment = load(str(ROOT / "tune_configs" / f"{name}.py"), smoke=smoke)
    recipes = [experiment.recipe(dict(start.hp)) for start in experiment.starts()]
    for start in range(experiment.generation, recipes[0].steps + 1, experiment.generation):
        assert name != "east" or {each.density_at(start) for each in recipes} == {0.01}
    assert {each.density for each in recipes} == {0.01}
    assert len({tuple(map(type, each.methods)) for each in recipes}) == (1 if name == "east" else 9)
    assert {recipe.steps % experiment.generation for recipe in recipes} == {0}


def test_its_published_setting_is_what_is_published() -> None:
    """Rates fall tenfold at epochs 125 and 187 of 250; masks change on the published timetable."""
    experiment = load(str(ROOT / "tune_configs" / "east.py"), settings={"pbt": False})
    (found,) = {experiment.recipe(dict(start.hp)) for start in experiment.starts()}
    assert found.methods == east(0.01, 1200)
    rate = as_schedule(found.optimizer.lr)
    rates = [rate(step) for step in (0, 599, 600, 896, 897, 1199)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_a_member_of_its_population_takes_over_anothers_state() -> None:
    experiment = load(str(ROOT / "tune_configs" / "east.py"), smoke=True)
    donor, receiver = (experiment.recipe(dict(start.hp)) for start in experiment.starts()[:2])
    assert donor != receiver
    task = Task((1, 8, 8), 10)
    data, member = open_data("digits"), Member.build(donor, 1, task)
    # in the phase of its units, within a cycle
    list(train(member, data, every=10, until=10))
    assert member.masks.density > donor.density
    taken = Member.restore(receiver, 2, task, member.state())
    state = taken.state()
    assert any(name.endswith(".squeeze.weight") for name in state["model"])
    assert all(torch.equal(value, state["model"][key]) for key, value in member.state()["model"].items())
    *_, last = train(taken, data, every=receiver.steps)
    assert last.alive == round(receiver.density * last.prunable)

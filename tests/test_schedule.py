"""Schedules as pure functions of the step: end points, shapes, and what they refuse."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepop.recipe import Recipe
from sparsepop.schedule import (
    Constant,
    Cosine,
    Cubic,
    Cyclic,
    Every,
    Linear,
    Milestones,
    Phases,
    Ramp,
    Restarts,
    TwoPhases,
    Warmup,
    as_schedule,
    last_change,
    lows,
    peaks,
)

values = st.floats(-10, 10)
ramps = st.builds(
    lambda start, final, begin, length, shape: Ramp(start, final, begin + length, begin, shape),
    values,
    values,
    st.integers(0, 50),
    st.integers(1, 50),
    st.sampled_from(["linear", "cosine", "cubic"]),
)


@given(ramps)
def test_a_ramp_is_flat_outside_and_monotone_between_its_ends(ramp: Ramp) -> None:
    assert {ramp(step) for step in (0, ramp.begin)} == {ramp.start}
    assert {ramp(step) for step in (ramp.end, ramp.end + 1, 10 * ramp.end)} == {ramp.final}
    way = [ramp(step) for step in range(ramp.begin, ramp.end + 1)]
    falling = ramp.final <= ramp.start
    slack = 1e-12 * max(abs(ramp.start), abs(ramp.final))
    assert all((a + slack >= b) if falling else (a - slack <= b) for a, b in pairwise(way))
    assert last_change(ramp) == ramp.end


@pytest.mark.parametrize(
    ("ramp", "quarter", "half"),
    [
        (Linear(1.0, 0.2, 108, 100), 0.8, 0.6),
        (Cosine(1.0, 0.2, 108, 100), 0.2 + 0.4 * (1 + math.sqrt(0.5)), 0.6),
        (Cubic(1.0, 0.2, 108, 100), 0.2 + 0.8 * 27 / 64, 0.2 + 0.8 / 8),
        (Cosine(0.3, 0.0, 108, 100), 0.15 * (1 + math.sqrt(0.5)), 0.15),
        (Cosine(0.5, 0.005, 108, 100), 0.005 + 0.2475 * (1 + math.sqrt(0.5)), 0.2525),
    ],
)
def test_ramps_pass_through_their_published_values(ramp: Ramp, quarter: float, half: float) -> None:
    assert ramp(102) == pytest.approx(quarter)
    assert ramp(104) == pytest.approx(half)


def test_a_ramp_of_no_length_jumps() -> None:
    jump = Linear(1.0, 0.5, 10, 10)
    assert (jump(9), jump(10), jump(11)) == (1.0, 0.5, 0.5)


cycles = st.builds(
    Cyclic,
    st.floats(0.001, 0.3),
    st.integers(2, 40),
    st.integers(1, 4),
    st.floats(1, 5),
    st.integers(0, 20),
    st.sampled_from(["cosine", "triangular"]),
)


@given(cycles)
def test_a_cycle_touches_both_extremes_and_is_monotone_between_them(cyclic: Cyclic) -> None:
    high = cyclic.low * cyclic.peak
    assert [cyclic(step) for step in cyclic.peaks] == pytest.approx([high] * cyclic.cycles)
    assert {cyclic(step) for step in (0, cyclic.begin, *cyclic.lows, cyclic.end + 9)} == {cyclic.low}
    assert last_change(cyclic) == cyclic.lows[-1] == cyclic.begin + cyclic.cycles * cyclic.length
    turns = sorted((cyclic.begin, *cyclic.peaks, *cyclic.lows))
    for index, (a, b) in enumerate(pairwise(turns)):
        way = [cyclic(step) for step in range(a, b + 1)]
        assert way == sorted(way, reverse=index % 2 == 1)
    assert (peaks(cyclic), lows(cyclic)) == (cyclic.peaks, cyclic.lows)


def test_cycles_in_closed_form() -> None:
    """d(p) = d + (m d - d) (1 - cos 2 pi p) / 2 and 1 - |2p - 1| (EAST, Li et al. 2025)."""
    for step in range(200):
        p = step % 100 / 100
        cosine, triangular = (1 - math.cos(2 * math.pi * p)) / 2, 1 - abs(2 * p - 1)
        assert Cyclic(0.01, 100)(step) == pytest.approx(0.01 + 0.02 * cosine)
        assert Cyclic(0.01, 100, shape="triangular")(step) == pytest.approx(0.01 + 0.02 * triangular)


def test_easts_cycles_peak_in_epochs_25_and_75_and_end_after_100() -> None:
    per_epoch = 352
    cyclic = Cyclic(0.001, 50 * per_epoch, 2)
    assert [step / per_epoch for step in cyclic.peaks] == [25, 75]
    assert [step / per_epoch for step in cyclic.lows] == [50, 100]


def test_where_other_schedules_must_be_exact() -> None:
    assert (peaks(Linear(1.0, 0.1, 9)), lows(Linear(1.0, 0.1, 9))) == ((), (9,))
    assert (peaks(Constant(1.0)), lows(Constant(1.0))) == ((), (0,))


def test_milestones_multiply_from_their_step_on() -> None:
    schedule = Milestones(0.1, (10, 20))
    assert [schedule(step) for step in (0, 9, 10, 19, 20, 99)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )
    assert (schedule.end, Milestones(0.1, ()).end) == (20, 0)


def test_warmup_moves_at_step_0_and_ends_at_full_height() -> None:
    schedule = Warmup(Constant(2.0), 4)
    assert [schedule(step) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert last_change(schedule) == 4
    assert last_change(Warmup(Cosine(1.0, 0.0, 30), 4)) == 30


@given(st.integers(1, 9), st.integers(0, 30), st.one_of(st.none(), st.integers(0, 60)))
def test_every_is_due_where_counting_says(interval: int, begin: int, end: int | None) -> None:
    every = Every(interval, begin, end)
    due = [step for step in range(begin, 100, interval) if end is None or step <= end]
    assert [step for step in range(100) if every(step)] == due
    for step in range(101):
        assert every.last_before(step) == max((d for d in due if d < step), default=None)


@pytest.mark.parametrize(("interval", "end"), [(100, 25_000), (7, 100), (3, 2)])
def test_rigl_has_an_update_at_step_0_and_one_per_interval_up_to_the_end(interval: int, end: int) -> None:
    assert sum(Every(interval, end=end)(step) for step in range(end + 500)) == end // interval + 1


def test_restarts_begin_again_and_end_in_their_last_schedule() -> None:
    schedule = Restarts(Linear(1.0, 0.0, 4), 4, 2, Warmup(Constant(5.0), 2))
    assert [schedule(step) for step in range(11)] == [1, 0.75, 0.5, 0.25] * 2 + [2.5, 5, 5]
    assert schedule.end == 10
    nested = Restarts(Constant(9.0), 3, 1, schedule)
    assert [nested(step) for step in range(14)] == [9.0] * 3 + [schedule(step) for step in range(11)]
    assert nested.end == 13


@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 6), st.integers(0, 50))
def test_regular_phases_are_where_counting_says(length: int, count: int, begin: int, step: int) -> None:
    phases = Phases.regular(length, count, begin)
    number, place = divmod(step - begin, length)
    inside = 0 <= number < count
    assert phases.beginning(step) == (number if inside and place == 0 else None)
    assert phases.within(step) == (inside and place > 0)
    assert phases.ending(step) == (1 <= number <= count and place == 0)
    assert phases.end == (begin + count * length if count else 0)


def test_a_number_is_a_constant_schedule_and_a_schedule_is_itself() -> None:
    assert as_schedule(3) == Constant(3.0)
    ramp = Linear(0.0, 1.0, 5)
    assert as_schedule(ramp) is ramp
    assert last_change(Constant(1.0)) == 0
    assert last_change(lambda step: 0.0) == 0


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(1.0),
        Cubic(1.0, 0.1, 9, 3),
        Milestones(1.0, (2, 4)),
        Warmup(Cosine(1.0, 0.0, 9), 2),
        Cyclic(0.1, 9),
        Every(3, 1),
        Restarts(Constant(1.0), 3, 2, Cosine(1.0, 0.0, 9)),
        Phases.regular(2, 3),
    ],
)
def test_schedules_are_values(schedule: object) -> None:
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert len({schedule, pickle.loads(pickle.dumps(schedule))}) == 1
    with pytest.raises(AttributeError):
        schedule.end = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(1.0, 0.0, 5, 6), "begin=6 and end=5"),
        (lambda: Linear(1.0, 0.0, 5, -1), "begin=-1"),
        (lambda: Ramp(1.0, 0.0, 5, 0, "square"), r"'square'.*linear, cosine, cubic"),
        (lambda: Milestones(1.0, (4, 2)), r"\(4, 2\)"),
        (lambda: Warmup(Constant(1.0), 0), "got 0"),
        (lambda: Cyclic(0.1, 1), "length=1"),
        (lambda: Cyclic(0.1, 9, 0), "cycles=0"),
        (lambda: Cyclic(0.1, 9, peak=0.5), "at least 1, got 0.5"),
        (lambda: Cyclic(0.1, 9, shape="square"), r"'square'.*cosine, triangular"),
        (lambda: Every(0), "got 0"),
        (lambda: Restarts(Constant(1.0), 0, 2, Constant(1.0)), "every=0 and count=2"),
        (lambda: Phases(((0, 2), (1, 3))), r"\(1, 3\)"),
        (lambda: Phases(((2, 2),)), r"\(2, 2\)"),
        (lambda: Phases(((-1, 2),)), r"\(-1, 2\)"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(1.0, 0.1, 10.5),  # type: ignore[arg-type]
        lambda: Cosine(1.0, 0.1, 10, 0.5),  # type: ignore[arg-type]
        lambda: Milestones(1.0, (2, 3.5)),  # type: ignore[arg-type]
        lambda: Warmup(Constant(1.0), 2.0),  # type: ignore[arg-type]
        lambda: Restarts(Constant(1.0), 2.5, 2, Constant(1.0)),  # type: ignore[arg-type]
        lambda: Phases(((0, 2.5),)),  # type: ignore[arg-type]
        lambda: Cyclic(0.1, 9.0),  # type: ignore[arg-type]
        lambda: Every(2.5),  # type: ignore[arg-type]
        lambda: TwoPhases(2, 2.5, 1),  # type: ignore[arg-type]
        lambda: Recipe("lenet-300-100", 20.5),  # type: ignore[arg-type]
        lambda: Recipe("lenet-300-100", 20, batch=True),
    ],
)
def test_steps_are_whole_numbers(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="whole numbers: round it"):
        make()

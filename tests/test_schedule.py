"""Schedules as pure functions of the step: end points, shapes, and what they refuse."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepop.schedule import (
    Constant,
    Cosine,
    Cubic,
    Every,
    Linear,
    Milestones,
    Phases,
    Ramp,
    Restarts,
    Warmup,
    as_schedule,
    last_change,
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

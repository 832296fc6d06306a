"""Two-phase runs: how steps are split, and the triangular learning rate of the second phase."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepop.schedule import Milestones, Triangular, TwoPhases, split

PHASES = TwoPhases(before=20, length=8, cycles=3)
RATE = Triangular(0.001, 0.005, PHASES, Milestones(0.1, (10, 15)))


@pytest.mark.parametrize(
    ("total", "share", "length", "before", "cycles"),
    [
        (250, 0.1, 8, 226, 3),  # the paper's CIFAR command
        (250, 0.2, 8, 202, 6),
        (100, 0.08, 2, 92, 4),  # its ImageNet run
        (100, 0.29, 29, 71, 1),  # 100 * 0.29 is 28.999999999999996 in binary
        (100, 0.0, 8, 100, 0),
    ],
)
def test_the_split(total: int, share: float, length: int, before: int, cycles: int) -> None:
    phases = split(total, share, length)
    assert (phases.before, phases.length, phases.cycles) == (before, length, cycles)
    assert phases.end == total


def test_no_room_for_a_cycle_is_said() -> None:
    with pytest.warns(UserWarning, match=r"no cycle of 8 fits into 0\.05 of 100"):
        assert split(100, 0.05, 8) == TwoPhases(100, 8, 0)


@given(st.integers(1, 10_000), st.integers(0, 99), st.integers(2, 500))
def test_the_split_keeps_the_total_and_its_share(total: int, percent: int, length: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phases = split(total, percent / 100, length)
    assert phases.before + phases.cycles * length == total
    assert 100 * phases.cycles * length <= percent * total < 100 * (phases.cycles + 1) * length


def test_cycles_start_and_end_where_they_should() -> None:
    assert [step for step in range(60) if PHASES.starts(step)] == [20, 28, 36]
    assert [step for step in range(60) if PHASES.ends(step)] == [20, 28, 36, 44]
    none = TwoPhases(20, 8, 0)
    assert [step for step in range(60) if none.starts(step)] == []
    assert [step for step in range(60) if none.ends(step)] == [20]


def test_the_rate_is_low_at_both_ends_of_a_cycle_and_high_in_its_middle() -> None:
    assert RATE.at(1e-15) == pytest.approx(0.001, abs=1e-12)
    assert RATE.at(1.0) == 0.001
    assert RATE.at(0.5) == 0.005
    assert [RATE(step) for step in (27, 35, 43)] == [0.001] * 3
    assert [RATE(step) for step in (23, 31, 39)] == [0.005] * 3
    assert max(RATE(step) for step in range(20, 60)) == 0.005


def test_the_rate_is_the_published_formula() -> None:
    """Yin et al. 2022, released code: u = (epoch mod C + it / its) / C, its counted from 1."""
    low, high = 0.001, 0.005
    for step in range(20, 44):
        u = ((step - 20) % 8 + 1) / 8
        wanted = low * (1 - 2 * u) + high * 2 * u if u < 0.5 else low * (2 * u - 1) + high * (2 - 2 * u)
        assert RATE(step) == pytest.approx(wanted, abs=1e-15)


def test_the_rate_is_continuous_across_cycles() -> None:
    slope = 2 * (0.005 - 0.001) / 8
    steps = [abs(RATE(step + 1) - RATE(step)) for step in range(20, 43)]
    assert steps == pytest.approx([slope] * 23)


def test_before_and_after_the_cycles() -> None:
    assert [RATE(step) for step in (0, 9, 10, 15, 19)] == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])
    assert RATE(44) == RATE(1000) == 0.001
    assert RATE.end == 44
    assert Triangular(0.0, 0.0, PHASES, 0.1)(30) == 0.0


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Triangular(0.005, 0.001, PHASES, 0.1), r"lr_low=0\.005 and lr_high=0\.001"),
        (lambda: Triangular(-1e-3, 0.001, PHASES, 0.1), r"lr_low=-0\.001"),
        (lambda: TwoPhases(0, 8, 3), "before=0"),
        (lambda: TwoPhases(10, 1, 3), "length=1"),
        (lambda: TwoPhases(10, 8, -1), "cycles=-1"),
        (lambda: split(100, 1.0, 8), r"share=1\.0"),
        (lambda: split(100, 0.5, 1), "length=1"),
    ],
)
def test_what_cannot_be_is_refused(make: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()  # type: ignore[operator]

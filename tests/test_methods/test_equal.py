"""The length of a control at an equal budget, against sums written out by hand."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepop.methods import (
    GrowPrune,
    Partition,
    acdc,
    dense,
    gap,
    gmp,
    one_shot,
    rigl,
    static,
    steps_to_spend,
    weight_steps,
)
from sparsepop.methods.equal import promised_density
from sparsepop.schedule import Phases


def test_a_tenth_of_the_weights_trains_ten_times_as_long() -> None:
    assert steps_to_spend(400, lambda steps: static(0.1)) == 4000
    assert steps_to_spend(400, partial(rigl, 0.1)) == 4000


def test_dense_training_is_as_long_as_its_budget() -> None:
    assert steps_to_spend(123, lambda steps: dense()) == 123


def test_one_shot_is_dense_until_it_fine_tunes() -> None:
    steps = steps_to_spend(1000, partial(one_shot, 0.02, fine_tune=0.25))
    assert steps * (0.75 + 0.25 * 0.02) == pytest.approx(1000, abs=1)


def test_a_density_that_falls_is_summed_over_its_timetable() -> None:
    # the first three quarters follow 1 - 0.9 (1 - (1 - t)^3), whose mean is 1 - 0.9 x 3/4
    steps = steps_to_spend(10_000, partial(gmp, 0.1, interval=1))
    assert steps * (0.75 * (1 - 0.9 * 0.75) + 0.25 * 0.1) == pytest.approx(10_000, rel=0.001)


@given(budget=st.integers(200, 3000), density=st.sampled_from([0.5, 0.1, 0.01]))
def test_what_is_spent_is_within_a_hundredth_of_the_budget(budget: int, density: float) -> None:
    for methods in (partial(gmp, density), partial(acdc, density), partial(one_shot, density)):
        steps = steps_to_spend(budget, methods)
        assert weight_steps(methods(steps), steps) == pytest.approx(budget, rel=0.01, abs=3)


@pytest.mark.parametrize(
    ("steps", "length", "phases"), [(50, 10, 4), (70, 10, 6), (77, 11, 5), (200, 10, 17)]
)
def test_in_a_phase_of_gap_one_of_equal_partitions_is_dense(steps: int, length: int, phases: int) -> None:
    """As many whole phases as there is room for before the fine-tuning, rounded as the method rounds."""
    methods = gap(0.04, steps, parts=3, length=length)
    assert weight_steps(methods, steps) == pytest.approx(0.04 * steps + 0.96 / 3 * phases * length)


def test_a_single_partition_is_dense_from_the_first_step_of_each_phase() -> None:
    methods = acdc(0.1, 100)
    method = methods[0]
    assert isinstance(method, GrowPrune)
    dense_steps = sum(end - begin for begin, end in method.phases.spans)
    assert weight_steps(methods, 100) == pytest.approx(dense_steps + 0.1 * (100 - dense_steps))


def test_what_grows_in_part_counts_in_part() -> None:
    method = GrowPrune(0.1, Partition(1), Phases.regular(10, 5), grown=0.3)
    assert weight_steps((method,), 100) == pytest.approx(0.3 * 50 + 0.1 * 50)


def test_less_than_one_dense_step_is_no_budget() -> None:
    with pytest.raises(ValueError, match=r"budget of 0\.5 weight-steps"):
        steps_to_spend(0.5, partial(rigl, 0.1))


def test_the_last_promise_counts_and_dense_networks_make_none() -> None:
    assert promised_density((), 3) is None
    assert promised_density((*static(0.5), *static(0.2)), 3) == 0.2

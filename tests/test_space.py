"""Domains of hyperparameters: always inside, drawn as they say, and a perturbation moves."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from enum import Enum
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepop.space import Choice, Domain, Integers, LogUniform, Uniform, freeze, mutate, sample, stable_rng

FACTORS = st.lists(st.floats(0.1, 0.95) | st.floats(1.05, 10), min_size=1, max_size=4).map(tuple)
SEEDS = st.integers(0, 2**32)


def _ordered(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=2, max_size=2).map(sorted)


UNIFORM = _ordered(st.floats(-1e6, 1e6)).map(lambda ends: Uniform(*ends))
LOG_UNIFORM = _ordered(st.floats(1e-12, 1e12)).map(lambda ends: LogUniform(*ends))
INTEGERS = _ordered(st.integers(-1000, 1000)).map(lambda ends: Integers(*ends))
LOG_INTEGERS = _ordered(st.integers(1, 10**6)).map(lambda ends: Integers(ends[0], ends[1], log=True))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(-9, 9) | st.text(max_size=3)
CHOICE = st.lists(SCALARS, min_size=1, max_size=5, unique_by=repr).map(lambda values: Choice(tuple(values)))
DOMAINS = UNIFORM | LOG_UNIFORM | INTEGERS | LOG_INTEGERS | CHOICE
SPACES = st.dictionaries(st.sampled_from("abcdef"), DOMAINS, max_size=4)


@given(DOMAINS, SEEDS, FACTORS)
def test_samples_and_perturbations_stay_inside(domain: Domain, seed: int, factors: tuple[float, ...]) -> None:
    rng = random.Random(seed)
    value = domain.sample(rng)
    for _ in range(5):
        assert domain.contains(value)
        value = domain.perturb(value, rng, factors)
    assert domain.contains(value)


@given(INTEGERS | LOG_INTEGERS, SEEDS, FACTORS)
def test_integers_move_unless_there_is_one(domain: Integers, seed: int, factors: tuple[float, ...]) -> None:
    rng = random.Random(seed)
    value = domain.sample(rng)
    assert (domain.perturb(value, rng, factors) != value) == (domain.low < domain.high)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), SEEDS)
def test_a_uniform_value_moves_wherever_it_is(low: float, width: float, seed: int) -> None:
    domain = Uniform(low, low + width)
    rng = random.Random(seed)
    for value in (domain.low, domain.high, domain.sample(rng), _clamp(0.0, domain)):
        assert domain.perturb(value, rng) != value


def _clamp(value: float, domain: Uniform) -> float:
    return min(max(value, domain.low), domain.high)


@given(CHOICE, SEEDS)
def test_a_choice_moves_to_a_neighbour(domain: Choice, seed: int) -> None:
    rng = random.Random(seed)
    places = [repr(value) for value in domain.values]
    value = domain.sample(rng)
    moved = places.index(repr(domain.perturb(value, rng))) - places.index(repr(value))
    assert abs(moved) == (len(places) > 1)


def test_positive_numbers_are_multiplied() -> None:
    rng = random.Random(0)
    for domain in (Uniform(1, 100), LogUniform(1, 100)):
        assert {domain.perturb(10.0, rng) for _ in range(50)} == {8.0, 12.5}
        assert {domain.perturb(90.0, rng) for _ in range(50)} == {72.0, 100.0}
        assert {domain.perturb(100.0, rng) for _ in range(50)} == {80.0}
        assert {domain.perturb(500.0, rng) for _ in range(50)} == {80.0}
    assert {Integers(1, 100).perturb(10, rng) for _ in range(50)} == {8, 12}
    assert {Integers(1, 100).perturb(2, rng) for _ in range(50)} == {1, 3}
    assert {Integers(1, 100).perturb(2, rng, (1.1,)) for _ in range(50)} == {3}
    assert {Integers(1, 100).perturb(1, rng) for _ in range(50)} == {2}
    assert {Integers(1, 9).perturb(9, rng, (1.5,)) for _ in range(50)} == {8}


def test_numbers_that_may_be_zero_or_negative_are_shifted() -> None:
    rng = random.Random(0)
    assert {Uniform(0, 8).perturb(0.0, rng) for _ in range(50)} == {1.0}
    assert {Uniform(-4, 4).perturb(0.0, rng) for _ in range(50)} == {(0.8 - 1) * 4, 1.0}
    assert {Integers(-40, 40).perturb(0, rng) for _ in range(50)} == {-8, 10}


def test_log_uniform_is_uniform_in_the_logarithm() -> None:
    rng, count = random.Random(1), 4000
    drawn = sorted(LogUniform(1e-5, 1e-1).sample(rng) for _ in range(count))
    places = [(math.log10(value) + 5) / 4 for value in drawn]
    distance = max(max(abs(p - i / count), abs(p - (i + 1) / count)) for i, p in enumerate(places))
    assert distance < 1.63 / math.sqrt(count)  # Kolmogorov-Smirnov at the 1% level


def test_log_integers_follow_their_probabilities() -> None:
    rng, count = random.Random(2), 8000
    drawn = Counter(Integers(1, 8, log=True).sample(rng) for _ in range(count))
    expected = {k: count * math.log((k + 1) / k) / math.log(9) for k in range(1, 9)}
    assert sum((drawn[k] - e) ** 2 / e for k, e in expected.items()) < 18.48  # chi-square, 7 degrees, 1%


def test_integers_and_choices_are_uniform_and_reach_both_ends() -> None:
    rng, count = random.Random(3), 6000
    for domain in (Integers(-1, 4), Choice(tuple("abcdef"))):
        drawn = Counter(domain.sample(rng) for _ in range(count))
        assert len(drawn) == 6
        assert sum((n - 1000) ** 2 / 1000 for n in drawn.values()) < 15.09  # chi-square, 5 degrees, 1%


@given(SPACES, SEEDS)
def test_a_sample_ignores_the_order_of_names(space: dict[str, Domain], seed: int) -> None:
    drawn = sample(space, random.Random(seed))
    backwards = sample(dict(reversed(space.items())), random.Random(seed))
    assert list(drawn) == list(space)
    assert repr({name: backwards[name] for name in space}) == repr(drawn)


@given(SPACES, SEEDS, st.floats(0, 1), FACTORS)
def test_mutations_stay_inside_and_leave_other_names(
    space: dict[str, Domain], seed: int, resample: float, factors: tuple[float, ...]
) -> None:
    rng = random.Random(seed)
    hp = {"other": [1, {"x": None}], **sample(space, rng)}
    before = repr(hp)
    mutated = mutate(hp, space, rng, resample, factors)
    assert repr(hp) == before
    assert mutated["other"] == [1, {"x": None}]
    assert set(mutated) == {"other", *space}
    assert all(domain.contains(mutated[name]) for name, domain in space.items())


def test_mutate_resamples_as_often_as_asked() -> None:
    space: dict[str, Domain] = {"lr": LogUniform(1e-4, 1), "width": Uniform(1, 2)}
    hp = {"lr": 0.01, "width": 1.5}
    rng = random.Random(4)
    rows = [mutate(hp, space, rng, 0.25) for _ in range(2000)]
    fresh = [sum(row[name] not in nearby for row in rows) for name, nearby in _NEARBY.items()]
    assert all(abs(count - 500) < 60 for count in fresh)  # three standard deviations
    assert all(row["lr"] in _NEARBY["lr"] for row in (mutate(hp, space, rng, 0.0) for _ in range(50)))
    assert all(row["lr"] not in _NEARBY["lr"] for row in (mutate(hp, space, rng, 1.0) for _ in range(50)))


_NEARBY = {"lr": (0.01 * 0.8, 0.01 * 1.25), "width": (1.5 * 0.8, 1.5 * 1.25)}


def test_mutate_draws_what_is_missing() -> None:
    space: dict[str, Domain] = {"a": Integers(1, 3), "b": Choice(("x",))}
    assert mutate({}, space, random.Random(0), 0.0)["b"] == "x"


def test_lists_become_tuples_and_survive_json() -> None:
    domain = Choice(([1, [2, 3]], "x", (4,)))
    assert domain.values == ((1, (2, 3)), "x", (4,))
    hash(domain)
    back = json.loads(json.dumps(domain.values[0]))
    assert domain.contains(back)
    assert domain.perturb(back, random.Random(0)) == "x"
    assert freeze({"a": [1, [2]]}) == {"a": (1, (2,))}


def test_categories_of_different_types_differ() -> None:
    domain = Choice((1, True, 1.0))
    assert [domain.contains(value) for value in (1, True, 1.0, "1", 0)] == [True, True, True, False, False]
    assert domain.perturb(1.0, random.Random(0)) is True


class Named(str, Enum):
    A = "a"


@pytest.mark.parametrize(
    ("domain", "value", "inside"),
    [
        (Uniform(0, 1), 1, True),
        (Uniform(0, 1), 1.1, False),
        (Uniform(0, 1), True, False),
        (Uniform(0, 1), math.nan, False),
        (LogUniform(1, 2), "1", False),
        (Integers(1, 3), 3, True),
        (Integers(1, 3), 0, False),
        (Integers(1, 3), 2.0, False),
        (Integers(0, 3), True, False),
    ],
)
def test_contains(domain: Domain, value: object, inside: bool) -> None:
    assert domain.contains(value) is inside


@pytest.mark.parametrize(
    ("kind", "args", "named"),
    [
        (Uniform, (2, 1), "low 2 is above high 1: swap"),
        (Uniform, (0, math.inf), "inf is not a finite number"),
        (Uniform, ("0", 1), "'0' is not a finite number"),
        (Uniform, (-1e308, 1e308), "narrow"),
        (LogUniform, (0, 1), "low 0.0 has no logarithm: make it positive or use Uniform"),
        (LogUniform, (2, 1), "swap"),
        (Integers, (1.5, 2), "1.5 is not an integer"),
        (Integers, (True, 2), "True is not an integer"),
        (Integers, (1, 2**60), "not an integer within"),
        (Integers, (3, 1), "swap"),
        (Integers, (0, 3, True), "no logarithm: make it positive or use log=False"),
        (Choice, ((),), "at least one"),
        (Choice, ("abc",), "'abc': give a tuple"),
        (Choice, ((1, 1),), "repeats"),
        (Choice, ((math.nan,),), "nan cannot be kept"),
        (Choice, (({"a": 1},),), "cannot be kept as JSON"),
        (Choice, ((Uniform(0, 1),),), "build the object"),
        (Choice, ((Named.A,),), "cannot be kept as JSON"),
        (Choice, ((np.ones(2),),), "cannot be kept as JSON"),
    ],
)
def test_impossible_domains_say_what_to_do(kind: Any, args: tuple[Any, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        kind(*args)


def test_numbers_and_strings_of_numpy_become_pythons() -> None:
    """They are subclasses of Python's or look like them, but come back from JSON as those."""
    choice = Choice((np.float64(0.5), np.int64(2), np.str_("a"), (np.float32(0.25),)))
    assert choice.values == (0.5, 2, "a", (0.25,))
    assert [type(value) for value in choice.values] == [float, int, str, tuple]
    for value in json.loads(json.dumps(choice.values)):
        assert choice.contains(value)


@pytest.mark.parametrize("factors", [(), (1.0,), (0.0,), (-1.2, 2.0), (math.inf,)])
def test_factors_that_move_nothing_are_refused(factors: tuple[float, ...]) -> None:
    domains: list[Any] = [Uniform(0, 1), LogUniform(1, 2), Integers(0, 1), Choice((0, 1))]
    for domain in domains:
        with pytest.raises(ValueError, match=r"factor"):
            domain.perturb(1, random.Random(0), factors)


def test_values_that_cannot_be_perturbed_are_named() -> None:
    with pytest.raises(ValueError, match="cannot perturb nan"):
        Uniform(0, 1).perturb(math.nan, random.Random(0))
    with pytest.raises(ValueError, match="'z' is none of the categories"):
        Choice(("a",)).perturb("z", random.Random(0))


def test_stable_rng_is_stable_and_separates_its_parts() -> None:
    drawn = [stable_rng(*parts).random() for parts in (("a", 1, 2), ("a", 12), ("a1", 2), ("a", 2, 1))]
    assert stable_rng("a", 1, 2).random() == drawn[0]
    assert all(a != b for a, b in pairwise(sorted(drawn)))
    # A value kept by hand: changing it would break every run that is resumed.
    assert stable_rng("start", 0, 1).randrange(10**6) == 559973

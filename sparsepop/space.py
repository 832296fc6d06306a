"""What one searched hyperparameter may be, how it is drawn and how a population perturbs it."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FACTORS = (0.8, 1.25)
_PLAIN = (type(None), bool, int, float, str)  # not subclasses of them: JSON would bring back another type
_EXACT = 2**53  # integers up to here survive a trip through a float


def stable_rng(*parts: int | str) -> random.Random:
    """A generator that depends on `parts` alone: the same on every machine and Python version."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def freeze(value: Any) -> Any:
    """`value` with every list turned into a tuple, what JSON does to tuples, undone; and numpy's scalars into
    Python's, which they may be subclasses of but are not written as.
    """
    if isinstance(value, list | tuple):
        return tuple(freeze(entry) for entry in value)
    if isinstance(value, Mapping):
        return {name: freeze(entry) for name, entry in value.items()}
    # told by what they have, for --help must not wait for an import of numpy
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def check_factors(factors: Sequence[float]) -> None:
    """Raise ValueError unless every factor is a finite positive number that moves a value."""
    if not factors:
        raise ValueError("factors is empty: give at least one number to multiply by, such as (0.8, 1.25)")
    for factor in factors:
        if not _finite(factor) or factor <= 0 or factor == 1:
            raise ValueError(f"factor {factor!r} moves nothing: give finite factors above 0 other than 1")


@dataclass(frozen=True)
class Uniform:
    """A float in [low, high], uniform.

    Where every value is positive a perturbation multiplies by a factor; where 0 or negative values are
    allowed (there a product sticks at 0 and changes direction with the sign) it adds (factor - 1) * (high -
    low) / 2.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_floats(self)

    def sample(self, rng: random.Random) -> float:
        """A value drawn uniformly."""
        return _clamp(rng.uniform(self.low, self.high), self.low, self.high)

    def perturb(self, value: float, rng: random.Random, factors: Sequence[float] = FACTORS) -> float:
        """`value` moved by one of the factors and clamped; at an end only factors that lead inwards count."""
        return _perturb_float(value, rng, factors, self.low, self.high)

    def contains(self, value: object) -> bool:
        """Whether `value` is a number within the bounds."""
        return _finite(value) and self.low <= value <= self.high  # type: ignore[operator]


@dataclass(frozen=True)
class LogUniform:
    """A float in [low, high], low > 0, whose logarithm is uniform; perturbed by multiplication."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_floats(self)
        _check_positive(self, self.low, "Uniform")

    def sample(self, rng: random.Random) -> float:
        """A value whose logarithm is drawn uniformly."""
        return _clamp(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low, self.high)

    def perturb(self, value: float, rng: random.Random, factors: Sequence[float] = FACTORS) -> float:
        """`value` times one of the factors, clamped; at an end only factors that lead inwards count."""
        return _perturb_float(value, rng, factors, self.low, self.high)

    def contains(self, value: object) -> bool:
        """Whether `value` is a number within the bounds."""
        return _finite(value) and self.low <= value <= self.high  # type: ignore[operator]


@dataclass(frozen=True)
class Integers:
    """An integer from low to high, both included; with `log`, P(k) is proportional to log((k + 1) / k)."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            if isinstance(bound, bool) or not isinstance(bound, int) or abs(bound) > _EXACT:
                raise ValueError(
                    f"{self}: bound {bound!r} is not an integer within +-2**53: use whole numbers"
                )
        _check_order(self, self.low, self.high)
        if self.log:
            _check_positive(self, self.low, "log=False")

    def sample(self, rng: random.Random) -> int:
        """An integer drawn from the domain."""
        if not self.log:
            return rng.randint(self.low, self.high)
        drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high + 1)))
        return int(_clamp(math.floor(drawn), self.low, self.high))

    def perturb(self, value: float, rng: random.Random, factors: Sequence[float] = FACTORS) -> int:
        """`value` moved by one of the factors (as `Uniform`), rounded, by at least 1 wherever there is
        room."""
        check_factors(factors)
        here = round(_clamp(_number(value, self), self.low, self.high))
        moves = [self._moved(here, factor) for factor in factors]
        inwards = [entry for entry in (here - 1, here + 1) if self.contains(entry)]
        moved = [entry for entry in moves if entry != here] or inwards
        return rng.choice(moved) if moved else here

    def contains(self, value: object) -> bool:
        """Whether `value` is an integer within the bounds."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def _moved(self, here: int, factor: float) -> int:
        shift = round(_moved(here, factor, self.low, self.high) - here)
        least = 1 if factor > 1 else -1
        return int(_clamp(here + (shift or least), self.low, self.high))


@dataclass(frozen=True)
class Choice:
    """One of some ordered categories: None, booleans, numbers, strings and (nested) tuples of these.

    Lists are frozen to tuples. Anything richer could not be read back from the results, so it raises
    ValueError. Categories of different types differ: 1, 1.0 and True are three categories.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Sequence) or not self.values:
            raise ValueError(f"Choice of {self.values!r}: give a tuple or list with at least one category")
        object.__setattr__(self, "values", freeze(tuple(self.values)))
        for value in self.values:
            _check_category(value)
        if len({repr(value) for value in self.values}) < len(self.values):
            raise ValueError(f"Choice of {self.values!r} repeats a category: name each once")

    def sample(self, rng: random.Random) -> Any:
        """A category drawn uniformly."""
        return rng.choice(self.values)

    def perturb(self, value: Any, rng: random.Random, factors: Sequence[float] = FACTORS) -> Any:
        """A category next to `value`, whatever the factors are; ValueError if `value` is no category."""
        check_factors(factors)
        if not self.contains(value):
            raise ValueError(f"{value!r} is none of the categories {self.values!r}: add it to them")
        here = self._keys().index(repr(freeze(value)))
        beside = [index for index in (here - 1, here + 1) if 0 <= index < len(self.values)]
        return self.values[rng.choice(beside) if beside else here]

    def contains(self, value: object) -> bool:
        """Whether `value` is one of the categories, type included (a list counts as its tuple)."""
        return repr(freeze(value)) in self._keys()

    def _keys(self) -> list[str]:
        return [repr(value) for value in self.values]


Domain = Uniform | LogUniform | Integers | Choice
Space = Mapping[str, Domain]


def check_space(space: Mapping[str, Domain]) -> None:
    """Raise ValueError unless `space` maps allowed names to domains."""
    check_names(space)
    for name, domain in space.items():
        if not isinstance(domain, Domain):
            raise ValueError(
                f"space[{name!r}] = {domain!r} is no domain: use Uniform, LogUniform, Integers or Choice"
            )


def check_names(names: Mapping[str, Any]) -> None:
    """Raise ValueError unless `names` is a mapping with names that may travel from donor to receiver."""
    if not isinstance(names, Mapping):
        raise ValueError(
            f"{names!r} is no mapping: give a dict from hyperparameter names to what they may be"
        )
    for name in names:
        if not isinstance(name, str) or not name:
            raise ValueError(f"hyperparameter name {name!r} is not a non-empty string: rename it")
        if name == "seed":
            raise ValueError(
                "hyperparameter 'seed' may not be searched, an exploit would copy it: remove it, each member "
                "has a seed of its own (use Grid(..., seeds=N) for repeats)"
            )


def sample(space: Mapping[str, Domain], rng: random.Random) -> dict[str, Any]:
    """One value for every name, whatever the order of the names in `space`."""
    drawn = {name: space[name].sample(rng) for name in sorted(space)}
    return {name: drawn[name] for name in space}


def edges(space: Mapping[str, Domain]) -> Iterator[tuple[str, Any]]:
    """Each hyperparameter's name with, in turn, every category and both bounds: as far as exploring goes."""
    for name, domain in space.items():
        for value in domain.values if isinstance(domain, Choice) else (domain.low, domain.high):
            yield name, value


def mutate(
    hp: Mapping[str, Any],
    space: Mapping[str, Domain],
    rng: random.Random,
    resample: float = 0.25,
    factors: Sequence[float] = FACTORS,
) -> dict[str, Any]:
    """`hp` with every name of `space` drawn anew with probability `resample` and perturbed otherwise.

    Names outside the space are kept as they are; names that `hp` lacks are drawn. The explore step of
    population-based training (Jaderberg et al. 2017, section 3).
    """
    mutated = dict(hp)
    for name in sorted(space):
        fresh = rng.random() < resample
        if fresh or name not in hp:
            mutated[name] = space[name].sample(rng)
        else:
            mutated[name] = space[name].perturb(hp[name], rng, factors)
    return mutated


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: object, domain: object) -> float:
    if not _finite(value):
        raise ValueError(f"cannot perturb {value!r} within {domain}: it must be a finite number")
    return value  # type: ignore[return-value]


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _moved(value: float, factor: float, low: float, high: float) -> float:
    if low > 0:
        return value * factor
    return value + (factor - 1) * (high - low) / 2


def _perturb_float(
    value: float, rng: random.Random, factors: Sequence[float], low: float, high: float
) -> float:
    check_factors(factors)
    here = _clamp(float(_number(value, f"[{low}, {high}]")), low, high)
    moves = [_clamp(_moved(here, factor, low, high), low, high) for factor in factors]
    moved = [entry for entry in moves if entry != here]
    return rng.choice(moved) if moved else here


def _check_floats(domain: Uniform | LogUniform) -> None:
    for bound in (domain.low, domain.high):
        if not _finite(bound):
            raise ValueError(f"{domain}: bound {bound!r} is not a finite number: give numbers")
    _check_order(domain, domain.low, domain.high)
    object.__setattr__(domain, "low", float(domain.low))
    object.__setattr__(domain, "high", float(domain.high))
    if math.isinf(domain.high - domain.low):
        raise ValueError(f"{domain} is wider than a float can tell: narrow the bounds")


def _check_order(domain: object, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"{domain}: low {low!r} is above high {high!r}: swap them")


def _check_positive(domain: object, low: float, instead: str) -> None:
    if low <= 0:
        raise ValueError(f"{domain}: low {low!r} has no logarithm: make it positive or use {instead}")


def _check_category(value: object) -> None:
    if isinstance(value, tuple):
        for entry in value:
            _check_category(entry)
    elif type(value) not in _PLAIN or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(
            f"category {value!r} cannot be kept as JSON: use a finite number, a string or a tuple of these, "
            "and build the object from it in recipe(hp)"
        )

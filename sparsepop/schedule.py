"""Numbers as functions of the step, as values: frozen, comparable, cheap to call."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral

Schedule = Callable[[int], float]


def as_schedule(value: float | Schedule) -> Schedule:
    """A plain number means the same number at every step."""
    return value if callable(value) else Constant(float(value))


def last_change(schedule: Schedule) -> int:
    """The step from which `schedule` stays what it is; 0 for a constant."""
    return int(getattr(schedule, "end", 0))


def peaks(schedule: Schedule) -> tuple[int, ...]:
    """The steps at which `schedule` turns downwards and must be followed exactly."""
    return tuple(getattr(schedule, "peaks", ()))


def lows(schedule: Schedule) -> tuple[int, ...]:
    """The steps from which what `schedule` says must hold exactly: ends of cycles, else its last change."""
    return tuple(getattr(schedule, "lows", (last_change(schedule),)))


def extremes(schedule: Schedule) -> tuple[int, ...]:
    """The steps at which `schedule` is highest and lowest, as far as it says where it turns."""
    return tuple(sorted({0, *peaks(schedule), *lows(schedule), last_change(schedule)}))


def check_whole(value: object, *names: str) -> None:
    """ValueError unless these attributes of `value` are whole numbers, tuples of them, or None.

    Half a step would be due never, or twice as late, and nothing would say so.
    """
    for name in names:
        given = getattr(value, name)
        if not _whole(given):
            raise ValueError(
                f"{type(value).__name__}: {name}={given!r} must count in whole numbers: round it"
            )


def _whole(given: object) -> bool:
    if isinstance(given, tuple | list):
        return all(map(_whole, given))
    return given is None or (isinstance(given, Integral) and not isinstance(given, bool))


@dataclass(frozen=True)
class Constant:
    """The same number at every step."""

    value: float

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class Ramp:
    """From `start` to `final` between the steps `begin` and `end`, flat before and after.

    `shape` bends the way between: `linear`; `cosine` (half a period, as in RigL, Evci et al. 2020, section
    3); `cubic` (steep first, flat at the end: final + (start - final)(1 - progress)^3, Zhu & Gupta 2017,
    equation 1).
    """

    start: float
    final: float
    end: int
    begin: int = 0
    shape: str = "linear"

    def __post_init__(self) -> None:
        check_whole(self, "end", "begin")
        if self.begin < 0 or self.end < self.begin:
            raise ValueError(f"a ramp needs 0 <= begin <= end, got begin={self.begin} and end={self.end}")
        if self.shape not in _BENDS:
            raise ValueError(f"unknown ramp shape {self.shape!r}: choose one of {', '.join(_BENDS)}")

    def __call__(self, step: int) -> float:
        if step >= self.end:
            return self.final
        if step <= self.begin:
            return self.start
        left = _BENDS[self.shape]((step - self.begin) / (self.end - self.begin))
        return self.final + (self.start - self.final) * left


# progress (0..1) -> what is left of the difference between start and final (1..0)
_BENDS: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "cubic": lambda progress: (1.0 - progress) ** 3,
}


def Linear(start: float, final: float, end: int, begin: int = 0) -> Ramp:
    """A straight line; see `Ramp`."""
    return Ramp(start, final, end, begin, "linear")


def Cosine(start: float, final: float, end: int, begin: int = 0) -> Ramp:
    """Half a cosine period; see `Ramp`."""
    return Ramp(start, final, end, begin, "cosine")


def Cubic(start: float, final: float, end: int, begin: int = 0) -> Ramp:
    """Gradual magnitude pruning's curve; see `Ramp`."""
    return Ramp(start, final, end, begin, "cubic")


@dataclass(frozen=True)
class Milestones:
    """`start`, multiplied by `factor` at each of the steps in `steps`."""

    start: float
    steps: tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_whole(self, "steps")
        if list(self.steps) != sorted(self.steps):
            raise ValueError(f"milestones must be in rising order, got {self.steps}")

    @property
    def end(self) -> int:
        return self.steps[-1] if self.steps else 0

    def __call__(self, step: int) -> float:
        return self.start * self.factor ** sum(step >= milestone for milestone in self.steps)


@dataclass(frozen=True)
class Warmup:
    """`then`, scaled up linearly over the first `steps` steps; step 0 already moves (1/steps)."""

    then: Schedule
    steps: int

    def __post_init__(self) -> None:
        check_whole(self, "steps")
        if self.steps < 1:
            raise ValueError(f"a warm-up needs at least one step, got {self.steps}: leave it out instead")

    @property
    def end(self) -> int:
        return max(self.steps, last_change(self.then))

    def __call__(self, step: int) -> float:
        return self.then(step) * min(1.0, (step + 1) / self.steps)


@dataclass(frozen=True)
class Restarts:
    """`each` from its beginning every `every` steps, `count` times over; after those, `then` from its own
    beginning.
    """

    each: Schedule
    every: int
    count: int
    then: Schedule

    def __post_init__(self) -> None:
        check_whole(self, "every", "count")
        if self.every < 1 or self.count < 0:
            raise ValueError(
                f"restarts need every >= 1 and count >= 0, got every={self.every} and count={self.count}"
            )

    @property
    def end(self) -> int:
        return self.every * self.count + last_change(self.then)

    def __call__(self, step: int) -> float:
        past = step - self.every * self.count
        return self.then(past) if past >= 0 else self.each(step % self.every)


@dataclass(frozen=True)
class Phases:
    """Stretches of training, each from the step `begin` up to, but not including, the step `end`; in order,
    none overlapping.
    """

    spans: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        check_whole(self, "spans")
        steps = [step for span in self.spans for step in span]
        if (
            any(begin >= end for begin, end in self.spans)
            or steps != sorted(steps)
            or min(steps, default=0) < 0
        ):
            raise ValueError(
                f"phases must be pairs (begin, end) of one step or more, in order and apart, got {self.spans}"
            )

    @classmethod
    def regular(cls, length: int, count: int, begin: int = 0) -> Phases:
        """`count` phases of `length` steps, one right after the other, the first from the step `begin`."""
        return cls(tuple((begin + i * length, begin + (i + 1) * length) for i in range(count)))

    @property
    def end(self) -> int:
        """The step at which the last phase is over; 0 without any."""
        return self.spans[-1][1] if self.spans else 0

    def beginning(self, step: int) -> int | None:
        """The number (from 0) of the phase that begins with this step, or None."""
        return next((i for i, (begin, _) in enumerate(self.spans) if begin == step), None)

    def ending(self, step: int) -> bool:
        """Whether a phase is over once `step` steps are done."""
        return any(end == step for _, end in self.spans)

    def within(self, step: int) -> bool:
        """Whether `step` steps end in the midst of a phase: begun, and not over."""
        return any(begin < step < end for begin, end in self.spans)


@dataclass(frozen=True)
class Cyclic:
    """From `low` up to `peak` times `low` and back, `cycles` times in `length` steps each; `low` before the
    step `begin` and after the last cycle (EAST, Li et al. 2025).

    `shape` bends the way up and down: `cosine` or `triangular`. Both extremes are met at whole steps: where
    `length` is odd, the way up is one step shorter than the way down. The paper's code only samples the curve
    at its updates and misses them.
    """

    low: float
    length: int
    cycles: int = 2
    peak: float = 3.0
    begin: int = 0
    shape: str = "cosine"

    def __post_init__(self) -> None:
        check_whole(self, "length", "cycles", "begin")
        if self.length < 2 or self.cycles < 1 or self.begin < 0:
            raise ValueError(
                f"cycles need length >= 2, cycles >= 1 and begin >= 0, got length={self.length}, "
                f"cycles={self.cycles} and begin={self.begin}: for none use a number"
            )
        if self.peak < 1.0:
            raise ValueError(f"the peak is a multiple of the low and at least 1, got {self.peak}")
        if self.shape not in _RISES:
            raise ValueError(f"unknown shape of a cycle {self.shape!r}: choose one of {', '.join(_RISES)}")

    @property
    def end(self) -> int:
        return self.begin + self.cycles * self.length

    @property
    def peaks(self) -> tuple[int, ...]:
        """The steps at which the cycles are highest."""
        return tuple(self.begin + cycle * self.length + self.length // 2 for cycle in range(self.cycles))

    @property
    def lows(self) -> tuple[int, ...]:
        """The steps at which cycles end."""
        return tuple(self.begin + cycle * self.length for cycle in range(1, self.cycles + 1))

    def __call__(self, step: int) -> float:
        if not self.begin < step < self.end:
            return self.low
        done, half = (step - self.begin) % self.length, self.length // 2
        way = done / half if done <= half else (self.length - done) / (self.length - half)
        return self.low * (1.0 + (self.peak - 1.0) * _RISES[self.shape](way))


# way up (0..1) -> share of the rise (0..1)
_RISES: dict[str, Callable[[float], float]] = {
    "cosine": lambda way: 0.5 * (1.0 - math.cos(math.pi * way)),
    "triangular": lambda way: way,
}


@dataclass(frozen=True)
class Every:
    """True at `begin`, `begin + interval`, ... up to and including `end` (None: for ever)."""

    interval: int
    begin: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        check_whole(self, "interval", "begin", "end")
        if self.interval < 1:
            raise ValueError(f"an interval needs at least one step, got {self.interval}")

    def __call__(self, step: int) -> bool:
        if step < self.begin or (self.end is not None and step > self.end):
            return False
        return (step - self.begin) % self.interval == 0

    @property
    def first(self) -> int | None:
        """The first due step, or None."""
        return self.begin if self(self.begin) else None

    def last_before(self, step: int) -> int | None:
        """The last due step below `step`, or None."""
        last = step - 1 if self.end is None else min(step - 1, self.end)
        return None if last < self.begin else last - (last - self.begin) % self.interval


@dataclass(frozen=True)
class TwoPhases:
    """A run in two phases: `before` steps of ordinary training, then `cycles` cycles of `length` steps."""

    before: int
    length: int
    cycles: int

    def __post_init__(self) -> None:
        check_whole(self, "before", "length", "cycles")
        if self.before < 1 or self.length < 2 or self.cycles < 0:
            raise ValueError(
                f"phases need before >= 1, length >= 2 and cycles >= 0, got before={self.before}, "
                f"length={self.length}, cycles={self.cycles}: give the cycles a smaller share of the run"
            )

    @property
    def end(self) -> int:
        return self.before + self.cycles * self.length

    @property
    def starts(self) -> Every:
        """The steps at which a cycle begins."""
        return Every(self.length, self.before, self.before + (self.cycles - 1) * self.length)

    @property
    def ends(self) -> Every:
        """The steps after which the first phase, and each cycle, is complete."""
        return Every(self.length, self.before, self.end)


def split(total: int, share: float, length: int) -> TwoPhases:
    """As many whole cycles of `length` as fit into the last `share` of `total` (Yin et al. 2022, released
    code), in any one unit: steps or epochs.

    Exact: `share` means the decimal number that it prints as. Warns where no cycle fits; then all is phase 1.
    """
    if not 0.0 <= share < 1.0 or length < 2:
        raise ValueError(
            f"the cycles' share must lie in [0, 1) and a cycle must have at least 2 steps, "
            f"got share={share} and length={length}"
        )
    cycles = int(total * Fraction(str(share)) // length)
    if cycles == 0 and share > 0:
        warnings.warn(
            f"no cycle of {length} fits into {share:g} of {total}: all of it is ordinary training; "
            "use shorter cycles or a larger share",
            stacklevel=2,
        )
    return TwoPhases(total - cycles * length, length, cycles)


@dataclass(frozen=True)
class Triangular:
    """`before` during the first phase; then in each cycle linearly up from `lr_low` to `lr_high` and down
    again (Yin et al. 2022, released code; Garipov et al. 2018, "Loss surfaces, mode connectivity, and fast
    ensembling of DNNs", has the same triangle the other way up).

    The n-th of a cycle's N steps (from 1) has u = n / N, so the last step of every cycle takes `lr_low`
    exactly, and so does whatever follows. Sup-tickets' released code calls these lr_1 and lr_2.
    """

    lr_low: float
    lr_high: float
    phases: TwoPhases
    before: float | Schedule

    def __post_init__(self) -> None:
        if not 0.0 <= self.lr_low <= self.lr_high:
            raise ValueError(
                f"a cycle needs 0 <= lr_low <= lr_high, got lr_low={self.lr_low} and lr_high={self.lr_high}: "
                "tickets are taken where the rate is low"
            )

    @property
    def end(self) -> int:
        return self.phases.end

    def __call__(self, step: int) -> float:
        done = step - self.phases.before
        if done < 0:
            return as_schedule(self.before)(step)
        if step >= self.end:
            return self.lr_low
        return self.at((done % self.phases.length + 1) / self.phases.length)

    def at(self, u: float) -> float:
        """The learning rate when the share u (0..1) of a cycle has passed."""
        rise = 2.0 * min(u, 1.0 - u)
        return self.lr_low * (1.0 - rise) + self.lr_high * rise

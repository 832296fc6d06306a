"""Numbers that come back again and again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sparsepop.schedule.base import Schedule, check_whole, last_change


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

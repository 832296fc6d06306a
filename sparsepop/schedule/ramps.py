"""Numbers that go one way, once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sparsepop.schedule.base import Schedule, check_whole, last_change


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

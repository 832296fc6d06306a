"""At which steps something is due, and in which stretches of training."""

from __future__ import annotations

from dataclasses import dataclass

from sparsepop.schedule.base import check_whole


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
        if length < 1:
            raise ValueError(f"a phase has one step at least, got length={length}: make phases longer")
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

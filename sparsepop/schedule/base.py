"""What a schedule is, and what may be asked of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

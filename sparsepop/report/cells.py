"""Numbers as people read them, and tables of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

MISSING = "-"
_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Column:
    """A column: its heading, what it means, and what stands in it: `number` (right), `word` (left), or `text`
    (left, broken into lines).
    """

    head: str
    means: str = ""
    kind: str = "number"


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; `marks` has a class for each row ('' for none), `note` stands below."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    marks: Sequence[str] = ()
    note: str = ""

    def mark(self, row: int) -> str:
        return self.marks[row] if self.marks else ""


def shown(value: Any, form: Callable[[Any], str] = str) -> str:
    """A value in its form, or a dash where there is none."""
    return MISSING if value is None or pd.isna(value) else form(value)


def percent(share: Any) -> str:
    """An accuracy (0..1) in percent, with two decimals."""
    return shown(share, lambda value: f"{100 * value:.2f}")


def count(number: Any) -> str:
    """A whole number with its thousands apart."""
    return shown(number, lambda value: f"{int(value):,}")


def amount(number: Any) -> str:
    """A large number with a unit prefix and three digits: `1.23 T`."""
    return shown(number, _amount)


def _amount(number: float) -> str:
    for size, prefix in _UNITS:
        if abs(number) >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g}"


def duration(seconds: Any) -> str:
    """Seconds below ten minutes, then minutes, then hours."""
    return shown(seconds, _duration)


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:,.3g} s" if seconds < 100 else f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 36_000 else f"{seconds / 3600:,.1f} h"


def numbers_text(numbers: Mapping[str, float]) -> str:
    """A map of numbers in one line: `phase 3 · density 0.05`."""
    return " · ".join(f"{name} {value:.4g}" for name, value in numbers.items())

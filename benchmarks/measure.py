"""Times taken side by side: runs that take turns, the ratios of their turns, and tables of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

Clock = Callable[[], float]
Times = dict[str, list[float]]


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, with the smallest and the largest; ValueError when there are none."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        known = sorted(values)
        if not known:
            raise ValueError("nothing was measured: take at least one round")
        return cls(median(known), known[0], known[-1])

    def cells(self, digits: int = 3) -> tuple[str, str, str]:
        """Median, smallest and largest as text."""
        return (f"{self.median:.{digits}f}", f"{self.low:.{digits}f}", f"{self.high:.{digits}f}")


def take_turns(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 1,
    sync: Callable[[], None] = lambda: None,
    clock: Clock = time.perf_counter,
) -> Times:
    """Seconds of each run in each of `rounds` rounds, all runs taking one turn a round.

    `warmup` rounds go before, untimed. Every other round goes backwards, so that a machine which slows down
    steadily favours nobody. `sync` waits for the device before the clock is read.
    """
    times: Times = {name: [] for name in runs}
    for turn, name in in_turns(list(runs), rounds, warmup):
        sync()
        began = clock()
        runs[name]()
        sync()
        if turn >= 0:
            times[name].append(clock() - began)
    return times


def in_turns(names: Sequence[str], rounds: int, warmup: int = 0) -> Iterator[tuple[int, str]]:
    """Whose turn it is, with the number of the round (below 0: warm-up); every other round goes backwards."""
    for turn in range(-warmup, rounds):
        for name in names[:: -1 if turn % 2 else 1]:
            yield turn, name


def ratios(times: Sequence[float], base: Sequence[float]) -> Spread:
    """How `times` compare with `base`, round by round; ValueError when they are of different rounds."""
    return Spread.of(each / other for each, other in zip(times, base, strict=True))


def averaged(plain: Sequence[float], due: Sequence[float], interval: int) -> list[float]:
    """Mean seconds of a step, by round, when one step in `interval` is a `due` one and the others `plain`."""
    return [((interval - 1) * usual + rare) / interval for usual, rare in zip(plain, due, strict=True)]


def verdict(value: float, target: float | None) -> str:
    """`value` held against the most that it may be; empty where there is no target."""
    if target is None:
        return ""
    return f"{'met' if value <= target else 'MISSED'} ({target:g})"


def show(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose others are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        table.add_row(*row)
    console.print(table)

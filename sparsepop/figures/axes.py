"""Axes that several figures share: steps, densities, accuracies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import (
    EngFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from sparsepop.results.table import percent_text

MANY = 10.0  # values that span more than this factor get a logarithmic axis
NINES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)


def step_axis(axes: Axes, last: float) -> None:
    """The x axis of what happens over optimizer steps, of which there are `last`."""
    axes.set_xlabel("step (optimizer steps)")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if last >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def density_axis(axes: Axes, densities: pd.Series) -> None:
    """The x axis of densities, a tick at each; logarithmic where those of networks that are alive span more
    than a factor of five, with a place for dead ones at its left, and else with limits of its own.
    """
    ticks = sorted({float(f"{density:.2g}") for density in densities.dropna()}) or [1.0]
    dead, alive = [tick for tick in ticks if tick == 0], [tick for tick in ticks if tick > 0]
    if alive and alive[-1] > MANY / 2 * alive[0]:
        if dead:  # zero has no logarithm
            axes.set_xscale("symlog", linthresh=alive[0])
        else:
            axes.set_xscale("log")
        ticks = [*dead, *_apart(alive)]
    else:  # one density, or near ones: not blown up until what stands beside a tick seems another density
        room = 0.1 * (ticks[-1] - ticks[0]) or 0.2 * ticks[0] or 0.1
        axes.set_xlim(ticks[0] - room, ticks[-1] + room)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent_text(share).replace(".00%", "%")))
    axes.set_xlabel("density (share of prunable weights alive)")


def _apart(ticks: list[float]) -> list[float]:
    """Ticks whose labels do not touch on a logarithmic axis: the next is at least a tenth of it away."""
    room = (ticks[-1] / ticks[0]) ** 0.1
    kept: list[float] = []
    for tick in ticks:
        if not kept or tick >= room * kept[-1]:
            kept.append(tick)
    return kept


def percent(value: float, _: int = 0) -> str:
    """A share as a label of a tick."""
    return f"{100 * value:.3g}%" if value < 0.99 else f"{100 * value:.4g}%"


def accuracy_axis(axes: Axes, name: str) -> None:
    """The y axis of accuracies (0..1), in percent."""
    axes.set_ylabel(f"{name} (%)")
    axes.yaxis.set_major_formatter(FuncFormatter(percent))
    axes.grid(axis="y", color="0.9", zorder=0)


def nines(axes: Axes, scores: pd.Series) -> None:
    """A y axis on which equal distances are equal ratios of error, so that 90, 99 and 99.9% stand apart."""
    errors = 1 - scores
    # half the least error is added to all, for an error of zero has no logarithm
    spare = float(errors[errors > 0].min()) / 2 if (errors > 0).any() else 0.5

    def height(score: Any) -> Any:
        return -np.log10(np.maximum(1 + spare - np.asarray(score), spare / 4))

    def score_at(height: Any) -> Any:
        return 1 + spare - 10.0 ** -np.asarray(height)

    low, high = height(scores.min()), height(scores.max())
    room = 0.05 * (high - low) or 0.05
    ticks = [tick for tick in NINES if low - room <= height(tick) <= high - room]
    axes.set_yscale("function", functions=(height, score_at))
    axes.set_ylim(score_at(low - room), score_at(high + room))
    axes.yaxis.set_major_locator(FixedLocator([*ticks, float(scores.max())]))
    axes.yaxis.set_major_formatter(FuncFormatter(percent))
    axes.yaxis.set_minor_locator(NullLocator())


def shares_axis(axes: Axes, shares: pd.Series) -> None:
    """A y axis of densities or ratios, percent: logarithmic where they span more than a factor of five, and
    where they are nearly one not blown up until rounding looks like change.
    """
    low, high = float(shares.min()), float(shares.max())
    if low > 0 and high > MANY / 2 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    elif high < 1.05 * low:
        axes.set_ylim(0.9 * low, 1.1 * high)
    axes.yaxis.set_major_formatter(FuncFormatter(percent))
    axes.yaxis.set_minor_formatter(NullFormatter())


def wide_axis(axes: Axes, values: pd.Series) -> None:
    """A logarithmic y axis, where positive values span more than a factor of ten."""
    if values.min() > 0 and values.max() > MANY * values.min():
        axes.set_yscale("log")
        wide = values.max() > 100 * values.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())

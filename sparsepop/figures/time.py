"""One member over time: density, learning rate, phase; loss and accuracy."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sparsepop.figures.axes import accuracy_axis, percent, shares_axis, step_axis
from sparsepop.figures.frames import MissingRows, need, of_member, spread
from sparsepop.figures.style import series, sheet

_REPORTS = "reports of a member that has run"


def schedule(reports: pd.DataFrame, member: int) -> Figure:
    """Density (log axis where it spans much), learning rate, and where they are reported the phase that a
    method counts and the share of weights that were ever alive, against the step: what reports hold, which
    is less than what schedules did between them. Raises ValueError without reports of the member.
    """
    rows = of_member(reports, member, _REPORTS)
    need(rows, _REPORTS, ("density", "lr", "numbers"))
    phases, explored = (_with(rows, name) for name in ("phase", "explored"))
    count = 2 + (phases is not None) + (explored is not None)
    with sheet(6.4, 1.4 + 1.4 * count) as figure:
        panels = figure.subplots(count, 1, sharex=True)
        _line(panels[0], rows, "density", 0)
        shares_axis(panels[0], rows["density"])
        panels[0].set_ylabel("density\nat reports (%)")
        # no line: a rate that restarts at every report would look flat, and a triangle like another one
        _line(panels[1], rows, "lr", 1, linestyle="None", markersize=3.0)
        panels[1].set_ylabel("learning rate\nat reports")
        if phases is not None:
            _line(panels[2], phases, "phase", 2, drawstyle="steps-post")
            panels[2].yaxis.set_major_locator(MaxNLocator(5, integer=True))
            panels[2].set_ylabel("phase (count)")
        if explored is not None:
            _line(panels[-1], explored, "explored", 3)
            panels[-1].yaxis.set_major_formatter(FuncFormatter(percent))
            panels[-1].set_ylabel("ever alive (%)")
        step_axis(panels[-1], rows["step"].max())
        panels[0].set_title(f"member {member}: density, learning rate and phase")
        figure.align_ylabels()
    return figure


def learning(reports: pd.DataFrame, member: int) -> Figure:
    """Training and validation loss (nats) and validation accuracy (percent) against the step; the test
    accuracy as one point at the end. Raises ValueError without reports of the member.
    """
    rows = of_member(reports, member, _REPORTS)
    need(rows, _REPORTS, ("train_loss", "validation_loss", "validation_accuracy", "test_accuracy"))
    with sheet(6.4, 4.6) as figure:
        losses, right = figure.subplots(2, 1, sharex=True)
        for index, name in enumerate(("train_loss", "validation_loss")):
            _line(losses, rows, name, index, label=name.replace("_", " "))
        losses.set_ylabel("loss (nats)")
        losses.legend()
        _line(right, rows, "validation_accuracy", 1, label="validation accuracy")
        tested = rows[rows["test_accuracy"].notna()]
        right.plot(
            tested["step"], tested["test_accuracy"], "*k", markersize=9, label="test accuracy (at the end)"
        )
        accuracy_axis(right, "accuracy")
        right.legend(loc="lower right")
        step_axis(right, rows["step"].max())
        losses.set_title(f"member {member}: loss and accuracy")
        figure.align_ylabels()
    return figure


def _with(rows: pd.DataFrame, name: str) -> pd.DataFrame | None:
    """The rows with the number `name` as a column; None where no row has it."""
    try:
        return spread(rows, [name], "")
    except MissingRows:
        return None


def _line(axes: Axes, rows: pd.DataFrame, name: str, index: int, **more: Any) -> None:
    style = series(index) | {"markersize": 3.0 if len(rows) < 60 else 0.0}
    axes.plot(rows["step"], rows[name], **style | more)

"""Tickets and what is made of them: overlaps, lines between them, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsepop.figures.frames import need
from sparsepop.figures.style import COLORS, GREY, series, sheet

SHOWN = 8  # characters of a ticket's id that tell it from others
NUMBERED = 12  # tickets up to which every cell of the matrix holds its number


def overlap_matrix(overlaps: pd.DataFrame) -> Figure:
    """Overlaps of tickets' masks (Jaccard index, 0..1) as a matrix of colours, from a square frame with the
    tickets' names on both sides (`ensemble.frames.overlaps`); with numbers, for up to twelve tickets.

    Raises ValueError for a frame that is empty or not square.
    """
    need(overlaps, "the overlaps of tickets' masks")
    if list(overlaps.index) != list(overlaps.columns):
        raise ValueError(f"overlaps of {list(overlaps.index)} with others: give a square frame")
    values, count = overlaps.to_numpy(dtype=float), len(overlaps)
    with sheet(5.6, 4.8) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(values, cmap="cividis", vmin=0.0, vmax=1.0)
        axes.set_xticks(range(count), overlaps.columns, rotation=90, fontsize=8.0)
        axes.set_yticks(range(count), overlaps.index, fontsize=8.0)
        for row, column in np.ndindex(values.shape) if count <= NUMBERED else ():
            ink: Any = {"color": "black" if values[row, column] > 0.5 else "white", "fontsize": 8.0}
            axes.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", **ink)
        figure.colorbar(image, ax=axes, label="overlap (weights in both / in either)")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set(title="overlap of the masks", xlabel="ticket", ylabel="ticket")
    return figure


def loss_line(points: pd.DataFrame) -> Figure:
    """The loss (nats) on straight lines between tickets, from a frame with columns pair, place (0: the first
    ticket, 1: the second) and loss (`ensemble.frames.lines`). A hump is a barrier between two basins.

    Raises ValueError for a frame without rows or one of these columns.
    """
    need(points, "points on lines between tickets", ("pair", "place", "loss"))
    with sheet() as figure:
        axes = figure.add_subplot()
        for index, (pair, rows) in enumerate(points.groupby("pair", sort=False)):
            axes.plot(rows["place"], rows["loss"], **series(index), markersize=4, label=str(pair))
        axes.set(xlabel="place on the line (0: first ticket, 1: second)", ylabel="loss (nats)")
        axes.set_title("loss along the line between tickets")
        figure.legend(loc="outside right upper", fontsize=8.0)
    return figure


def calibration(ensembles: pd.DataFrame) -> Figure:
    """Expected calibration error (percent) of each row of `ensembles`, as it is and after its temperature was
    fitted on validation, beside the negative log-likelihood (nats); no second bar where no temperature was
    the best. A row of one ticket has its name. Raises ValueError without rows.
    """
    what = "the table `ensembles` (python -m sparsepop.superpose writes it)"
    rows = need(ensembles, what, ("kind", "tickets", "split", "calibration_error", "nll", "numbers"))
    scaled = ("scaled_calibration_error", "scaled_nll")
    rows = rows.assign(**{name: [each.get(name, np.nan) for each in rows["numbers"]] for name in scaled})
    parts = zip(rows["kind"], rows["tickets"], rows["split"], strict=True)
    names = [
        f"{kind} {'of ' * (len(tickets) > 1)}{tickets_text(tickets)}, {split}"
        for kind, tickets, split in parts
    ]
    with sheet(6.4, 1.6 + 0.45 * len(rows)) as figure:
        errors, nlls = figure.subplots(1, 2, sharey=True)
        _pairs_of_bars(errors, 100 * rows["calibration_error"], 100 * rows["scaled_calibration_error"])
        _pairs_of_bars(nlls, rows["nll"], rows["scaled_nll"])
        errors.set_xlabel("calibration error (%)")
        nlls.set_xlabel("negative log-likelihood (nats)")
        errors.set_yticks(range(len(rows)), names)
        errors.invert_yaxis()
        errors.set_title("calibration of tickets, and of what was made of them")
        figure.legend(*errors.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure


def tickets_text(tickets: Sequence[str]) -> str:
    """How many tickets there are, or which one, by the beginning of its id."""
    return tickets[0][:SHOWN] if len(tickets) == 1 else str(len(tickets))


def _pairs_of_bars(axes: Axes, plain: pd.Series, scaled: pd.Series) -> None:
    places = np.arange(len(plain))
    style: Any = {"height": 0.34, "edgecolor": "white"}
    axes.barh(places - 0.18, plain, color=COLORS[0], label="as it is", **style)
    axes.barh(places + 0.18, scaled, color=COLORS[1], hatch="//", label="temperature scaled", **style)


def reliability(bins: pd.DataFrame) -> Figure:
    """Accuracy against confidence (percent, bins of confidence), for each network of a frame with columns
    network, confidence, accuracy and share (of the samples, `ensemble.frames.reliability`): on the diagonal
    a network is right as often as it says; larger marks stand for more samples.

    Raises ValueError for a frame without rows or one of these columns.
    """
    need(bins, "bins of confidence", ("network", "confidence", "accuracy", "share"))
    with sheet(5.2, 4.4) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.9, linestyle="--", label="calibrated", zorder=1)
        for index, (network, rows) in enumerate(bins.groupby("network", sort=False)):
            style, across, up = series(index), 100 * rows["confidence"], 100 * rows["accuracy"]
            axes.plot(across, up, **style | {"marker": None}, label=str(network))
            marks: Any = {"color": style["color"], "marker": style["marker"], "alpha": 0.7, "linewidths": 0}
            axes.scatter(across, up, 8 + 160 * rows["share"], **marks)
        axes.set(xlabel="confidence (%)", ylabel="accuracy (%)", xlim=(0, 102), ylim=(0, 102))
        axes.set_title("reliability")
        axes.legend(loc="upper left", fontsize=8.0)
    return figure

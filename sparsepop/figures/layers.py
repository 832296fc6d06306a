"""Layers over time: how much of each is alive, and what the thresholds, coefficients and gradients do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from sparsepop.figures.axes import percent, shares_axis, step_axis, wide_axis
from sparsepop.figures.frames import need, numbers_in, of_member, spread
from sparsepop.figures.style import GREY, series, sheet

LINES = 7  # layers drawn as lines; of more, a map of colours says more
_LAYERS = "the table `layers` of a member that has reported"


def remaining(layers: pd.DataFrame, member: int) -> Figure:
    """The remaining ratio (alive weights over all, percent, log scale) of each layer against the step: lines
    for up to seven layers, a map of colours, first layer at the top, for more.

    Raises ValueError without rows of the member.
    """
    rows = need(of_member(layers, member, _LAYERS), _LAYERS, ("layer", "size", "alive"))
    rows = rows.assign(ratio=rows["alive"].astype(float) / rows["size"].astype(float))
    names = list(dict.fromkeys(rows["layer"]))
    if len(names) > LINES:
        return _remaining_map(rows, names, member)
    with sheet() as figure:
        axes = figure.add_subplot()
        _lines(axes, rows, "ratio", names)
        shares_axis(axes, rows["ratio"])
        axes.set_ylabel("remaining ratio (% of the layer's weights)")
        step_axis(axes, rows["step"].max())
        axes.set_title(f"member {member}: remaining ratio by layer")
        figure.legend(loc="outside right upper", fontsize=8.0)
    return figure


def thresholds(layers: pd.DataFrame, member: int) -> Figure:
    """Trained thresholds of each layer against the step: the mean as a line, smallest to largest as a band.

    Raises ValueError where no row of the member holds `threshold_mean` (a member that trained thresholds).
    """
    names = ("threshold_mean", "threshold_min", "threshold_max")
    rows = spread(of_member(layers, member, _LAYERS), names, "layers of a member that trained thresholds")
    shown = list(dict.fromkeys(rows["layer"]))
    with sheet(6.4, 4.2) as figure:
        axes = figure.add_subplot()
        _lines(axes, rows, "threshold_mean", shown)
        for index, layer in enumerate(shown[:LINES]):
            own = rows[rows["layer"] == layer]
            band = (own["threshold_min"].astype(float), own["threshold_max"].astype(float))
            axes.fill_between(own["step"], *band, color=series(index)["color"], alpha=0.15, linewidth=0)
        axes.set_ylabel("threshold (units of the weights): mean, range")
        step_axis(axes, rows["step"].max())
        axes.set_title(f"member {member}: thresholds by layer")
        figure.legend(loc="outside right upper", fontsize=8.0)
    return figure


def coefficients(layers: pd.DataFrame, member: int, step: int | None = None) -> Figure:
    """HALO's coefficients against their weights (both log axes) at `step` (default: the last that has them):
    for each layer the geometric mean of |c| in each decade of |w|, beside the slopes 1/3 (where psi balances
    the weights) and 1/4 (where weight decay does).

    Raises ValueError where no row of the member holds them (a member trained with Halo, before its cut).
    """
    what = "layers of a member trained with Halo, before its cut"
    rows = of_member(layers, member, _LAYERS)
    names = sorted(name for name in numbers_in(rows, "coefficient_1e"))
    rows = spread(rows, names or ["coefficient_1e-3"], what)
    rows = need(rows[rows["step"] == (rows["step"].max() if step is None else step)], f"{what}, at that step")
    decades = {name: 10.0 ** (int(name.removeprefix("coefficient_1e")) + 0.5) for name in names}
    with sheet() as figure:
        axes = figure.add_subplot()
        for index, (_, row) in enumerate(rows.iterrows()):
            known = sorted((decades[name], row[name]) for name in names if np.isfinite(row[name]))
            label = row["layer"] if index < LINES else "_"
            axes.plot(*zip(*known, strict=True), **series(index), label=label)
        _guides(axes)
        axes.set(xscale="log", yscale="log", xlabel="|weight| (middle of its decade)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("|coefficient| (geometric mean)")
        axes.set_title(f"member {member}, step {rows['step'].iloc[0]}: coefficients against weights")
        figure.legend(loc="outside right upper", fontsize=8.0)
    return figure


def _guides(axes: Axes) -> None:
    """The two slopes that the theory knows, from the lower left corner of what is drawn."""
    points = np.concatenate([np.asarray(line.get_xydata(), dtype=float) for line in axes.get_lines()])
    across = np.array([points[:, 0].min(), points[:, 0].max()])
    for slope, dash in ((1 / 3, "--"), (1 / 4, ":")):
        up = points[:, 1].min() * (across / across[0]) ** slope
        axes.plot(across, up, color=GREY, linewidth=0.9, linestyle=dash, label=f"slope {slope:.2g}", zorder=1)


def gradients(reports: pd.DataFrame, member: int) -> Figure:
    """The gradient's norm in each stage of the network (log axis) against the step, and above it beta, the
    weight of the dynamic activations that a method fades out, where it has one.

    Raises ValueError where no report of the member holds `gradient_*` (a member with GradientFlow).
    """
    what = "reports of a member with GradientFlow"
    rows = of_member(reports, member, what)
    stages = numbers_in(rows, "gradient_")
    known = spread(rows, [*stages, "beta"] if stages else ["gradient_*"], what)
    faded = known["beta"].notna().any()
    with sheet(6.4, 5.0 if faded else 3.9) as figure:
        heights = [1, 2] if faded else [1]
        panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        if faded:
            panels[0].plot(known["step"], known["beta"], **series(6) | {"markersize": 3.0})
            panels[0].set_ylabel("beta (share)")
        for index, name in enumerate(stages):
            style = series(index) | {"markersize": 3.0, "label": f"stage {name.removeprefix('gradient_')}"}
            panels[-1].plot(known["step"], known[name], **style)
        wide_axis(panels[-1], pd.Series(known[stages].to_numpy().ravel()).dropna())
        panels[-1].set_ylabel("gradient norm (alive weights)")
        step_axis(panels[-1], rows["step"].max())
        panels[0].set_title(f"member {member}: gradient flow by stage")
        figure.legend(loc="outside right upper", fontsize=8.0)
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, column: str, names: list[str]) -> None:
    for index, layer in enumerate(names[:LINES]):
        own = rows[rows["layer"] == layer]
        style: Any = series(index) | {"markersize": 3.0 if len(own) < 60 else 0.0}
        axes.plot(own["step"], own[column].astype(float), label=layer, **style)


def _remaining_map(rows: pd.DataFrame, names: list[str], member: int) -> Figure:
    table = rows.pivot_table(index="layer", columns="step", values="ratio", aggfunc="last").loc[names]
    least = float(rows["ratio"].where(rows["ratio"] > 0, 1.0).min())
    with sheet(7.2, min(10.0, 1.2 + 0.17 * len(names))) as figure:
        axes = figure.add_subplot()
        low = min(least, 0.1)
        norm = LogNorm(low, 1.0)
        mesh = axes.pcolormesh(_edges(table.columns), range(len(names) + 1), table, norm=norm, cmap="cividis")
        axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7.0)
        axes.invert_yaxis()
        axes.set_facecolor("0.85")  # a layer without any weight, and reports that are missing
        bar = figure.colorbar(mesh, ax=axes, label="remaining ratio (% of the layer's weights)")
        ticks = _ticks(low, sorted({least, float(rows["ratio"].max()) or least}))
        bar.ax.yaxis.set_major_locator(FixedLocator(ticks))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(percent))
        bar.ax.minorticks_off()
        step_axis(axes, rows["step"].max())
        axes.set_title(f"member {member}: remaining ratio by layer")
    return figure


def _ticks(low: float, known: list[float]) -> list[float]:
    """Ticks of a logarithmic axis from `low` to 1: the least and the largest that is there, and between them
    1 and 3 in each decade, where labels do not touch.
    """
    room = 0.08 * np.log(1 / low)
    round_ones = [first * 10.0**-decade for decade in range(1 + int(-np.log10(low) + 1)) for first in (1, 3)]
    kept: list[float] = []
    for tick in [*known, *round_ones]:
        if low <= tick <= 1.0 and all(abs(np.log(tick / other)) >= room for other in kept):
            kept.append(tick)
    return sorted(kept)


def _edges(steps: pd.Index) -> list[float]:
    """Where the cells of steps meet: each ends at its step, for a report tells of what led to it."""
    known = list(map(float, steps))
    first = known[0] - (known[1] - known[0]) if len(known) > 1 else 0.0
    return [max(0.0, first), *known]

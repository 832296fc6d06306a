"""Populations whose members are made one network now and then: what each merge cost, and what it changed."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sparsepop.figures.axes import accuracy_axis, percent, step_axis
from sparsepop.figures.frames import need, spread
from sparsepop.figures.style import series, sheet
from sparsepop.results.lineage import merges
from sparsepop.results.table import counted

_WHAT = "events of a population whose members are merged or superposed"
# as rounds of grow-and-prune, and superpositions, name them
_STAGES = {
    "members": ("members",),
    "combined": ("dense", "unpruned"),
    "pruned back": ("merged", "recalibrated"),
}
_SENT = {"up": "bytes_up", "down": "bytes_down"}


def rounds(events: pd.DataFrame) -> Figure:
    """At each round's end, over the step and as means over groups: the validation accuracy of the members'
    own networks, of the combined one, and of what became of it, pruned back (percent); how much of the masks
    has changed since the round before (of those that grew) or with the merge (percent); and what all that
    took it sent and received (MB).

    Raises MissingRows where no event is of a round's end.
    """
    need(events, _WHAT, ("kind", "step", "overlap", "numbers"))
    rows = events[events["kind"].isin(("merge", "superpose"))]
    names = [name for stages in _STAGES.values() for name in stages]
    told = spread(spread(rows, ["round_end"], _WHAT), [*names, "changed", *_SENT.values()], _WHAT)
    told["step"] = told["round_end"]  # an event may have been written later
    with sheet(6.4, 6.4) as figure:
        scores, masks, sent = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
        means = told.groupby("step")[names].mean()
        for place, (label, stages) in enumerate(_STAGES.items()):
            _line(scores, means[list(stages)].bfill(axis=1).iloc[:, 0], place, label)
        accuracy_axis(scores, "validation accuracy")
        scores.legend()
        changed = told["changed"].fillna(1 - told["overlap"])
        _line(masks, changed.groupby(told["step"]).mean(), 3, "masks")
        masks.set_ylabel("masks changed (%)")
        masks.yaxis.set_major_formatter(FuncFormatter(percent))
        for place, (label, name) in enumerate(_SENT.items()):
            if told[name].notna().any():
                _line(sent, told.groupby("step")[name].sum(min_count=1) / 1e6, 4 + place, label)
        sent.set_ylabel("sent (MB)")
        sent.legend()
        step_axis(sent, told["step"].max())
        made = merges(events)
        groups, taken = len({each.members for each in made}), len({each.step for each in made})
        who = f"means over {groups} groups of members" if groups > 1 else "members"
        scores.set_title(f"{who}, made one network {counted(taken, 'time')}")
        figure.align_ylabels()
    return figure


def _line(axes: Axes, values: pd.Series, place: int, label: str) -> None:
    known = values.dropna()
    axes.plot(known.index, known, **series(place), label=label)

"""What single methods did, from their notes: grow-and-prune's schedule, superposing of cheap tickets."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sparsepop.figures.axes import accuracy_axis, step_axis
from sparsepop.figures.frames import need, of_member, spread
from sparsepop.figures.style import COLORS, GREY, series, sheet

_EVENTS = "events of a member"


def gap_schedule(events: pd.DataFrame, member: int) -> Figure:
    """Grow-and-prune: which layers are dense from when to when (bars from each `grow` to the next `prune`, or
    to the `merge` with what others grew), and above each bar the phase; layers from the input down.

    Raises ValueError where no event of the member is a `grow` (a member trained with grow-and-prune).
    """
    what = f"{_EVENTS} trained with grow-and-prune"
    rows = need(of_member(events, member, what), what, ("kind", "step", "message", "numbers"))
    grown = spread(need(rows[rows["kind"] == "grow"], what), ["phase"], what)
    columns = zip(grown["step"], grown["phase"].astype(int), grown["message"], strict=True)
    spans = [(step, _until(rows, step), phase, message.split(", ")) for step, phase, message in columns]
    layers = _layers(rows)
    with sheet(7.2, min(9.0, 1.6 + 0.2 * len(layers))) as figure:
        axes = figure.add_subplot()
        for step, end, phase, names in spans:
            bar: Any = {"color": COLORS[phase % 4], "hatch": "//" if phase % 2 else None}
            places = [layers.index(name) for name in names]
            axes.barh(places, max(end - step, 0), left=step, height=0.7, edgecolor="white", **bar)
            axes.annotate(f"{phase}", (step, -0.75), fontsize=7.0, color=GREY)
        axes.set_yticks(range(len(layers)), layers, fontsize=7.0 if len(layers) > 12 else 9.0)
        axes.set_ylim(len(layers) - 0.4, -1.1)
        step_axis(axes, max(end for _, end, *_ in spans))
        axes.set_title(f"member {member}: layers that are dense, phases 0 to {grown['phase'].max():.0f}")
    return figure


def superposition(events: pd.DataFrame, member: int) -> Figure:
    """Sup-tickets: the validation accuracy (percent) of each cheap ticket, and of what became of them:
    their average, pruned back, with statistics estimated anew.

    Raises ValueError where no event of the member is a `superpose` (a member trained with Sup-tickets).
    """
    what = f"{_EVENTS} trained with Sup-tickets"
    rows = need(of_member(events, member, what), what, ("kind", "numbers"))
    stages = ["unpruned", "pruned", "recalibrated"]
    made = spread(need(rows[rows["kind"] == "superpose"], what), stages, what).iloc[-1]
    tickets = spread(need(rows[rows["kind"] == "ticket"], what), ["ticket", "accuracy"], what)
    with sheet() as figure:
        axes = figure.add_subplot()
        axes.plot(tickets["ticket"], tickets["accuracy"], **series(0), label="a ticket")
        last = float(tickets["ticket"].max())
        places = [last + 1 + place for place in range(len(stages))]
        axes.plot(places, [made[name] for name in stages], **series(5), label="their average")
        names = [f"{ticket:.0f}" for ticket in tickets["ticket"]]
        axes.set_xticks([*tickets["ticket"], *places], [*names, *stages])
        axes.set_xlabel("ticket (number), then stages of the average")
        accuracy_axis(axes, "validation accuracy")
        axes.set_title(f"member {member}: {len(tickets)} tickets become one network")
        axes.legend()
    return figure


def _until(rows: pd.DataFrame, step: int) -> int:
    """The step of the first prune or merge after one; without one, the last step that is known."""
    ends = rows[rows["kind"].isin(("prune", "merge")) & (rows["step"] > step)]["step"]
    return int(ends.min()) if len(ends) else int(rows["step"].max())


def _layers(rows: pd.DataFrame) -> list[str]:
    """All layers that grew, in the order in which they first did."""
    grown = rows[rows["kind"] == "grow"].sort_values("step")["message"]
    return list(dict.fromkeys(layer for message in grown for layer in str(message).split(", ")))

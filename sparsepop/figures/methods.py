"""What single methods did, from their notes: grow-and-prune's schedule, superposing of cheap tickets."""

from __future__ import annotations

from typing import Any, TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sparsepop.figures.axes import accuracy_axis, step_axis
from sparsepop.figures.frames import need, of_member, spread
from sparsepop.figures.style import COLORS, GREY, series, sheet
from sparsepop.results.lineage import merges

PARTITIONS = 6  # that have a colour of their own at most
Span: TypeAlias = tuple[int, int, int, tuple[str, ...]]  # first step, last step, phase, layers
_EVENTS = "events of a member"


def gap_schedule(events: pd.DataFrame, member: int, reports: pd.DataFrame | None = None) -> Figure:
    """Grow-and-prune: which layers are dense from when to when (bars from each `grow` to the next `prune`, or
    to the `merge` with what others grew), and above them the phase; of all members of a group that is merged.
    A colour for each partition, where there are few; else the colours of phases take turns. Layers stand in
    the order in which they first grew. With `reports`, a panel above shows what accuracy each phase left:
    the validation accuracy (percent) of the same members at each of their reports.

    Raises ValueError where no event of the member is a `grow` (a member trained with grow-and-prune).
    """
    what = f"{_EVENTS} trained with grow-and-prune"
    rows = need(of_member(events, member, what), what, ("kind", "step", "message", "numbers", "overlap"))
    need(rows[rows["kind"] == "grow"], what)
    group = _group(events, member)
    spans = [span for one in group for span in _spans(of_member(events, one, what), what)]
    spans.sort(key=lambda span: span[0])  # of one step those of the first member come first
    layers = list(dict.fromkeys(name for *_, names in spans for name in names))
    partitions = _partitions(spans)
    height = min(9.0, 1.6 + 0.2 * len(layers) + 0.3 * bool(partitions))
    with sheet(7.2, height + 1.8 * (reports is not None)) as figure:
        if reports is None:
            top = axes = figure.add_subplot()
        else:
            top, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1.8, height - 0.8))
            _scores(top, reports, group, sorted({end for _, end, *_ in spans}))
        _bars(axes, spans, layers, partitions)
        who, last = ", ".join(map(str, group)), max(phase for *_, phase, _ in spans)
        top.set_title(f"member{'s' * (len(group) > 1)} {who}: layers that are dense, phases 0 to {last}")
        if partitions:
            handles = [
                Patch(color=color, label=f"partition {place}")
                for place, color in enumerate(COLORS[: len(partitions)])
            ]
            figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8.0)
    return figure


def _bars(axes: Axes, spans: list[Span], layers: list[str], partitions: list[tuple[str, ...]]) -> None:
    for step, end, phase, names in spans:
        bar: Any = {"color": COLORS[phase % 4], "hatch": "//" if phase % 2 else None}
        if partitions:
            bar = {"color": COLORS[partitions.index(names)]}
        places = [layers.index(name) for name in names]
        axes.barh(places, max(end - step, 0), left=step, height=0.7, edgecolor="white", **bar)
    for step, phase in sorted({(step, phase) for step, _, phase, _ in spans}):
        axes.annotate(f"{phase}", (step, -0.75), fontsize=7.0, color=GREY)
    axes.set_yticks(range(len(layers)), layers, fontsize=7.0 if len(layers) > 12 else 9.0)
    axes.set_ylim(len(layers) - 0.4, -1.1)
    step_axis(axes, max(end for _, end, *_ in spans))


def _scores(axes: Axes, reports: pd.DataFrame, group: list[int], ends: list[int]) -> None:
    """The accuracy of each of the group at its reports, and a line where each phase ends."""
    need(reports, "reports of the member", ("member", "step", "validation_accuracy"))
    for end in ends:
        axes.axvline(end, color=GREY, linewidth=0.6, linestyle=":")
    known = set(reports["member"])  # who came late only took over what was merged
    for place, member in enumerate(member for member in group if member in known):
        rows = of_member(reports, member, "reports of the member")
        axes.plot(rows["step"], rows["validation_accuracy"], **series(place), label=f"member {member}")
    accuracy_axis(axes, "validation\naccuracy")
    if 1 < len(group) <= PARTITIONS:
        axes.legend(fontsize=8.0, ncols=2)


def _group(events: pd.DataFrame, member: int) -> list[int]:
    """The member, and all that it was merged with, by number."""
    merged = merges(events[events["kind"] == "merge"])
    return sorted({member}.union(*(each.members for each in merged if member in each.members)))


def _spans(rows: pd.DataFrame, what: str) -> list[Span]:
    """What a member grew, if anything."""
    grown = rows[rows["kind"] == "grow"]
    if grown.empty:  # it came late, and took what the others had merged
        return []
    grown = spread(grown, ["phase"], what)
    columns = zip(grown["step"], grown["phase"].astype(int), grown["message"], strict=True)
    return [(step, _until(rows, step), phase, tuple(message.split(", "))) for step, phase, message in columns]


def _partitions(spans: list[Span]) -> list[tuple[str, ...]]:
    """The sets of layers that grow together, in the order in which they first did; none where these are
    many, or layers grow now with some and now with others.
    """
    sets = list(dict.fromkeys(names for *_, names in spans))
    layers = [name for names in sets for name in names]
    return sets if len(sets) <= PARTITIONS and len(layers) == len(set(layers)) else []


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

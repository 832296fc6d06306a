"""Kinship of tickets: how long the weights of several were one network's."""

from __future__ import annotations

from collections.abc import Sequence

from sparsepop.ensemble.setting import Setting
from sparsepop.tickets import Provenance, Ticket


def common_step(one: Provenance, other: Provenance) -> int:
    """The step of the last common ancestor of two tickets' weights: up to there both were one network. 0 for
    tickets of different experiments, of members that never took each other's state, or of no known lineage.
    """
    if one.experiment != other.experiment:
        return 0
    common = 0
    for (member, _, end), (twin, _, twins_end) in zip(one.lineage, other.lineage, strict=False):
        if member == twin:
            common = min(end, twins_end)
        if (member, end) != (twin, twins_end):
            break
    # a ticket from within a member's run ends before its lineage does
    return min([common, *(source.step for source in (one, other) if source.step is not None)])


def nearest(tickets: Sequence[Ticket], setting: Setting) -> list[Ticket]:
    """The best of `tickets` by validation accuracy, and of the others those whose last common ancestor with
    it is the latest; the best alone where nobody shares one with it.
    """
    best, *others = sorted(tickets, key=setting.accuracy, reverse=True)
    steps = [common_step(best.provenance, other.provenance) for other in others]
    latest = max(steps, default=0)
    return [best, *(other for other, step in zip(others, steps, strict=True) if 0 < step == latest)]

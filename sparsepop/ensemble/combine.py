"""All ways to make one ticket of several, by name."""

from __future__ import annotations

from collections.abc import Sequence

from sparsepop.ensemble.kin import nearest
from sparsepop.ensemble.setting import Setting
from sparsepop.ensemble.soups import Superposed, check_alike, greedy, same_mask, superpose
from sparsepop.tickets import Ticket

HOW = ("uniform", "score", "greedy", "soup", "lineage")


def combine(
    tickets: Sequence[Ticket],
    setting: Setting,
    how: str = "uniform",
    *,
    density: float | None = None,
    scope: str = "global",
    recalibrate: bool = True,
) -> Superposed:
    """`tickets` superposed: `uniform`, all alike; `score`, in proportion to their validation accuracy;
    `greedy`, those alone that pay; `soup`, all alike, where all share one mask; `lineage`, the best and its
    nearest relatives (`kin.nearest`), all alike. ValueError for other names, for a soup of tickets with
    different masks, and where the best has no relatives.
    """
    if how not in HOW:
        raise ValueError(f"unknown way to superpose {how!r}: choose one of {', '.join(HOW)}")
    if how == "greedy":
        return greedy(tickets, setting, density=density, scope=scope, recalibrate=recalibrate)[0]
    if how == "soup" and not same_mask(tickets):
        raise ValueError("a soup needs tickets that share one mask, these do not: use uniform or greedy")
    if how == "lineage":
        tickets = _family(tickets, setting)
    weights = [setting.accuracy(ticket) for ticket in tickets] if how == "score" else None
    return superpose(
        tickets, setting, weights, density=density, scope=scope, recalibrate=recalibrate, how=how
    )


def _family(tickets: Sequence[Ticket], setting: Setting) -> list[Ticket]:
    check_alike(tickets)
    found = nearest(tickets, setting)
    if len(found) == 1:
        raise ValueError(
            f"no ticket has an ancestor in common with the best one, {found[0].id[:8]}: use greedy"
        )
    return found

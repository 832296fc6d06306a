"""All ways to make one ticket of several, by name."""

from __future__ import annotations

from collections.abc import Sequence

from sparsepop.ensemble.setting import Setting
from sparsepop.ensemble.soups import Superposed, greedy, same_mask, superpose
from sparsepop.tickets import Ticket

HOW = ("uniform", "score", "greedy", "soup")


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
    `greedy`, those alone that pay; `soup`, all alike, where all share one mask. ValueError for other names,
    and for a soup of tickets with different masks.
    """
    if how not in HOW:
        raise ValueError(f"unknown way to superpose {how!r}: choose one of {', '.join(HOW)}")
    if how == "greedy":
        return greedy(tickets, setting, density=density, scope=scope, recalibrate=recalibrate)[0]
    if how == "soup" and not same_mask(tickets):
        raise ValueError("a soup needs tickets that share one mask, these do not: use uniform or greedy")
    weights = [setting.accuracy(ticket) for ticket in tickets] if how == "score" else None
    return superpose(
        tickets, setting, weights, density=density, scope=scope, recalibrate=recalibrate, how=how
    )

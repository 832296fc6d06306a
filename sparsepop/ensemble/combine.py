"""All ways to make one ticket of several, by name."""

from __future__ import annotations

from collections.abc import Sequence

from sparsepop.ensemble.kin import nearest
from sparsepop.ensemble.setting import Setting
from sparsepop.ensemble.soups import Superposed, check_alike, greedy, same_mask, superpose
from sparsepop.tickets import Ticket

HOW = ("uniform", "score", "greedy", "soup", "lineage", "interpolate")


def combine(
    tickets: Sequence[Ticket],
    setting: Setting,
    how: str = "uniform",
    *,
    density: float | None = None,
    scope: str = "global",
    recalibrate: bool = True,
    at: float = 0.5,
) -> Superposed:
    """`tickets` superposed: `uniform`, all alike; `score`, in proportion to their validation accuracy;
    `greedy`, those alone that pay; `soup`, all alike, where all share one mask; `lineage`, the best and its
    nearest relatives (`kin.nearest`), all alike; `interpolate`, two of them, the second with the share `at`.
    ValueError for other names, for a soup of tickets with different masks, where the best has no relatives,
    and for a line between other than two.
    """
    if how not in HOW:
        raise ValueError(f"unknown way to superpose {how!r}: choose one of {', '.join(HOW)}")
    if how == "greedy":
        return greedy(tickets, setting, density=density, scope=scope, recalibrate=recalibrate)[0]
    if how == "soup" and not same_mask(tickets):
        raise ValueError("a soup needs tickets that share one mask, these do not: use uniform or greedy")
    if how == "lineage":
        tickets = _family(tickets, setting)
    weights = _weights(tickets, setting, how, at)
    return superpose(
        tickets, setting, weights, density=density, scope=scope, recalibrate=recalibrate, how=how
    )


def _weights(tickets: Sequence[Ticket], setting: Setting, how: str, at: float) -> list[float] | None:
    if how == "score":
        return [setting.accuracy(ticket) for ticket in tickets]
    if how != "interpolate":
        return None
    if len(tickets) != 2:
        raise ValueError(f"a line joins 2 tickets, and there are {len(tickets)}: name two of them")
    if not 0.0 <= at <= 1.0:
        raise ValueError(f"at={at} is no place on a line between two tickets: give one in [0, 1]")
    return [1.0 - at, at]


def _family(tickets: Sequence[Ticket], setting: Setting) -> list[Ticket]:
    check_alike(tickets)
    found = nearest(tickets, setting)
    if len(found) == 1:
        best = found[0]
        if not best.provenance.lineage:
            raise ValueError(
                f"the best ticket, {best.id[:8]}, has no lineage, for members that were merged in training "
                "are everybody's: use uniform"
            )
        raise ValueError(f"no ticket has an ancestor in common with the best one, {best.id[:8]}: use greedy")
    return found

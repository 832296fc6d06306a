"""Whose weights a state holds: it says so itself, so that a member's end reads nothing of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

LINEAGE = "lineage"  # in a state that is saved or shared, beside what training has produced
Lineage: TypeAlias = tuple[tuple[int, int], ...]
"""(member, from step), oldest first: each trained the weights up to where the next one begins."""
MIXED: Lineage = ()
"""That of weights which were merged from several members': no one of them is their ancestor."""


def lineage_of(state: Mapping[str, Any]) -> Lineage | None:
    """Whose weights `state` holds; None where it comes from before states said so."""
    return state.get(LINEAGE)


def handed_on(state: Mapping[str, Any], member: int) -> Lineage | None:
    """The lineage of `member`, which goes on from another's `state`."""
    before = lineage_of(state)
    return before if before in (None, MIXED) else (*before, (member, state["step"]))


def spans(lineage: Lineage, end: int) -> list[tuple[int, int, int]]:
    """(member, from step, to step) of weights that stand at step `end`, as `results.ancestors` gives them;
    none of mixed ones."""
    if lineage == MIXED:
        return []
    ends = [*(begin for _, begin in lineage[1:]), end]
    return [(member, begin, until) for (member, begin), until in zip(lineage, ends, strict=True)]

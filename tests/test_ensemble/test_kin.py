"""Who is whose neighbour in lineage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparsepop.ensemble import combine, common_step, nearest, superpose
from sparsepop.tickets import Provenance, Ticket
from tests.test_ensemble.made import SETTING, trained

FOUNDER = ((1, 0, 40),)


def source(*lineage: tuple[int, int, int], step: int | None = 40, experiment: str = "e") -> Provenance:
    return Provenance(experiment=experiment, step=step, lineage=lineage)


@pytest.mark.parametrize(
    ("one", "other", "step"),
    [
        (source(*FOUNDER), source((1, 0, 20), (3, 20, 40)), 20),
        (source((1, 0, 20), (3, 20, 40)), source((1, 0, 20), (4, 20, 40)), 20),
        (source((1, 0, 10), (2, 10, 40)), source((1, 0, 20), (4, 20, 40)), 10),
        (source((1, 0, 10), (2, 10, 30), (5, 30, 40)), source((1, 0, 10), (2, 10, 40)), 30),
        (source(*FOUNDER), source((2, 0, 40)), 0),
        (source((1, 0, 10), (2, 10, 40)), source((3, 0, 10), (2, 10, 40)), 0),
        (source(*FOUNDER, step=16), source(*FOUNDER, step=24), 16),
        (source(*FOUNDER, step=16), source((1, 0, 20), (3, 20, 40)), 16),
        (source(*FOUNDER), source(*FOUNDER, experiment="f"), 0),
        (source(), source(), 0),
        (source(*FOUNDER, step=None), source(*FOUNDER), 40),
    ],
)
def test_the_step_of_the_last_common_ancestor(one: Provenance, other: Provenance, step: int) -> None:
    assert common_step(one, other) == common_step(other, one) == step


def family() -> list[Ticket]:
    """The best, a sibling that parted from it at step 20, a cousin at step 10, and a stranger."""
    lineages = [
        ((1, 0, 20), (3, 20, 40)),
        ((1, 0, 20), (4, 20, 40)),
        ((1, 0, 10), (5, 10, 40)),
        ((9, 0, 40),),
    ]
    best, *others = sorted((trained(seed) for seed in range(4)), key=SETTING.accuracy, reverse=True)
    tickets = zip((best, *others), lineages, strict=True)
    return [replace(ticket, provenance=source(*lineage)) for ticket, lineage in tickets]


def test_neighbours_are_those_who_parted_last() -> None:
    best, sibling, cousin, stranger = family()
    shuffled = [stranger, cousin, sibling, best]
    assert nearest(shuffled, SETTING) == [best, sibling]
    assert nearest([stranger, cousin, best], SETTING) == [best, cousin]
    assert nearest([stranger, best], SETTING) == [best]
    made = combine(shuffled, SETTING, "lineage").ticket
    assert made.id == superpose([best, sibling], SETTING).ticket.id
    assert (made.provenance.kind, made.provenance.parents) == ("lineage", (best.id, sibling.id))


def test_a_ticket_without_relatives_has_no_neighbours() -> None:
    best, *_, stranger = family()
    with pytest.raises(ValueError, match=f"{best.id[:8]}.*use greedy"):
        combine([stranger, best], SETTING, "lineage")
    with pytest.raises(ValueError, match="give at least one"):
        combine([], SETTING, "lineage")


def test_members_that_were_merged_in_training_are_everybodys() -> None:
    merged = [replace(ticket, provenance=source()) for ticket in family()[:2]]
    with pytest.raises(ValueError, match=r"has no lineage, for members that were merged .*use uniform"):
        combine(merged, SETTING, "lineage")

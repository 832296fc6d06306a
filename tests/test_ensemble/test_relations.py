"""What is known of tickets together is computed once for each pair."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from sparsepop.ensemble import Relations, relations
from sparsepop.ensemble.lines import Point, line
from sparsepop.methods import ShareWeights
from sparsepop.overlaps import MaskSet, overlap
from tests.test_ensemble.made import SETTING, trained


def test_barriers_are_measured_on_the_split_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def told(*args: Any, split: str = "validation") -> list[Point]:
        measured.append(split)
        return line(*args, points=3, split=split)

    monkeypatch.setattr(relations, "line", told)
    tickets = [trained(seed) for seed in range(2)]
    assert "barrier" in Relations(SETTING, "test", lines=True).of(tickets)
    assert measured == ["test"]


@pytest.mark.parametrize("odd", ["shared", "dense"])
def test_tickets_without_an_average_are_not_compared_by_their_weights(odd: str) -> None:
    """They may vote all the same, whatever they share or keep dense."""
    if odd == "shared":
        one, other = (trained(0, model="resnet-20-w4", first=first) for first in ((), (ShareWeights(),)))
    else:
        one, other = trained(0), trained(1, keep_dense=("conv1.weight",))
    found = Relations(SETTING, "validation", lines=True).of([one, other])
    assert found.keys() == {"disagreement"}


def test_two_tickets_are_compared_once_in_all_combinations(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[MaskSet, MaskSet]] = []

    def counted(one: MaskSet, other: MaskSet) -> float:
        compared.append((one, other))
        return overlap(one, other)

    monkeypatch.setattr(relations, "overlap", counted)
    tickets = [trained(seed) for seed in range(3)]
    known = Relations(SETTING, "validation", lines=False)
    found = [known.of(some)["overlap"] for some in (tickets, tickets, tickets[1:])]
    assert len(compared) == 3
    pairs = [overlap(one.masks, other.masks) for one, other in combinations(tickets, 2)]
    assert found == [sum(pairs) / 3, sum(pairs) / 3, pairs[2]]

"""How tickets relate to each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

from sparsepop.ensemble.kin import common_step
from sparsepop.ensemble.lines import barrier, line
from sparsepop.ensemble.quality import disagreement
from sparsepop.ensemble.setting import Setting
from sparsepop.ensemble.soups import are_alike
from sparsepop.overlaps import overlap
from sparsepop.tickets import Ticket


class Relations:
    """What is known of tickets together, on one split; two are compared once, however many combinations both
    are in."""

    def __init__(self, setting: Setting, split: str, lines: bool) -> None:
        self.setting = setting
        self.split = split
        self.lines = lines
        self._barriers: dict[tuple[str, str], float] = {}
        self._overlaps: dict[tuple[str, str], float] = {}

    def of(self, tickets: Sequence[Ticket]) -> dict[str, float]:
        """Disagreement of all pairs, the step up to which all were one network, and, where they have an
        average, the overlap of all pairs and the highest barrier between consecutive ones (if `lines` are
        asked for).
        """
        numbers = {"disagreement": disagreement([self.setting.outputs(t, self.split)[0] for t in tickets])}
        if len(tickets) > 1 and all(ticket.provenance.lineage for ticket in tickets):
            pairs = combinations((ticket.provenance for ticket in tickets), 2)
            numbers["common_step"] = float(min(common_step(*pair) for pair in pairs))
        if len(tickets) > 1 and are_alike(tickets):
            overlaps = [self._overlap(*pair) for pair in combinations(tickets, 2)]
            numbers["overlap"] = sum(overlaps) / len(overlaps)
            if self.lines:
                numbers["barrier"] = max(self._barrier(*pair) for pair in pairwise(tickets))
        return numbers

    def _overlap(self, one: Ticket, other: Ticket) -> float:
        key = (one.id, other.id)
        if key not in self._overlaps:
            self._overlaps[key] = overlap(one.masks, other.masks)
        return self._overlaps[key]

    def _barrier(self, one: Ticket, other: Ticket) -> float:
        key = (one.id, other.id)
        if key not in self._barriers:
            self._barriers[key] = barrier(line(one, other, self.setting, split=self.split))
        return self._barriers[key]

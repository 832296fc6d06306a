"""What is told of tickets together, as frames that figures take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise

import pandas as pd

from sparsepop.ensemble.lines import line
from sparsepop.ensemble.quality import Outputs, bins_of
from sparsepop.ensemble.setting import Setting
from sparsepop.overlaps import overlap
from sparsepop.tickets import Ticket

SHORT = 8  # digits of an id by which people tell tickets apart


def names(tickets: Sequence[Ticket]) -> list[str]:
    """What tickets are called: the member where one is known and no two are of the same, else the id."""
    members = [ticket.provenance.member for ticket in tickets]
    if None in members or len(set(members)) < len(members):
        return [ticket.id[:SHORT] for ticket in tickets]
    return [f"m{member}" for member in members]


def overlaps(tickets: Sequence[Ticket]) -> pd.DataFrame:
    """The overlap (Jaccard index) of every two tickets' masks, as a square frame with their names."""
    known = names(tickets)
    rows = [[overlap(one.masks, other.masks) for other in tickets] for one in tickets]
    return pd.DataFrame(rows, index=known, columns=known)


def lines(
    tickets: Sequence[Ticket], setting: Setting, points: int = 11, split: str = "validation"
) -> pd.DataFrame:
    """Loss and accuracy on the straight lines between consecutive tickets: columns pair, place, loss,
    accuracy. Raises ValueError for tickets of different networks.
    """
    known = zip(pairwise(names(tickets)), pairwise(tickets), strict=True)
    rows = [
        {"pair": f"{first} to {second}", **asdict(point)}
        for (first, second), pair in known
        for point in line(*pair, setting, points=points, split=split)
    ]
    return pd.DataFrame(rows, columns=["pair", "place", "loss", "accuracy"])


def reliability(networks: Mapping[str, Outputs]) -> pd.DataFrame:
    """Accuracy and confidence in each bin of confidence that has samples: columns network, confidence,
    accuracy, share (of the samples).
    """
    rows = [
        {"network": name, "confidence": confidence, "accuracy": right, "share": share}
        for name, found in networks.items()
        for confidence, right, share in bins_of(*found)
        if share > 0
    ]
    return pd.DataFrame(rows, columns=["network", "confidence", "accuracy", "share"])

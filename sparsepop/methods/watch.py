"""What a report tells of soft masks and of the thresholds behind them; each function syncs the host once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

STATISTICS = ("threshold_mean", "threshold_min", "threshold_max", "empty_units")


def flips(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> list[tuple[int, int]]:
    """For each layer of `new`: how many weights are alive that were not in `old`, and how many no longer
    are.
    """
    came = [(mask & ~old[name]).sum() for name, mask in new.items()]
    went = [(old[name] & ~mask).sum() for name, mask in new.items()]
    return [(up, down) for up, down in torch.stack([torch.stack(came), torch.stack(went)], 1).tolist()]


@torch.no_grad()
def statistics(thresholds: Sequence[Tensor], masks: Iterable[Tensor]) -> list[list[float]]:
    """For each layer the numbers that `STATISTICS` names; an empty unit is an output unit without any weight
    alive.
    """
    rows = []
    for threshold, mask in zip(thresholds, masks, strict=True):
        empty = ~mask.flatten(1).any(1)
        values = (threshold.mean(), threshold.min(), threshold.max(), empty.sum())
        rows.append(torch.stack([value.double() for value in values]))
    found: list[list[float]] = torch.stack(rows).tolist()
    return found

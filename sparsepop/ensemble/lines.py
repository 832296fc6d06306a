"""Straight lines between two tickets: does the loss rise on the way?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch.nn.functional as F

from sparsepop.averaging import has_statistics, merge
from sparsepop.ensemble.setting import Setting
from sparsepop.ensemble.soups import check_alike
from sparsepop.outputs import accuracy
from sparsepop.tickets import Provenance, Ticket, load


@dataclass(frozen=True)
class Point:
    """A place on the line: 0 is the first ticket, 1 the second."""

    place: float
    loss: float
    accuracy: float


def interpolate(one: Ticket, other: Ticket, place: float) -> Ticket:
    """The ticket at `place` (0..1) on the line between two, alive where either is. At the ends it is the
    ticket there, so its other's masks are gone.
    """
    check_alike((one, other))
    if place in (0.0, 1.0):
        return other if place else one
    state = merge(merge(None, one.held(), 1.0), other.held(), place)
    masks = {name: mask | other.masks[name] for name, mask in one.masks.items()}
    return replace(
        one,
        masks=masks,
        weights={name: state[name][mask] for name, mask in masks.items()},
        others={name: value for name, value in state.items() if name not in masks},
        provenance=Provenance(kind="interpolated", parents=(one.id, other.id)),
    )


def line(
    one: Ticket,
    other: Ticket,
    setting: Setting,
    *,
    points: int = 11,
    split: str = "validation",
    recalibrate: bool = True,
) -> list[Point]:
    """Loss and accuracy at `points` equally spaced places, ends included, BatchNorm's statistics re-estimated
    between them: without that a barrier may be one of statistics alone (Jordan et al. 2023, "REPAIR").
    """
    if points < 2:
        raise ValueError(f"a line has two ends, so at least 2 points, not {points}")
    return [_point(one, other, place / (points - 1), setting, split, recalibrate) for place in range(points)]


def barrier(points: Sequence[Point]) -> float:
    """By how much the loss rises at most above the straight line between its values at the ends, at least 0
    (Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis", section 2, which takes
    the mean of both ends).
    """
    first, last = points[0].loss, points[-1].loss
    return max(0.0, *(each.loss - first - each.place * (last - first) for each in points))


def _point(
    one: Ticket, other: Ticket, place: float, setting: Setting, split: str, recalibrate: bool
) -> Point:
    model, _ = load(interpolate(one, other, place), setting.device)
    if recalibrate and 0.0 < place < 1.0 and has_statistics(model):
        setting.recalibrate(model)
    logits, labels = setting.outputs(model, split)
    return Point(place, float(F.cross_entropy(logits, labels)), accuracy(logits, labels))

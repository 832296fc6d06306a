"""How much several masks of the same layers have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

MaskSet = Mapping[str, Tensor]


def overlap(one: MaskSet, other: MaskSet) -> float:
    """Weights alive in both masks, as a share of those alive in either (Jaccard index), over the layers that
    both have."""
    pairs = [(mask, other[name]) for name, mask in one.items() if name in other]
    both = sum(int((mask & twin).sum()) for mask, twin in pairs)
    return both / max(1, sum(int((mask | twin).sum()) for mask, twin in pairs))


def occurrences(masks: Iterable[MaskSet]) -> dict[str, Tensor]:
    """In how many of the masks each weight is alive, int16; one of them may be the counts of others."""
    found: dict[str, Tensor] = {}
    for each in masks:
        for name, mask in each.items():
            found[name] = found[name] + mask if name in found else mask.to(torch.int16)
    return found


def density_of(masks: MaskSet, total: int | None = None) -> float:
    """Share of weights alive (nonzero, for occurrences: the density of the masks' union), of `total` where
    that is not just those of the masks.
    """
    alive = sum(int((mask > 0).sum()) for mask in masks.values())
    return alive / (sum(mask.numel() for mask in masks.values()) if total is None else total)


def shared(found: MaskSet, chosen: MaskSet) -> dict[str, float]:
    """The share of the `chosen` weights that are alive in 1, 2, ... of the masks that `found` counts, as
    `from_1`, `from_2`, ...
    """
    counts = torch.cat([found[name][mask] for name, mask in chosen.items()]).long().bincount()
    return {f"from_{n}": int(count) / int(counts.sum()) for n, count in enumerate(counts) if n > 0}

"""Cutting a network into partitions of consecutive layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, groupby, pairwise

from sparsepop.budgets import Shapes
from sparsepop.schedule import check_whole

CUTS = ("stage", "count", "size")
Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Partition:
    """`parts` groups of consecutive prunable weights, disjoint, that together are all of them.

    `by` says where to cut. `size`: so that the group with the most weights has as few as can be: memory
    depends on it. `count`: the same for the number of layers. `stage`: between stages only, balanced by
    size where a group holds several; the classifier belongs to the last stage, the stem to the first.
    """

    parts: int
    by: str = "size"

    def __post_init__(self) -> None:
        check_whole(self, "parts")
        if self.parts < 1:
            raise ValueError(f"a network has at least one partition, got parts={self.parts}")
        if self.by not in CUTS:
            raise ValueError(f"unknown cut {self.by!r}: choose one of {', '.join(CUTS)}")

    def groups(self, shapes: Shapes) -> Groups:
        """The names of each group's weights, given the shapes of all in the network's order.

        Raises ValueError when there are fewer layers (or stages) than parts.
        """
        units = stages(list(shapes)) if self.by == "stage" else [(name,) for name in shapes]
        if len(units) < self.parts:
            what = "stages" if self.by == "stage" else "layers"
            raise ValueError(
                f"{self.parts} partitions are more than the {len(units)} {what} of this network: "
                f"use fewer{', or cut by size' if self.by == 'stage' else ''}"
            )
        weights = [1 if self.by == "count" else sum(math.prod(shapes[n]) for n in unit) for unit in units]
        edges = (0, *cuts(tuple(weights), self.parts), len(units))
        return tuple(tuple(name for unit in units[a:b] for name in unit) for a, b in pairwise(edges))


def stages(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The layers of each stage: neighbours below one top-level module. Single layers join the stage that
    follows them, the last ones the stage before.
    """
    found: list[tuple[str, ...]] = []
    alone: tuple[str, ...] = ()
    for _, run in groupby(names, key=lambda name: name.split(".")[0]):
        layers = tuple(run)
        if len(layers) > 1:
            found.append(alone + layers)
            alone = ()
        else:
            alone += layers
    return [*found[:-1], found[-1] + alone] if found else []


@lru_cache(maxsize=64)
def cuts(weights: tuple[int, ...], parts: int) -> tuple[int, ...]:
    """Where to cut `weights` into `parts` runs, none empty: the heaviest run is as light as possible, and
    among such cuts the sum of squares is least (ties: the earlier cut).
    """
    sums = (0, *accumulate(weights))
    most = _lightest_maximum(weights, parts)
    count = len(weights)
    # best[i]: (sum of squares, cuts) of the first i weights in as many runs as there were rounds
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for part in range(parts):
        best = {
            end: min(
                (cost + (sums[end] - sums[begin]) ** 2, (*before, begin))
                for begin, (cost, before) in best.items()
                if begin < end and sums[end] - sums[begin] <= most
            )
            for end in range(part + 1, count - (parts - part - 1) + 1)
            if any(begin < end and sums[end] - sums[begin] <= most for begin in best)
        }
    return best[count][1][1:]


def _lightest_maximum(weights: Sequence[int], parts: int) -> int:
    """The least possible weight of the heaviest of `parts` runs, by bisection."""
    low, high = max(weights), sum(weights)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _runs(weights, middle) <= parts else (middle + 1, high)
    return low


def _runs(weights: Sequence[int], most: int) -> int:
    """How many runs of at most `most` it takes to hold all weights."""
    runs, held = 1, 0
    for weight in weights:
        runs, held = (runs, held + weight) if held + weight <= most else (runs + 1, weight)
    return runs

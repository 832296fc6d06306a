"""Superposition of members in training: one state out of theirs, which each of them can go on from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsepop.averaging import has_statistics, merge, prune_back, recalibrate_member, share_of
from sparsepop.member import Member, State, Task
from sparsepop.merge.round import COLLAPSED
from sparsepop.methods.base import Batches
from sparsepop.outputs import evaluate, own_part
from sparsepop.overlaps import density_of, occurrences, overlap, shared
from sparsepop.recipe import Recipe

FAR_APART = (
    "the superposed network is far worse than its members: superpose more often, or let them start from a "
    "later common state"
)
Masks = dict[str, Tensor]


@dataclass(frozen=True)
class Superposition:
    """Several members made one after `step` steps: their validation accuracies, and those of their average
    before it was pruned, after that, and after BatchNorm's statistics were re-estimated; the density of the
    masks' union; the mean overlap of consecutive masks; which share of the weights comes from 1, 2, ...
    members; and the FLOPs of it all.
    """

    step: int
    members: tuple[float, ...]
    unpruned: float
    pruned: float
    recalibrated: float
    union_density: float
    overlap: float
    sources: Mapping[str, float]
    flops: float

    @property
    def collapsed(self) -> bool:
        """Whether the members were too far apart for an average."""
        return self.recalibrated < self._mean() - COLLAPSED

    def numbers(self) -> dict[str, float]:
        """What the results tell of it."""
        return {
            "round_end": float(self.step),
            "networks": float(len(self.members)),
            "members": self._mean(),
            "best_member": max(self.members),
            "unpruned": self.unpruned,
            "pruned": self.pruned,
            "recalibrated": self.recalibrated,
            "union_density": self.union_density,
            "overlap": self.overlap,
            "collapsed": float(self.collapsed),
            **self.sources,
        }

    def _mean(self) -> float:
        return sum(self.members) / len(self.members)


def superpose_states(
    recipe: Recipe,
    task: Task,
    states: Iterable[State],
    accuracies: Sequence[float],
    data: Batches,
    *,
    average: str = "caa",
    factor: float = 0.5,
    scope: str = "global",
    batches: int = 0,
    device: str | torch.device = "cpu",
) -> tuple[Member, Superposition]:
    """The superposed member, and what is told of it. Weights and optimizer buffers are averaged in float32,
    zeros counted as zeros, and pruned back to as many weights as are alive in the last of `states`; what has
    no average (what methods remember, counters) is that one's. The states are needed one at a time.

    Nothing is random and no seed matters: whoever superposes comes to the same state. ValueError where the
    networks have different parameters.
    """
    mean = _Mean(average, factor)
    for state in states:
        mean.add(state)
    member = Member.restore(recipe, 0, task, mean.state(), device)
    before = member.train_flops
    unpruned = _accuracy(member, data)
    member.masks.set(_kept(member, mean.counts, scope), member.optimizer)
    pruned = recalibrated = _accuracy(member, data)
    if batches and has_statistics(member.model):
        recalibrate_member(member, data, batches)
        recalibrated = _accuracy(member, data)
    return member, Superposition(
        step=member.step,
        members=tuple(accuracies),
        unpruned=unpruned,
        pruned=pruned,
        recalibrated=recalibrated,
        union_density=density_of(mean.found, member.masks.total),
        overlap=sum(mean.overlaps) / len(mean.overlaps) if mean.overlaps else 1.0,
        sources=shared(
            {name: each.cpu() for name, each in mean.found.items()}, _on_cpu(member.masks.tensors)
        ),
        flops=member.train_flops - before,
    )


class _Mean:
    """The average of the states added so far."""

    def __init__(self, average: str, factor: float) -> None:
        self.average, self.factor = average, factor
        self.found: Masks = {}  # in how many states each weight is alive
        self.overlaps: list[float] = []
        self._model: dict[str, Tensor] | None = None
        self._buffers: dict[str, dict[str, Tensor]] | None = None
        self._last: State = {}
        self._count = 0

    @property
    def counts(self) -> dict[str, int]:
        """Alive weights of the last state, by layer."""
        return {name: int(mask.sum()) for name, mask in self._last["masks"]["tensors"].items()}

    def add(self, state: State) -> None:
        share = share_of(self._count, self.average, self.factor)
        masks = state["masks"]["tensors"]
        self._model = merge(self._model, state["model"], share)
        self._buffers = _merged(self._buffers, state["optimizer"]["buffers"], share)
        if self._count:
            self.overlaps.append(overlap(self._last["masks"]["tensors"], masks))
        self.found = occurrences([self.found, masks])
        self._last, self._count = state, self._count + 1

    def state(self) -> State:
        """The last state with the average in its place, alive wherever any of them is."""
        union = {name: count > 0 for name, count in self.found.items()}
        return {
            **self._last,
            "model": self._model,
            "optimizer": {**self._last["optimizer"], "buffers": self._buffers},
            "masks": {**self._last["masks"], "tensors": union},
        }


def _merged(
    mean: dict[str, dict[str, Tensor]] | None, buffers: Mapping[str, Mapping[str, Any]], share: float
) -> dict[str, dict[str, Tensor]]:
    """The average of optimizer buffers, by parameter; none where members hold different ones."""
    tensors = {
        name: {key: value for key, value in each.items() if isinstance(value, Tensor)}
        for name, each in buffers.items()
    }
    if mean is None:
        return {name: merge(None, each, 1.0) for name, each in tensors.items()}
    return {
        name: merge(mean[name], each, share)
        for name, each in tensors.items()
        if name in mean and mean[name].keys() == each.keys()
    }


def _kept(member: Member, counts: Mapping[str, int], scope: str) -> dict[str, Tensor]:
    masks = member.masks
    weights = {name: param.detach() for name, param in masks.params.items()}
    return prune_back(weights, masks.tensors, counts, scope)


def _on_cpu(masks: Mapping[str, Tensor]) -> Masks:
    return {name: mask.cpu() for name, mask in masks.items()}


def _accuracy(member: Member, data: Batches) -> float:
    return evaluate(member, own_part(member, data, "validation")).accuracy

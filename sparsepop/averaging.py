"""Averages of networks in weight space: merging states, pruning them back, fresh statistics for BatchNorm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sparsepop.kinds import BATCH_NORMS
from sparsepop.masks import spare_largest, top_mask, top_masks
from sparsepop.ranks import unsynchronised
from sparsepop.search.merged import AVERAGES, FRESH, SCOPES

if TYPE_CHECKING:
    from sparsepop.member import Member
    from sparsepop.methods.base import Batches

STALE = 32  # steps after which a running average (momentum 0.1) has all but 3% of the network that it is of


def check_average(average: str, factor: float) -> None:
    """ValueError unless the average is known and its factor can be one."""
    if average not in AVERAGES:
        raise ValueError(f"unknown average {average!r}: choose one of {', '.join(AVERAGES)}")
    if not 0.0 < factor <= 1.0:
        raise ValueError(f"factor, the newest ticket's share under cima, must lie in (0, 1], got {factor}")


def check_ranking(scope: str) -> None:
    """ValueError unless it is known how weights are ranked when an average is pruned back."""
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}: choose one of {', '.join(SCOPES)}")


def share_of(position: int, average: str, factor: float) -> float:
    """The share that the network at `position` (0, 1, ...) gets when it is merged into those before it.

    `caa`: 1 / (position + 1), so that all count alike at the end; `cima`: `factor`, a moving average
    (Yin et al. 2022, released code: "CAA" and "CIMA").
    """
    return 1.0 if position == 0 else factor if average == "cima" else 1.0 / (position + 1)


@torch.no_grad()
def merge(mean: Mapping[str, Tensor] | None, state: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """mean + share x (state - mean) for every floating-point tensor, in at least float32; other tensors (such
    as counters) are those of `state`. With no mean yet, a copy of `state`.

    Zeros count as zeros: a connection of m in n equally weighted networks keeps m / n of its mean strength.
    Merging equal states changes nothing, to the last bit. Nothing is shared with either argument. Raises
    ValueError where the two hold different tensors.
    """
    if mean is None:
        return {name: _wide(value).clone() for name, value in state.items()}
    if mean.keys() != state.keys():
        raise ValueError(
            f"networks with different parameters cannot be averaged: {sorted(mean.keys() ^ state.keys())[0]} "
            "is not in both"
        )
    return {name: _merged(mean[name], value, share) for name, value in state.items()}


def _merged(mean: Tensor, value: Tensor, share: float) -> Tensor:
    return torch.lerp(mean, _wide(value), share) if value.is_floating_point() else value.clone()


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


@torch.no_grad()
def prune_back(
    weights: Mapping[str, Tensor], alive: Mapping[str, Tensor], counts: Mapping[str, int], scope: str
) -> dict[str, Tensor]:
    """Masks of the largest |weights| among those in the masks `alive`: exactly sum(counts) of them.

    `global` ranks all layers together, each keeping at least its largest; `layer` keeps `counts` of each. Of
    equals the first in memory stay. The caller vouches that `alive` holds as many; raises ValueError where
    sum(counts) is below the number of layers.
    """
    check_ranking(scope)
    sizes = {name: weights[name].abs() for name in alive}
    if scope == "layer":
        return {name: top_mask(size, counts[name], alive[name]) for name, size in sizes.items()}
    keep = sum(counts.values())
    if keep < len(sizes):
        raise ValueError(f"cannot keep {keep} weights in {len(sizes)} layers: each needs one at least")
    return top_masks(spare_largest(sizes, alive), keep, alive)


def has_statistics(model: nn.Module) -> bool:
    """Whether anything in `model` keeps running statistics."""
    return bool(_norms(model))


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace BatchNorm's running statistics by the plain mean of those of `batches` (N, C, H, W); nothing
    else changes. An average of networks is a new network, whose activations no running average has seen
    (Izmailov et al. 2018, "Averaging weights leads to wider optima", section 3.2).
    """
    norms, training = _norms(model), model.training
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's way to say: cumulative mean
    model.eval()  # no dropout: the same batches give the same statistics
    for norm in norms:
        norm.train()
    try:
        for images in batches:
            model(images)
    finally:
        model.train(training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def recalibrate_member(member: Member, data: Batches, batches: int = FRESH, seed: int = 0) -> None:
    """`recalibrate` on the first `batches` training batches of `seed`, whole on every rank: whoever does it
    comes to the same. Books the forward passes.
    """
    recipe = member.recipe
    if batches < 1 or not has_statistics(member.model):
        return
    images = (data.batch(seed, step, recipe.batch, augment=recipe.augment)[0] for step in range(batches))
    with member.autocast(), unsynchronised(member.model):
        recalibrate(member.model, map(member.prepare, images))
    member.train_flops += member.forward_flops * recipe.batch * batches


def has_stale_statistics(member: Member, since: int | None) -> bool:
    """Whether running statistics are still, for the most part, of the network before step `since`, with which
    it was changed at once (None: never)."""
    return since is not None and member.step - since < STALE


@contextmanager
def fresh_statistics(member: Member, data: Batches) -> Iterator[None]:
    """As long as it lasts, `member` with BatchNorm statistics of the network that it is now, for scoring it;
    then with those of before, and nothing booked, so that training goes on as if nobody had looked.
    """
    buffers = [buffer for norm in _norms(member.model) for buffer in norm.buffers()]
    before, spent = [buffer.clone() for buffer in buffers], member.train_flops
    recalibrate_member(member, data)
    member.train_flops = spent
    try:
        yield
    finally:
        for buffer, old in zip(buffers, before, strict=True):
            buffer.copy_(old)


def _norms(model: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm]:
    return [part for part in model.modules() if isinstance(part, BATCH_NORMS) and part.track_running_stats]

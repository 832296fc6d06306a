"""What growing a partition and pruning it again consists of, and the hooks that methods doing so share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparsepop.averaging import has_stale_statistics, recalibrate_member
from sparsepop.budgets import check_density, check_scope
from sparsepop.masks import Masks, top_mask
from sparsepop.methods.base import Batches
from sparsepop.methods.magnitude import largest, prune
from sparsepop.methods.static import set_random_masks
from sparsepop.search.merged import FRESH

if TYPE_CHECKING:
    from sparsepop.member import Member
    from sparsepop.methods.grow_prune import GrowPrune
    from sparsepop.methods.partition_grow import PartitionGrow

INITIAL = ("random", "magnitude")
Memory = dict[str, Any]


def check_settings(density: float, scope: str, initial: str) -> None:
    """ValueError for a setting that cannot work."""
    check_density(density)
    check_scope(scope)
    if initial not in INITIAL:
        raise ValueError(f"unknown first masks {initial!r}: choose one of {', '.join(INITIAL)}")


def random_start(member: Member, density: float, scope: str) -> None:
    """Random masks; a global budget starts out uniform, for nothing is known of the weights yet."""
    distribution = "uniform" if scope == "global" else scope
    set_random_masks(member, member.masks.allocate(density, distribution))


def magnitude_start(
    member: Member, memory: Memory, density: float, scope: str, spared: Sequence[str], share: float
) -> None:
    """Keep the largest of the initial weights. The layers `spared` keep `share` of theirs, as `grow` counts:
    they are grown from the start.
    """
    masks = member.masks
    new = largest(masks, density, scope)
    if spared:
        remember(memory, {name: new.get(name, masks.tensors[name]) for name in spared})
        for name, count in masks.allocate_among(spared, share).items():
            most = max(count, int(memory["before"][name].sum()))
            new[name] = top_mask(masks.params[name].detach().abs(), most)
    masks.set(new, member.optimizer)


def grow(member: Member, memory: Memory, names: Sequence[str], share: float = 1.0) -> None:
    """Make `share` of each layer's weights alive, the grown ones at random places (all at 1); they are zero,
    and so is their optimizer state. Where layers share tensors, `share` counts as densities do there: of the
    weights without sharing, and at most all that exist.
    """
    masks = member.masks
    remember(memory, {name: masks.tensors[name] for name in names})
    counts = masks.allocate_among(names, share)
    generator = member.generator("growth")
    new = {name: _grown(masks, name, counts[name], generator) for name in names}
    masks.set(new, member.optimizer)


def remember(memory: Memory, masks: Mapping[str, Tensor]) -> None:
    """Note the masks that the layers had before they were grown."""
    memory["before"] = {name: mask.clone() for name, mask in masks.items()}


def is_grown(memory: Memory) -> bool:
    return bool(memory.get("before"))


def prune_grown(member: Member, memory: Memory, density: float, scope: str) -> None:
    """Prune everything to `density` by magnitude, and note which share of the weights that layers had before
    is gone: of those that were grown, and under a global budget of all.
    """
    before: dict[str, Tensor] = dict(memory["before"])
    grown = ", ".join(before)
    if scope == "global":
        before |= {n: mask.clone() for n, mask in member.masks.tensors.items() if n not in before}
    prune(member.masks, density, scope, member.optimizer)
    now = member.masks.tensors
    pairs = torch.stack([torch.stack([(old & ~now[n]).sum(), old.sum()]) for n, old in before.items()])
    # one transfer for all layers, and new objects: states share what they hold with their donors
    counts = pairs.tolist()
    changes = {name: gone / max(1, had) for name, (gone, had) in zip(before, counts, strict=True)}
    memory["changed"] = {**memory.get("changed", {}), **changes}
    memory["before"] = {}
    memory["pruned"] = member.step
    changed = sum(gone for gone, _ in counts) / max(1, sum(had for _, had in counts))
    member.note("prune", grown, changed=changed, density=member.masks.density)


def conclude(method: GrowPrune | PartitionGrow, member: Member) -> None:
    """Prune what is still grown; nothing where all is sparse."""
    memory = member.memory_of(method)
    if is_grown(memory):
        prune_grown(member, memory, method.density, method.scope)


def finish(method: GrowPrune | PartitionGrow, member: Member, data: Batches) -> None:
    """The hook of the same name."""
    conclude(method, member)
    if member.memory_of(method).get("pruned") == member.step:
        recalibrate_member(member, data, FRESH)


def outdates(method: GrowPrune | PartitionGrow, member: Member) -> bool:
    """The hook of the same name: pruned at once to a fraction, a few steps ago at most."""
    return has_stale_statistics(member, member.memory_of(method).get("pruned"))


def measure(method: GrowPrune | PartitionGrow, member: Member) -> Mapping[str, float]:
    """`phase`: the number of the newest one, from 0; -1 before the first."""
    return {"phase": float(member.memory_of(method).get("phase", -1))}


def measure_layers(method: GrowPrune | PartitionGrow, member: Member) -> Mapping[str, Mapping[str, float]]:
    """For each layer that was grown and pruned: the share of its weights that were replaced the last time."""
    changed = member.memory_of(method).get("changed", {})
    return {name: {"changed": change} for name, change in changed.items()}


def _grown(masks: Masks, name: str, count: int, generator: torch.Generator) -> Tensor:
    mask = masks.tensors[name]
    if count >= mask.numel():
        return torch.ones_like(mask)
    noise = torch.rand(mask.shape, generator=generator).to(mask.device)
    return mask | top_mask(noise, max(0, count - masks.counts[name]), ~mask)

"""What growing a partition and pruning it again consists of, for the methods that take turns at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparsepop.budgets import allocate, check_density, check_distribution
from sparsepop.masks import Masks, top_mask
from sparsepop.methods.magnitude import largest, prune
from sparsepop.methods.static import set_random_masks

if TYPE_CHECKING:
    from sparsepop.member import Member

INITIAL = ("random", "magnitude")
Memory = dict[str, Any]


def check_settings(density: float, scope: str, initial: str) -> None:
    """ValueError for a setting that cannot work."""
    check_density(density)
    if scope != "global":
        check_distribution(scope)
    if initial not in INITIAL:
        raise ValueError(f"unknown first masks {initial!r}: choose one of {', '.join(INITIAL)}")


def random_start(member: Member, density: float, scope: str) -> None:
    """Random masks; a global budget starts out uniform, for nothing is known of the weights yet."""
    distribution = "uniform" if scope == "global" else scope
    set_random_masks(member, member.masks.allocate(density, distribution))


def magnitude_start(
    member: Member, memory: Memory, density: float, scope: str, spared: Sequence[str], share: float
) -> None:
    """Keep the largest of the initial weights. The layers `spared` keep `share` of theirs: they are grown
    from the start.
    """
    masks = member.masks
    new = largest(masks, density, scope)
    if spared:
        remember(memory, {name: new.get(name, masks.tensors[name]) for name in spared})
        for name, count in _grown_counts(masks, spared, share).items():
            most = max(count, int(memory["before"][name].sum()))
            new[name] = top_mask(masks.params[name].detach().abs(), most)
    masks.set(new, member.optimizer)


def grow(member: Member, memory: Memory, names: Sequence[str], share: float = 1.0) -> None:
    """Make `share` of each layer's weights alive, the grown ones at random places (all at 1); they are zero,
    and so is their optimizer state.
    """
    masks = member.masks
    remember(memory, {name: masks.tensors[name] for name in names})
    counts = _grown_counts(masks, names, share)
    generator = member.generator("growth")
    new = {name: _grown(masks, name, counts[name], generator) for name in names}
    masks.set(new, member.optimizer)


def remember(memory: Memory, masks: Mapping[str, Tensor]) -> None:
    """Note the masks that the layers had before they were grown."""
    memory["before"] = {name: mask.clone() for name, mask in masks.items()}


def is_grown(memory: Memory) -> bool:
    return bool(memory.get("before"))


def prune_grown(member: Member, memory: Memory, density: float, scope: str) -> None:
    """Prune everything to `density` by magnitude, and note which share of the weights that the grown layers
    had before is gone.
    """
    prune(member.masks, density, scope, member.optimizer)
    before: Mapping[str, Tensor] = memory["before"]
    now = member.masks.tensors
    pairs = torch.stack([torch.stack([(old & ~now[n]).sum(), old.sum()]) for n, old in before.items()])
    # one transfer for all layers, and new objects: states share what they hold with their donors
    changes = {name: gone / had for name, (gone, had) in zip(before, pairs.tolist(), strict=True)}
    memory["changed"] = {**memory.get("changed", {}), **changes}
    memory["before"] = {}
    total = sum(member.masks.params[name].numel() * change for name, change in changes.items())
    size = sum(member.masks.params[name].numel() for name in changes)
    member.note("prune", ", ".join(changes), changed=total / size, density=member.masks.density)


def measured_changes(memory: Memory) -> Mapping[str, Mapping[str, float]]:
    """For each layer that was grown and pruned: the share of its weights that were replaced the last time."""
    return {name: {"changed": change} for name, change in memory.get("changed", {}).items()}


def _grown_counts(masks: Masks, names: Sequence[str], share: float) -> dict[str, int]:
    return allocate({name: masks.shapes[name] for name in names}, share, "uniform")


def _grown(masks: Masks, name: str, count: int, generator: torch.Generator) -> Tensor:
    mask = masks.tensors[name]
    if count >= mask.numel():
        return torch.ones_like(mask)
    noise = torch.rand(mask.shape, generator=generator).to(mask.device)
    return mask | top_mask(noise, max(0, count - masks.counts[name]), ~mask)

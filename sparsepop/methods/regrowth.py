"""What growing a partition and pruning it again consists of, and what methods doing so have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsepop.averaging import has_stale_statistics, recalibrate_member
from sparsepop.budgets import check_density, check_scope
from sparsepop.masks import Masks, top_mask
from sparsepop.methods.base import Batches, Method
from sparsepop.methods.magnitude import largest, prune
from sparsepop.methods.partition import Partition
from sparsepop.methods.static import set_random_masks
from sparsepop.schedule import Phases

if TYPE_CHECKING:
    from sparsepop.member import Member

INITIAL = ("random", "magnitude")


class Regrowth(Method):
    """A method that grows layers and prunes them again; its fields are those of the dataclasses that have it
    as their base. A member's memory holds what stood before the newest growth (`before`, empty where nothing
    is grown), the number of the newest phase, what the newest prune has `changed` in each layer, and its step
    (`pruned`).
    """

    density: float
    partition: Partition
    scope: str
    initial: str

    def check_settings(self, phases: object) -> None:
        """ValueError for a setting that cannot work; `phases`: when layers are grown."""
        check_density(self.density)
        for value, kind, such in (
            (self.partition, Partition, "Partition(4)"),
            (phases, Phases, "Phases.regular(length, count)"),
        ):
            if not isinstance(value, kind):
                raise ValueError(f"{value!r} is no {kind.__name__}: give one, such as {such}")
        check_scope(self.scope)
        if self.initial not in INITIAL:
            raise ValueError(f"unknown first masks {self.initial!r}: choose one of {', '.join(INITIAL)}")

    def needs_masks_at(self) -> int:
        return 0

    def measure(self, member: Member) -> Mapping[str, float]:
        """`phase`: the number of the newest one, from 0; -1 before the first."""
        return {"phase": float(member.memory_of(self).get("phase", -1))}

    def measure_layers(self, member: Member) -> Mapping[str, Mapping[str, float]]:
        """For each layer that was grown and pruned: the share of its weights that were replaced the last
        time.
        """
        changed = member.memory_of(self).get("changed", {})
        return {name: {"changed": change} for name, change in changed.items()}

    def outdates(self, member: Member) -> bool:
        """Pruned at once to a fraction, a few steps ago at most."""
        return has_stale_statistics(member, member.memory_of(self).get("pruned"))

    def finish(self, member: Member, data: Batches) -> None:
        self.conclude(member)
        if member.memory_of(self).get("pruned") == member.step:
            recalibrate_member(member, data)

    def conclude(self, member: Member) -> None:
        """Prune what is still grown; nothing where all is sparse."""
        if self.is_grown(member):
            self._prune(member)

    def is_grown(self, member: Member) -> bool:
        return bool(member.memory_of(self).get("before"))

    def random_start(self, member: Member) -> None:
        """Random masks; a global budget starts out uniform, for nothing is known of the weights yet."""
        distribution = "uniform" if self.scope == "global" else self.scope
        set_random_masks(member, member.masks.allocate(self.density, distribution))

    def magnitude_start(self, member: Member, spared: Sequence[str] = (), share: float = 1.0) -> None:
        """Keep the largest of the initial weights. The layers `spared` keep `share` of theirs, as `grow`
        counts: they are grown from the start.
        """
        masks = member.masks
        new = largest(masks, self.density, self.scope)
        if spared:
            before = {name: new.get(name, masks.tensors[name]) for name in spared}
            self._remember(member, before)
            for name, count in masks.allocate_among(spared, share).items():
                most = max(count, int(before[name].sum()))
                new[name] = top_mask(masks.params[name].detach().abs(), most)
        masks.set(new, member.optimizer)

    def grow(self, member: Member, names: Sequence[str], share: float = 1.0) -> None:
        """Make `share` of each layer's weights alive, the grown ones at random places (all at 1); they are
        zero, and so is their optimizer state. Where layers share tensors, `share` counts as densities do
        there: of the weights without sharing, and at most all that exist.
        """
        masks = member.masks
        self._remember(member, {name: masks.tensors[name] for name in names})
        counts = masks.allocate_among(names, share)
        generator = member.generator("growth")
        new = {name: _grown(masks, name, counts[name], generator) for name in names}
        masks.set(new, member.optimizer)

    def note_growth(self, member: Member, phase: int, names: Sequence[str]) -> None:
        member.memory_of(self)["phase"] = phase
        member.note("grow", ", ".join(names), phase=phase, density=member.masks.density)

    def _remember(self, member: Member, masks: Mapping[str, Tensor]) -> None:
        """Note the masks that the layers had before they were grown."""
        member.memory_of(self)["before"] = {name: mask.clone() for name, mask in masks.items()}

    def _prune(self, member: Member) -> None:
        """Prune everything to the density by magnitude, and note which share of the weights that layers had
        before is gone: of those that were grown, and under a global budget of all.
        """
        memory = member.memory_of(self)
        before: dict[str, Tensor] = dict(memory["before"])
        grown = ", ".join(before)
        if self.scope == "global":
            before |= {n: mask.clone() for n, mask in member.masks.tensors.items() if n not in before}
        prune(member.masks, self.density, self.scope, member.optimizer)
        losses = lost(before, member.masks.tensors)
        changes = {name: gone / max(1, had) for name, (gone, had) in losses.items()}
        # new objects: states share what they hold with their donors
        memory["changed"] = {**memory.get("changed", {}), **changes}
        memory["before"] = {}
        memory["pruned"] = member.step
        changed = share_lost(losses)
        member.note("prune", grown, changed=changed, density=member.masks.density)


def lost(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """How many weights of each layer alive `before` are not any more, and how many there were."""
    pairs = [torch.stack([(old & ~now[name]).sum(), old.sum()]) for name, old in before.items()]
    # one transfer for all layers
    counts = torch.stack(pairs).tolist() if pairs else []
    return {name: (gone, had) for name, (gone, had) in zip(before, counts, strict=True)}


def share_lost(losses: Mapping[str, tuple[int, int]]) -> float:
    """The share over all layers."""
    return sum(gone for gone, _ in losses.values()) / max(1, sum(had for _, had in losses.values()))


def _grown(masks: Masks, name: str, count: int, generator: torch.Generator) -> Tensor:
    mask = masks.tensors[name]
    if count >= mask.numel():
        return torch.ones_like(mask)
    noise = torch.rand(mask.shape, generator=generator).to(mask.device)
    return mask | top_mask(noise, max(0, count - masks.counts[name]), ~mask)

"""Gradual magnitude pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsepop.budgets import check_density, check_scope, kept, limited
from sparsepop.masks import Masks, spare_largest, top_mask, top_masks
from sparsepop.methods.base import Method
from sparsepop.methods.settle import owes, reach
from sparsepop.schedule import Every, Schedule, as_schedule, last_change

if TYPE_CHECKING:
    from sparsepop.member import Member


@dataclass(frozen=True)
class Magnitude(Method):
    """Prune the smallest alive weights down to `density` of the step, at every update and where the schedule
    ends (or, with masks taken over from a member whose own had not ended, one step later).

    `scope`: `global` ranks all weights together, each layer keeping at least its largest; a distribution
    (uniform, er, erk) gives each layer its own budget. With a cubic ramp this is GMP (Zhu & Gupta 2017);
    before `DropGrow(density=None)` it is GraNet (Liu et al. 2021, algorithm 1). Pruned weights do not come
    back through this method.
    """

    density: float | Schedule
    every: Every = Every(100)
    scope: str = "global"

    def __post_init__(self) -> None:
        check_scope(self.scope)
        schedule = as_schedule(self.density)
        check_density(schedule(0))
        check_density(schedule(last_change(schedule)))

    def start(self, member: Member) -> None:
        reach(member, self, as_schedule(self.density)(0))

    def after_step(self, member: Member) -> None:
        schedule = as_schedule(self.density)
        ends = member.step == self.settled_at()
        if self.every(member.step) or ends or owes(member, self, schedule):
            prune(member.masks, schedule(member.step), self.scope, member.optimizer)
            reach(member, self, schedule(member.step))

    def needs_masks_at(self) -> int:
        return 0

    def density_at(self, step: int) -> float | None:
        schedule = as_schedule(self.density)
        if step >= self.settled_at() > 0:
            return schedule(step)
        update = self.every.last_before(step + 1)
        return schedule(update) if update else None

    def settled_at(self) -> int:
        return last_change(as_schedule(self.density))


def prune(masks: Masks, density: float, scope: str, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Keep the largest alive weights, round(density x all) of them; nothing happens where fewer are alive
    already.
    """
    if new := largest(masks, density, scope):
        masks.set(new, optimizer)


def largest(masks: Masks, density: float, scope: str) -> dict[str, Tensor]:
    """The masks of the layers that `prune` would prune."""
    sizes = {name: param.abs().detach() for name, param in masks.params.items()}
    if scope == "global":
        keep = kept(density, masks.total, len(sizes))
        if keep >= masks.alive:
            return {}
        return top_masks(spare_largest(sizes, masks.tensors), keep, masks.tensors)
    # a state taken over from a member of another scope may have layers below their budgets
    budgets = limited(masks.allocate(density, scope), masks.counts)
    return {
        name: top_mask(sizes[name], keep, masks.tensors[name])
        for name, keep in budgets.items()
        if keep < masks.counts[name]
    }

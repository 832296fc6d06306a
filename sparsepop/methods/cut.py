"""An exact density for methods that have none of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsepop.averaging import has_stale_statistics, recalibrate_member
from sparsepop.budgets import check_density, check_scope
from sparsepop.masks import Masks, spare_largest, top_masks
from sparsepop.methods.base import Batches, Method
from sparsepop.methods.harden import harden

if TYPE_CHECKING:
    from sparsepop.member import Member


@dataclass(frozen=True)
class Cut(Method):
    """Once `at` steps are done, keep exactly round(density x all) weights and train on with these masks.

    Stands after the soft method whose masks it ends (`harden`). The largest weights of those alive stay;
    where fewer are alive than asked for, all of them stay and the largest of the others, which a soft method
    has kept in training, come back. `scope`: `global` ranks all layers together, each keeping at least one
    weight; a distribution (uniform, er, erk) gives each layer its own budget. Who takes over a state from
    beyond `at` that is not cut yet cuts after its first step with it. The cut itself costs one ranking of
    all weights; its price is the soft training that the steps after it replace.
    """

    density: float
    at: int
    scope: str = "global"

    def __post_init__(self) -> None:
        check_density(self.density)
        if self.at < 1:
            raise ValueError(f"a cut comes after a step, got at={self.at}: use at least 1")
        check_scope(self.scope)

    def start(self, member: Member) -> None:
        # refused now, not after hours
        member.masks.allocate(self.density)

    def after_step(self, member: Member) -> None:
        memory = member.memory_of(self)
        if member.step >= self.at and not memory.get("done"):
            memory["done"], memory["step"] = True, member.step
            self._cut(member)

    def finish(self, member: Member, data: Batches) -> None:
        if member.memory_of(self).get("step") == member.step:
            recalibrate_member(member, data)

    def outdates(self, member: Member) -> bool:
        return has_stale_statistics(member, member.memory_of(self).get("step"))

    def _cut(self, member: Member) -> None:
        found: list[int] = []

        def select(masks: Masks) -> Mapping[str, Tensor]:
            found.append(masks.alive)
            return exact_masks(masks, self.density, self.scope)

        harden(member, select)
        total = member.masks.total
        member.note("cut", "", found=found[0] / total, density=member.masks.alive / total)

    def density_at(self, step: int) -> float | None:
        return self.density if step >= self.at else None

    def settled_at(self) -> int:
        return self.at


@torch.no_grad()
def exact_masks(masks: Masks, density: float, scope: str) -> dict[str, Tensor]:
    """Masks with exactly round(density x all) alive, out of those alive in `masks` as far as they go."""
    if scope == "global":
        found = _largest(masks, list(masks.owned), round(density * masks.total))
    else:
        counts = masks.allocate(density, scope)
        found = {name: _largest(masks, [name], keep)[name] for name, keep in counts.items()}
    return found | {name: found[owner] for name, owner in masks.repeats.items()}


def _largest(masks: Masks, names: list[str], keep: int) -> dict[str, Tensor]:
    """Masks of the layers `names` with `keep` alive together: first each layer's largest weight, then the
    others alive, then the rest, by size.
    """
    alive = {name: masks.tensors[name] for name in names}
    sizes = spare_largest({name: masks.params[name].detach().abs() for name in names}, alive)
    base = {name: alive[name] | (sizes[name] == math.inf) for name in names}
    have = sum(max(masks.counts[name], 1) for name in names)
    if keep <= have:
        return top_masks(sizes, keep, base)
    back = top_masks(sizes, keep - have, {name: ~mask for name, mask in base.items()})
    return {name: base[name] | back[name] for name in names}

"""Drop weak connections, grow promising ones: SET, RigL, their ITOP settings, and any density schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsepop.budgets import check_density, check_distribution
from sparsepop.masks import top_mask
from sparsepop.methods.base import Method
from sparsepop.methods.scores import Score, gradient, noise
from sparsepop.methods.settle import owes, reach
from sparsepop.methods.static import set_random_masks
from sparsepop.schedule import Every, Schedule, as_schedule, extremes, last_change, lows, peaks

if TYPE_CHECKING:
    from sparsepop.member import Member

GROWTH = ("gradient", "random")


@dataclass(frozen=True)
class DropGrow(Method):
    """At every update drop the `fraction` of each layer's alive weights that are smallest, and grow as many
    elsewhere.

    `grow="gradient"` takes the dead weights with the largest gradient (RigL, Evci et al. 2020, algorithm 1),
    `"random"` any (SET, Mocanu et al. 2018). `density` is the share alive, constant or a schedule; None keeps
    the count that each layer has, for use beside a method that sets it. A weight dropped and grown in the
    same update keeps its value and momentum, as in both papers' code. How many are dropped is rounded down,
    as in RigL's code, or `up`, as in that of RigL-ITOP and what is built on it: a layer that has fewer
    weights than 1 / fraction left is frozen in the one and still explores in the other.

    Deviations: counts are exact (published code loses weights to ties and zero gradients); the step of an
    update is also taken, on the new masks, where RigL's code skips it; where `density` changes for the last
    time and at the end of every cycle, masks are pruned to it exactly, and at the peak of a cycle they are
    grown to it exactly, whether or not an update is due; who takes over masks that are not there yet when
    its own schedule is over does so after its first step with them.
    """

    density: float | Schedule | None
    fraction: float | Schedule = 0.3
    every: Every = Every(100)
    grow: str = "gradient"
    distribution: str = "erk"
    up: bool = False

    def __post_init__(self) -> None:
        check_distribution(self.distribution)
        if self.grow not in GROWTH:
            raise ValueError(f"unknown growth {self.grow!r}: choose one of {', '.join(GROWTH)}")
        if self.density is not None:
            schedule = as_schedule(self.density)
            for step in extremes(schedule):
                check_density(schedule(step))
        fraction = as_schedule(self.fraction)
        for share in map(fraction, extremes(fraction)):
            if not 0.0 <= share < 1.0:
                raise ValueError(f"the fraction of weights dropped must lie in [0, 1), got {share}")

    def start(self, member: Member) -> None:
        if self.density is None:
            return
        for peak in peaks(as_schedule(self.density)):
            self._targets(member, peak)  # a budget that the layers cannot hold is refused here, not later
        set_random_masks(member, self._targets(member, member.step))
        reach(member, self, as_schedule(self.density)(member.step))

    def after_backward(self, member: Member) -> None:
        if not (self.every(member.step) or self._peaks_at(member.step)):
            return
        fraction = as_schedule(self.fraction)(member.step)
        if self.density is None and fraction == 0.0:
            return
        if self.grow == "gradient":
            if fraction > 0 or self._rises(member):
                member.count_dense_gradients()
            self._update(member, fraction, gradient)
        else:
            self._update(member, fraction, noise(member, "growth"))

    def after_step(self, member: Member) -> None:
        if self.density is None:
            return
        schedule = as_schedule(self.density)
        if member.step in lows(schedule) or owes(member, self, schedule):
            self._update(member, 0.0, noise(member, "growth"))

    def needs_masks_at(self) -> int | None:
        return self.every.first if self.density is None else 0

    def density_at(self, step: int) -> float | None:
        if self.density is None:
            return None
        schedule = as_schedule(self.density)
        if step >= self.settled_at():
            return schedule(step)
        turns = [turn for turn in peaks(schedule) if turn < step] + [t for t in lows(schedule) if t <= step]
        return schedule(max([self.every.last_before(step) or 0, *turns]))

    def settled_at(self) -> int:
        return 0 if self.density is None else last_change(as_schedule(self.density))

    def _peaks_at(self, step: int) -> bool:
        return self.density is not None and step in peaks(as_schedule(self.density))

    def _rises(self, member: Member) -> bool:
        """Whether any layer has fewer weights than it is due."""
        targets = self._targets(member, member.step)
        return any(target > member.masks.counts[name] for name, target in targets.items())

    def _targets(self, member: Member, step: int) -> Mapping[str, int]:
        if self.density is None:
            return member.masks.counts
        return member.masks.allocate(as_schedule(self.density)(step), self.distribution)

    def _update(self, member: Member, fraction: float, score: Score) -> None:
        masks = member.masks
        new = {}
        for name, target in self._targets(member, member.step).items():
            param, mask, alive = masks.params[name], masks.tensors[name], masks.counts[name]
            if target < param.numel() or masks.is_sparse(name):
                new[name] = drop_and_grow(param, mask, score(param), alive, target, fraction, up=self.up)
        masks.set(new, member.optimizer)
        if self.density is not None:
            reach(member, self, as_schedule(self.density)(member.step))


@torch.no_grad()
def drop_and_grow(
    weight: Tensor,
    mask: Tensor,
    score: Tensor,
    alive: int,
    target: int,
    fraction: float,
    *,
    up: bool = False,
) -> Tensor:
    """The new mask, with exactly `target` alive: the strongest of the `alive` ones in `mask` stay, the
    best-scored others join.

    fraction x alive weights are replaced, rounded down or `up`, fewer where the layer has no room for so
    many.
    """
    stay = min(alive, target)
    # 0.1 x 30 is a little more than 3
    replaced = math.ceil(fraction * stay - 1e-9) if up else int(fraction * stay)
    stay -= min(replaced, mask.numel() - stay)
    kept = top_mask(weight.abs(), stay, mask)
    return kept | top_mask(score, target - stay, ~kept)

"""Scheduled grow-and-prune on one machine: the partitions take turns at being dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sparsepop.budgets import check_density
from sparsepop.methods.partition import Partition
from sparsepop.methods.regrowth import Regrowth
from sparsepop.schedule import Phases

if TYPE_CHECKING:
    from sparsepop.member import Member

ORDERS = ("cyclic", "random", "layers")


@dataclass(frozen=True)
class GrowPrune(Regrowth):
    """C-GaP (Ma et al. 2022, "Effective Model Sparsification by Scheduled Grow-and-Prune Methods"):
    in each of `phases` one partition is dense while the masks of the others stay; where the phase ends it is
    pruned to `density` by magnitude, in one shot. After the last phase all masks stay.

    `order`: `cyclic`; `random`, any partition but the one before; `layers`, as many layers as a partition has
    on average, drawn from those that were not grown just before (the authors' code). `scope`: uniform, er or
    erk give each layer a budget of its own; `global` ranks all alive weights together, so layers that are not
    dense may lose some too. `initial`: `random` masks everywhere, the first partition growing from zeros (the
    paper); `magnitude` keeps the largest initial weights, and all of a partition that is dense from step 0 on
    (the code). `grown` below 1 is the ablation that grows random places up to that density of each layer.
    `fresh`: the optimizer forgets its buffers where a phase begins and where the last ends, as the code does,
    which starts a process for each.

    A grown weight starts from zero. In a unit that had no weights alive, a BatchNorm behind it then has no
    variance to divide by, and the first gradients are some hundred times too large: warm the learning rate up
    in each phase, as the authors do, or let the recipe clip. It is grown in the first step of a phase, so
    that a report at its edge scores a network that has the density it claims.

    Deviations: counts are exact, and within one weight of density x size in each layer (the code's threshold
    loses ties, and leaves layers dense that it hardly prunes); what is alive is a mask, never "not zero".
    """

    density: float
    partition: Partition
    phases: Phases
    order: str = "cyclic"
    scope: str = "uniform"
    initial: str = "random"
    grown: float = 1.0
    fresh: bool = True

    def __post_init__(self) -> None:
        self.check_settings(self.phases)
        check_density(self.grown, "the grown density")
        if self.grown < self.density:
            raise ValueError(f"grown={self.grown} is below density={self.density}: nothing would grow")
        if self.order not in ORDERS:
            raise ValueError(f"unknown order {self.order!r}: choose one of {', '.join(ORDERS)}")

    def start(self, member: Member) -> None:
        self.partition.groups(member.masks.shapes)  # refuses what cannot be cut now, not in mid-run
        if self.initial == "random":
            self.random_start(member)
            return
        spared = self._next(member, 0) if self._dense_at_once() else ()
        self.magnitude_start(member, spared, self.grown)
        if spared:
            self._note(member, 0, spared)

    def after_backward(self, member: Member) -> None:
        phase = self.phases.beginning(member.step)
        if phase is not None:
            if member.step > 0:
                self.conclude(member)
            if not self.is_grown(member):
                names = self._next(member, phase)
                self.grow(member, names, self.grown)
                self._note(member, phase, names)
        if self.fresh and (phase is not None or member.step == self.phases.end):
            member.optimizer.state.clear()

    def after_step(self, member: Member) -> None:
        # "past the end": a state taken over from a member whose phases are longer
        if self.phases.ending(member.step) or member.step >= self.phases.end:
            self.conclude(member)

    def density_at(self, step: int) -> float | None:
        """`density` between phases; inside one, how much is alive is the network's affair: None, or 1 where
        there is but one partition.
        """
        if not self.phases.within(step) and not (step == 0 and self._dense_at_once()):
            return self.density
        return 1.0 if (self.partition.parts, self.grown) == (1, 1.0) else None

    def settled_at(self) -> int:
        return self.phases.end

    def _dense_at_once(self) -> bool:
        return self.initial == "magnitude" and self.phases.beginning(0) is not None

    def _next(self, member: Member, phase: int) -> tuple[str, ...]:
        """The layers to grow in this phase."""
        groups = self.partition.groups(member.masks.shapes)
        if self.order == "cyclic":
            return groups[phase % len(groups)]
        last = tuple(member.memory_of(self).get("last", ()))
        generator = member.generator("partition")
        if self.order == "random":
            others = [group for group in groups if group != last] or list(groups)
            return others[int(torch.randint(len(others), (), generator=generator))]
        layers = list(member.masks.owned)
        free = [name for name in layers if name not in last] or layers
        count = min(len(free), max(1, round(len(layers) / len(groups))))
        drawn = torch.randperm(len(free), generator=generator)[:count].tolist()
        return tuple(free[i] for i in sorted(drawn))

    def _note(self, member: Member, phase: int, names: tuple[str, ...]) -> None:
        self.note_growth(member, phase, names)
        member.memory_of(self)["last"] = list(names)

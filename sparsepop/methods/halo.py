"""HALO: a lasso whose strength is learnt for every single weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from sparsepop.methods.adaptive_lasso import adaptive_lasso
from sparsepop.methods.base import Batches, Method
from sparsepop.methods.coefficients import attach, detach, follow, keep_above, pairs
from sparsepop.methods.harden import harden
from sparsepop.methods.penalties import check_strength, penalised_names
from sparsepop.methods.shrinkage import describe, describe_layers
from sparsepop.schedule import Schedule, as_schedule, extremes

if TYPE_CHECKING:
    from sparsepop.member import Member

TINY = 1e-8
"""The least floor of a coefficient: its cube is still a normal float32."""


@dataclass(frozen=True)
class Halo(Method):
    """Add xi x sum |w| / c^2 + psi x sum |c| to the loss, with one learnable coefficient c for each penalised
    weight w (Seto, Wells and Zhang 2021, arXiv 2008.10183).

    Large weights push their coefficients up, which frees them of the penalty; `psi` and weight decay push all
    coefficients down. Penalised are the prunable weights and, with `biases`, the biases of their layers.
    A `Cut` after it in the tuple prunes; there the coefficients are dropped and the penalty ends.

    psi: may be a schedule (the code's `reg_scheduler` multiplies it by 100 every N epochs).
    decay: weight decay of the coefficients; None for the optimizer's, as in the published code. At the
        published xi = psi = 1e-8 it is this decay that shrinks: with 0, coefficients stay where they start.
    initial: what coefficients start from.
    lr_factor: their learning rate as a multiple of the optimizer's; `halo_rates` has the published ones.
    floor: |c| is kept at or above it, so that a weight that is exactly 0, which holds nothing up, cannot
        drive 1 / c^2 to infinity. None: sqrt(xi), where the penalty's gradient on the weight is 1, far
        below where the noise of training keeps coefficients.

    Coefficients settle smoothly where the way that momentum carries them, psi x lr / (1 - momentum)^2, is
    short beside their balance (2 xi |w| / psi)^(1/3); where it is longer they swing through 0, which kicks
    weights and frees them (`coefficient_negative`, `coefficient_largest` in the reports): take a smaller
    psi or lr_factor.

    The published cut keeps |w| > the sorted magnitude at total - nonzero + int(p x nonzero), one weight
    fewer than the share it names; `Cut` keeps round(density x all), ties to the first. `Cut(density,
    at=steps)` is the published end, without training after the cut; on CIFAR the classifier stays dense
    and unpenalised there (`keep_dense=("fc.weight",)`).

    Deviations from the code: the floor (there is none); coefficients are part of the model, of its optimizer
    and of checkpoints (a resumed run there starts them anew); gradient clipping leaves them out; the
    options for a budget of coefficients and for training weights and coefficients in turns are left out.
    With AdamW their decay is decoupled, which moves the balance points.
    """

    xi: float
    psi: float | Schedule
    decay: float | None = None
    initial: float = 1.0
    lr_factor: float | Schedule = 1.0
    biases: bool = True
    floor: float | None = None
    soft: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_strength("xi", self.xi)
        psi, factor = as_schedule(self.psi), as_schedule(self.lr_factor)
        for step in extremes(psi):
            check_strength("psi", psi(step))
        if self.decay is not None:
            check_strength("decay", self.decay)
        if self.floor is not None and self.floor < TINY:
            raise ValueError(f"floor must be at least {TINY}, got {self.floor}: or None for sqrt(xi)")
        if self.initial < self.least:
            raise ValueError(f"initial must be at least the floor {self.least:.3g}, got {self.initial}")
        for step in extremes(factor):
            if factor(step) <= 0.0:
                raise ValueError(f"lr_factor must be positive, got {factor(step)}")

    @property
    def least(self) -> float:
        """What |c| never falls below."""
        return max(math.sqrt(self.xi), TINY) if self.floor is None else self.floor

    def surgery(self, model: nn.Module, names: Sequence[str]) -> None:
        attach(model, names, self.biases, self.initial, self.decay, self.lr_factor)

    def adapt(self, member: Member, state: Mapping[str, Any]) -> None:
        follow(member, state, lambda: self.surgery(member.model, penalised_names(member)))

    def start(self, member: Member) -> None:
        member.masks.enforced = False
        member.memory_of(self)["time"] = 0.0

    def penalty(self, member: Member) -> Tensor | None:
        if member.masks.enforced:
            return None
        return adaptive_lasso(self.xi, as_schedule(self.psi)(member.step), *self._pairs(member))

    def after_step(self, member: Member) -> None:
        if not member.masks.enforced:
            member.memory_of(self)["time"] += self._pace(member)
            keep_above(self.least, self._pairs(member)[1])

    def measure(self, member: Member) -> Mapping[str, float]:
        if member.masks.enforced:
            return {}
        numbers = describe(*self._pairs(member), self.least)
        return {**numbers, "coefficient_time": member.memory_of(self)["time"]}

    def measure_layers(self, member: Member) -> Mapping[str, Mapping[str, float]]:
        if member.masks.enforced:
            return {}
        return describe_layers({name: pairs(member.model, [name]) for name in member.masks.params})

    def harden(self, member: Member) -> None:
        detach(member.model)

    def finish(self, member: Member, data: Batches) -> None:
        harden(member)

    def _pairs(self, member: Member) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        return pairs(member.model, penalised_names(member))

    def _pace(self, member: Member) -> float:
        """How far a constant unit gradient moves a coefficient in one of the steps just done."""
        optimizer, step = member.recipe.optimizer, member.step - 1
        rate = as_schedule(optimizer.lr)(step) * as_schedule(self.lr_factor)(step)
        return rate / (1.0 - getattr(optimizer, "momentum", 0.0))

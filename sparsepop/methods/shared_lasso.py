"""A lasso whose one strength is learnt for the whole network: SWS, a baseline of HALO's family."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from sparsepop.methods.base import Batches, Method
from sparsepop.methods.coefficients import SUFFIX, detach, follow, keep_above, mark
from sparsepop.methods.harden import harden
from sparsepop.methods.penalties import check_strength, size, still_penalised
from sparsepop.schedule import Schedule

if TYPE_CHECKING:
    from sparsepop.member import Member

NAME = "shared" + SUFFIX


@dataclass(frozen=True)
class SharedLasso(Method):
    """Add xi / c^2 x sum |w| + psi x c^2 to the loss, with one learnable c for all penalised weights (`ws`
    in the code of Seto et al. 2021; SWS in its tables).

    `decay` and `lr_factor` are c's as in `Halo`, `initial` is what it starts from; acts on what `Lasso`
    acts on, as long. Deviation: |c| is kept at or above sqrt(xi).
    """

    xi: float
    psi: float
    decay: float | None = None
    initial: float = 1.0
    lr_factor: float | Schedule = 1.0
    biases: bool = True
    soft: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("xi", "psi", "decay"):
            check_strength(name, getattr(self, name) or 0.0)
        if self.initial <= math.sqrt(self.xi):
            raise ValueError(f"initial must be above sqrt(xi) = {math.sqrt(self.xi):.3g}, got {self.initial}")

    def surgery(self, model: nn.Module, names: Sequence[str]) -> None:
        like = model.get_parameter(names[0])
        coefficient = nn.Parameter(torch.full_like(like.reshape(-1)[:1].detach(), self.initial).reshape(()))
        model.register_parameter(NAME, mark(coefficient, self.decay, self.lr_factor))

    def adapt(self, member: Member, state: Mapping[str, Any]) -> None:
        follow(member, state, lambda: self.surgery(member.model, list(member.masks.params)))

    def start(self, member: Member) -> None:
        member.masks.enforced = False

    def penalty(self, member: Member) -> Tensor | None:
        params = still_penalised(member, self.biases)
        if not params:
            return None
        squared = member.model.get_parameter(NAME).square()
        return self.xi / squared * size(params) + self.psi * squared

    def after_step(self, member: Member) -> None:
        if not member.masks.enforced:
            keep_above(math.sqrt(self.xi), [member.model.get_parameter(NAME)])

    def measure(self, member: Member) -> Mapping[str, float]:
        return (
            {} if member.masks.enforced else {"coefficient": float(member.model.get_parameter(NAME).detach())}
        )

    def harden(self, member: Member) -> None:
        detach(member.model)

    def finish(self, member: Member, data: Batches) -> None:
        harden(member)

"""Penalties on the size of single weights that nothing is learnt about: baselines of HALO's family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from sparsepop.masks import users
from sparsepop.methods.base import Batches, Method
from sparsepop.methods.coefficients import parameters
from sparsepop.methods.harden import harden

if TYPE_CHECKING:
    from torch import nn

    from sparsepop.member import Member


@dataclass(frozen=True)
class Lasso(Method):
    """Add strength x sum |w| over the prunable weights and, with `biases`, the biases of their layers.

    As the other penalties it acts on a dense network: no weight becomes exactly zero, a `Cut` after it in the
    tuple prunes, and from there on nothing is penalised. Its gradient at w = 0 is 0 (as sign(0)). It equals
    HALO with all coefficients fixed at c, where strength = xi / c^2 (Seto et al. 2021, code).
    """

    strength: float
    biases: bool = True
    soft: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_strength("strength", self.strength)

    def start(self, member: Member) -> None:
        member.masks.enforced = False

    def penalty(self, member: Member) -> Tensor | None:
        params = still_penalised(member, self.biases)
        return self.strength * size(params) if params else None

    def finish(self, member: Member, data: Batches) -> None:
        harden(member)


@dataclass(frozen=True)
class MCP(Method):
    """The minimax concave penalty (Zhang 2010): xi |w| - w^2 / (2 psi), and constant from |w| = psi xi on.

    A lasso of strength `xi` at 0 that fades to none at |w| = psi xi. Acts on what `Lasso` acts on, as long.
    """

    xi: float
    psi: float
    biases: bool = True
    soft: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_strength("xi", self.xi)
        if self.psi <= 0.0:
            raise ValueError(f"psi must be positive, got {self.psi}: large values make this a lasso")

    def start(self, member: Member) -> None:
        member.masks.enforced = False

    def penalty(self, member: Member) -> Tensor | None:
        params = still_penalised(member, self.biases)
        return torch.stack([self.of(param) for param in params]).sum() if params else None

    def of(self, weight: Tensor) -> Tensor:
        """The penalty summed over `weight`, any shape, as a scalar."""
        within = weight.abs().clamp(max=self.psi * self.xi)
        return (self.xi * within - within.square() / (2.0 * self.psi)).sum()

    def finish(self, member: Member, data: Batches) -> None:
        harden(member)


def still_penalised(member: Member, biases: bool) -> list[nn.Parameter]:
    """The penalised parameters; none once masks hold."""
    if member.masks.enforced:
        return []
    return parameters(member.model, penalised_names(member), biases)


def penalised_names(member: Member) -> list[str]:
    """Names of the prunable weights of all layers, for `coefficients.penalised`: also of those that borrow
    theirs, and whose biases are their own.
    """
    return users(member.model, member.masks.params.values())


def size(params: Sequence[Tensor]) -> Tensor:
    """The sum of all |w| as a scalar; its gradient at w = 0 is 0."""
    return torch.stack(list(torch._foreach_norm([*params], 1))).sum()


def check_strength(name: str, value: float) -> None:
    """ValueError when `value` is negative: it would reward what it is to penalise."""
    if value < 0.0:
        raise ValueError(f"{name} must not be negative, got {value}: 0 switches the penalty off")

"""What accuracy a network would have if it were cut now."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sparsepop.averaging import fresh_statistics
from sparsepop.budgets import check_density, check_scope
from sparsepop.methods.base import Batches, Method
from sparsepop.methods.cut import exact_masks
from sparsepop.outputs import evaluate, own_part

if TYPE_CHECKING:
    from sparsepop.member import Member


@dataclass(frozen=True)
class AtDensity(Method):
    """Report the validation accuracy that the network would have after `Cut(density)` to each of
    `densities`, with no training after it (`accuracy_at_0.05`); nothing of the member changes.

    It makes members whose density is not yet that of the end comparable: a population names one of these
    numbers as its score. Where no more than that are alive already it is the plain validation accuracy.
    For networks whose forward pass uses the weights alive as they are: penalised or dense ones, and those
    with `Thresholds`, where weights that a cut would bring back into a layer are left out. BatchNorm has the
    statistics of what the cut would leave, as reports after a cut do. Costs a few training batches for these,
    one pass over the validation split and one ranking of all weights for each density and report.
    """

    densities: tuple[float, ...]
    scope: str = "global"

    def __post_init__(self) -> None:
        for density in self.densities:
            check_density(density)
        check_scope(self.scope)

    def examine(self, member: Member, data: Batches | None) -> Mapping[str, float]:
        if data is None:
            return {_name(density): math.nan for density in self.densities}
        return {_name(density): self._accuracy(member, data, density) for density in self.densities}

    def density_of(self, number: str) -> float | None:
        return {_name(density): density for density in self.densities}.get(number)

    def _accuracy(self, member: Member, data: Batches, density: float) -> float:
        if member.masks.alive <= round(density * member.masks.total):
            return evaluate(member, own_part(member, data, "validation")).accuracy
        with pruned(member, density, self.scope), fresh_statistics(member, data):
            return evaluate(member, own_part(member, data, "validation")).accuracy


def _name(density: float) -> str:
    return f"accuracy_at_{density:g}"


@contextmanager
@torch.no_grad()
def pruned(member: Member, density: float, scope: str) -> Iterator[None]:
    """`member` with the weights zero that a cut to `density` would prune; afterwards as it was."""
    masks = member.masks
    kept = {name: param.detach().clone() for name, param in masks.params.items()}
    for name, mask in exact_masks(masks, density, scope).items():
        masks.params[name].masked_fill_(~mask, 0.0)
    try:
        yield
    finally:
        for name, param in masks.params.items():
            param.copy_(kept[name])

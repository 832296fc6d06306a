"""How many weights are almost zero before anything is pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sparsepop.methods.base import Method

if TYPE_CHECKING:
    from torch import Tensor

    from sparsepop.member import Member


@dataclass(frozen=True)
class NearZero(Method):
    """Report the share of prunable weights with |w| <= each of `levels`, of the network and of each layer
    (`near_zero_1e-3`). Pruned weights count. Changes nothing; stands anywhere.

    Seto et al. 2021 (code) count biases and BatchNorm in too; here shares are of prunable weights, as
    density.
    """

    levels: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2)

    def __post_init__(self) -> None:
        if wrong := [level for level in self.levels if level <= 0.0]:
            raise ValueError(f"levels must be positive, got {wrong[0]}: zeros are what density counts")

    def measure(self, member: Member) -> Mapping[str, float]:
        params = member.masks.owned.values()
        return self._shares(torch.stack([self._counts(p) for p in params]).sum(0), member.masks.total)

    def measure_layers(self, member: Member) -> Mapping[str, Mapping[str, float]]:
        params = member.masks.params.items()
        return {name: self._shares(self._counts(p), p.numel()) for name, p in params}

    def _counts(self, weight: Tensor) -> Tensor:
        sizes = weight.detach().abs()
        return torch.stack([(sizes <= level).sum() for level in self.levels])

    def _shares(self, counts: Tensor, total: int) -> dict[str, float]:
        return {
            f"near_zero_{level:g}": n / total for level, n in zip(self.levels, counts.tolist(), strict=True)
        }

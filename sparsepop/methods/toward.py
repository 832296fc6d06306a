"""A regulariser's coefficient that steers the density of a soft method towards a given one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsepop.budgets import check_density

_REACH = math.log(1e4)


@dataclass(frozen=True)
class Toward:
    """A proportional-integral controller, ours, of no paper: the coefficient starts at `alpha` and moves by
    the difference between the density's logarithm and that of a reference, which falls geometrically from 1
    to `density` at step `end` and stays there.

    coefficient = alpha exp(gain x difference + sum of gain x difference x 10 / end), between alpha / 10,000
    and 10,000 alpha. It comes close to the density, not to the weight: a `Cut` does the rest. One threshold
    for a whole layer is too coarse for it at a few percent: it oscillates there. Costs a few scalar
    operations a step, and one run, where a search over alpha costs one run for each alpha tried.
    """

    density: float
    end: int
    alpha: float = 5e-4
    gain: float = 10.0

    def __post_init__(self) -> None:
        check_density(self.density)
        if self.end < 1:
            raise ValueError(f"the density is reached after steps, got end={self.end}: use at least 1")
        if self.alpha <= 0.0 or self.gain <= 0.0:
            raise ValueError(f"alpha and gain must be positive, got alpha={self.alpha} and gain={self.gain}")

    def reference(self, step: int) -> float:
        """The density wanted after `step` steps."""
        return self.density ** min(1.0, step / self.end)

    def first(self, device: torch.device) -> dict[str, Tensor]:
        """The controller's state at step 0: logarithms, so that a donor's goes with a receiver's `alpha`."""
        return {"sum": torch.zeros((), device=device), "drive": torch.zeros((), device=device)}

    def follow(self, state: dict[str, Tensor], density: Tensor, step: int) -> None:
        """Update `state` by the density (scalar tensor) that there is after `step` steps. No host sync."""
        difference = density.float().clamp(min=1e-8).log() - math.log(self.reference(step))
        total = state["sum"] + self.gain * 10.0 / self.end * difference
        state["sum"].copy_(total.clamp(-_REACH, _REACH))
        state["drive"].copy_((state["sum"] + self.gain * difference).clamp(-_REACH, _REACH))

    def coefficient(self, state: dict[str, Tensor]) -> Tensor:
        """The coefficient now, a scalar tensor."""
        return self.alpha * state["drive"].exp()

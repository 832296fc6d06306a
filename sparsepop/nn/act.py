"""Activations that a method can replace."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Act(nn.Module):
    """Activation slot, a ReLU until a method replaces it.

    Every use of an activation has an `Act` of its own, so a method can give each place its own parameters.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same shape out."""
        return F.relu(x)

"""Activations that a method can replace."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Act(nn.Module):
    """Activation slot, a ReLU until a method replaces it.

    Every use of an activation has an `Act` of its own, so a method can give each place its own parameters; in
    a network of other people it may have several uses. `channels` are those it gets, None where the layer
    registered before it says.
    """

    def __init__(self, channels: int | None = None, inplace: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same shape out."""
        return F.relu(x, inplace=self.inplace)

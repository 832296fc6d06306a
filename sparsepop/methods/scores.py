"""What says which dead weights are grown: the largest gradients, or chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sparsepop.member import Member

Score = Callable[[nn.Parameter], Tensor]


def gradient(param: nn.Parameter) -> Tensor:
    """The size of each weight's gradient; zeros where there is none."""
    return torch.zeros_like(param) if param.grad is None else param.grad.abs()


def noise(member: Member, purpose: str) -> Score:
    """Uniform random numbers, drawn for one parameter after another; equal on all ranks."""
    generator = member.generator(purpose)
    return lambda param: torch.rand(param.shape, generator=generator).to(param.device)

"""Members of one layer with eight weights, whose values and gradients a test sets by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparsepop.member import Member, Task
from sparsepop.methods import Method
from sparsepop.optim import SGD, AdamW
from sparsepop.recipe import Recipe

NAME = "weight"


def eight(*methods: Method, seed: int = 0, optimizer: SGD | AdamW | None = None, steps: int = 100) -> Member:
    """A new member over `nn.Linear(8, 1)` without bias, its first masks set."""
    recipe = Recipe("eight weights", steps, methods, optimizer or SGD(0.1))
    layer = nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(1.0, 9.0))
    member = Member(recipe, seed, Task((1, 1, 8), 1), layer, torch.device("cpu"))
    for method in methods:
        method.start(member)
    return member


def assign(member: Member, weights: Sequence[float], alive: Sequence[int]) -> None:
    """Give the layer these weights and the mask with `alive` (indices)."""
    member.masks.set({NAME: torch.ones(1, 8, dtype=torch.bool)})
    with torch.no_grad():
        member.masks.params[NAME].copy_(torch.tensor(weights))
    mask = torch.zeros(1, 8, dtype=torch.bool)
    mask[0, list(alive)] = True
    member.masks.set({NAME: mask}, member.optimizer)


def push(member: Member, gradient: Sequence[float]) -> None:
    """One step of training with the linear loss whose gradient is `gradient`, as `train_step` takes it."""
    member.masks.params[NAME].grad = torch.tensor([gradient])
    for method in member.recipe.methods:
        method.after_backward(member)
    member.masks.mask_gradients()
    member.optimizer.step()
    member.count_step()
    for method in member.recipe.methods:
        method.after_step(member)


def alive(member: Member) -> list[int]:
    """Indices of the weights alive."""
    return member.masks.tensors[NAME].flatten().nonzero().flatten().tolist()


def weights(member: Member) -> Tensor:
    return member.masks.params[NAME].detach().flatten()

"""HALO's penalty as a function with its gradient in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def adaptive_lasso(
    xi: float, psi: float, weights: Sequence[Tensor], coefficients: Sequence[Tensor]
) -> Tensor:
    """xi x sum |w| / c^2 + psi x sum |c| over lists of tensors that agree in shapes, as a scalar.

    The gradients are xi sign(w) / c^2 and psi sign(c) - 2 xi |w| / c^3, with sign(0) = 0 (Seto et al. 2021).
    They are recomputed in the backward pass, so nothing but the arguments is kept through it; everything
    is in the weights' type, float32 also under bfloat16 autocast. The caller vouches that no coefficient
    is 0.
    """
    value: Tensor = _AdaptiveLasso.apply(xi, psi, *weights, *coefficients)
    return value


class _AdaptiveLasso(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, xi: float, psi: float, *tensors: Tensor) -> Tensor:
        ctx.xi, ctx.psi = xi, psi
        ctx.save_for_backward(*tensors)
        weights, coefficients = _halves(tensors)
        shrunk = torch._foreach_div(weights, torch._foreach_mul(coefficients, coefficients))
        return xi * _sum_of_sizes(shrunk) + psi * _sum_of_sizes(coefficients)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        weights, coefficients = _halves(ctx.saved_tensors)
        on_weights = torch._foreach_sign(weights)
        torch._foreach_div_(on_weights, torch._foreach_mul(coefficients, coefficients))
        torch._foreach_mul_(on_weights, ctx.xi)
        pull = torch._foreach_mul(weights, on_weights)
        torch._foreach_div_(pull, coefficients)
        on_coefficients = torch._foreach_sign(coefficients)
        torch._foreach_mul_(on_coefficients, ctx.psi)
        torch._foreach_add_(on_coefficients, pull, alpha=-2.0)
        gradients = [*on_weights, *on_coefficients]
        torch._foreach_mul_(gradients, outer)
        return (None, None, *gradients)


def _halves(tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    half = len(tensors) // 2
    return list(tensors[:half]), list(tensors[half:])


def _sum_of_sizes(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(torch._foreach_norm(list(tensors), 1))).sum()

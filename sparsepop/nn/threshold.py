"""Pruning by a trainable threshold, with a gradient through the step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def prune(weight: Tensor, threshold: Tensor) -> Tensor:
    """`weight` where it is larger than its threshold in size, else 0 (ties too); DST (Liu et al. 2020,
    section 3).

    `threshold` is a scalar, a vector with one entry for each output unit, or of the weight's shape. With G
    the gradient of what is returned, M the mask, H the `long_tail` and Q = |W| - t, the gradients are
    G (M + |W| H(Q)) for the weight and -G W H(Q), summed over what shares a threshold, for the threshold.
    A weight that is NaN stays.
    """
    result: Tensor = _Prune.apply(weight, spread(threshold, weight))
    return result


def pruned(weight: Tensor, threshold: Tensor) -> Tensor:
    """Boolean, True where `prune` gives 0."""
    return weight.detach().abs() <= spread(threshold.detach(), weight)


def long_tail(x: Tensor) -> Tensor:
    """The estimator of the step's derivative: 2 - 4|x| up to |x| = 0.4, 0.4 up to 1 (1 included), 0 beyond
    (Xu & Cheung 2019; its integral is 1.44, as published).
    """
    size = x.abs()
    return (2.0 - 4.0 * size).clamp_(min=0.4).masked_fill_(size > 1.0, 0.0)


def spread(threshold: Tensor, weight: Tensor) -> Tensor:
    """`threshold` in a shape that broadcasts over `weight`: a vector's entries go to the output units."""
    return threshold.view(-1, *[1] * (weight.ndim - 1)) if threshold.ndim == 1 else threshold


class _Prune(torch.autograd.Function):
    """One function for mask and product: only weight and threshold are kept for the way back."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(weight, threshold)
        return _above(weight.abs().sub_(threshold), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        weight, threshold = ctx.saved_tensors
        size = weight.abs()
        over = size - threshold
        steep = grad * long_tail(over)
        by_weight = _above(over, grad).addcmul_(steep, size)
        return by_weight, -(steep * weight).sum_to_size(threshold.shape)


def _above(over: Tensor, values: Tensor) -> Tensor:
    """`values`, but 0 where `over` is at most 0."""
    # what relu does backwards: on CPUs torch.where takes twenty times as long where both sides are mixed
    result: Tensor = torch.ops.aten.threshold_backward(values, over, 0)
    return result

"""The larger of two lines for each channel, and means over places. On CPUs the gradients that torch finds for
them, one operation at a time, take longer than the convolution before them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def larger_line(x: Tensor, first: Tensor, second: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """max(first x + up, second x + down) in the type of `x`; where both are equal the gradients are the
    second's.

    `x` is (N, channels, ...), slopes and intercepts are (N, channels) in any type.
    """
    result: Tensor = _LargerLine.apply(x, first, second, up, down)
    return result


def mean_over_places(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, channels, ...) -> (N, channels) in `dtype`."""
    if x.ndim == 2:
        return x.to(dtype)
    result: Tensor = _MeanOverPlaces.apply(x, dtype)
    return result


class _LargerLine(torch.autograd.Function):
    """relu(u - v) + v: comparing, and products with booleans, would take ten times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, up: Tensor, down: Tensor) -> Tensor:
        over = (x * _spread(first - second, x)).add_(_spread(up - down, x)).relu_()
        ctx.save_for_backward(x, over, first, second)
        return (x * _spread(second, x)).add_(over).add_(_spread(down, x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, over, first, second = ctx.saved_tensors
        chosen = torch.ops.aten.threshold_backward(grad, over, 0)
        by_x = (grad * _spread(second, x)).addcmul_(chosen, _spread(first - second, x))
        by_first, by_up, both, total = (_gather(each, first) for each in (chosen * x, chosen, grad * x, grad))
        return by_x, by_first, both - by_first, by_up, total - by_up


class _MeanOverPlaces(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(x)
        return x.flatten(2).mean(2, dtype=dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return _spread(grad / x[0, 0].numel(), x).expand_as(x), None


def _spread(each: Tensor, x: Tensor) -> Tensor:
    """`each` (N, channels) in the type of `x`, and in a shape that broadcasts over it."""
    each = each.to(x.dtype).view(*x.shape[:2], *[1] * (x.ndim - 2))
    if x.ndim != 4 or x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return each
    # along a row: torch's inner loop over few channels alone would not be vectorised in bfloat16
    return each.expand(-1, -1, 1, x.shape[3]).contiguous(memory_format=torch.channels_last)


def _gather(values: Tensor, like: Tensor) -> Tensor:
    """`values` (N, channels, ...) summed over places, in the type of `like`."""
    return (values.flatten(2).sum(2) if values.ndim > 2 else values).to(like.dtype)

"""Layers that prune their weight by trainable thresholds; a plain layer becomes one, and back, in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Size, Tensor, nn
from torch.nn import functional as F

from sparsepop.nn.threshold import prune

GRANULARITIES = ("scalar", "vector", "matrix")


class ThresholdLinear(nn.Linear):
    """A linear layer whose weight is pruned by `threshold` in every forward pass."""

    threshold: nn.Parameter
    kept: Tensor | None = None  # the pruned weight, within `pruned_once`

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        weight = prune(self.weight, self.threshold) if self.kept is None else self.kept
        return F.linear(input, weight, self.bias)


class ThresholdConv2d(nn.Conv2d):
    """A convolution whose weight is pruned by `threshold` in every forward pass."""

    threshold: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, filters, H', W')."""
        return self._conv_forward(input, prune(self.weight, self.threshold), self.bias)


_TYPES: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: ThresholdLinear, nn.Conv2d: ThresholdConv2d}
_PLAIN = {masked: plain for plain, masked in _TYPES.items()}


def threshold_shape(weight: Tensor, granularity: str) -> Size:
    """One threshold for the layer, for each output unit, or for each weight."""
    return {"scalar": Size(()), "vector": weight.shape[:1], "matrix": weight.shape}[granularity]


def add_threshold(layer: nn.Module, threshold: nn.Parameter) -> None:
    """Let a linear layer or 2-d convolution prune by `threshold`: the same object, with the same parameters
    under the same names.

    Raises ValueError for any other layer.
    """
    if type(layer) in _TYPES:
        layer.__class__ = _TYPES[type(layer)]
    elif type(layer) not in _PLAIN:
        kinds = ", ".join(plain.__name__ for plain in _TYPES)
        raise ValueError(
            f"no thresholds for a {type(layer).__name__}, only for plain {kinds}: name its weight in "
            "keep_dense, or leave out the method that made it one"
        )
    layer.register_parameter("threshold", threshold)


def remove_threshold(layer: nn.Module) -> None:
    """Make `layer` the plain layer that it was; nothing happens to one that is."""
    if type(layer) in _PLAIN:
        del layer.threshold
        layer.__class__ = _PLAIN[type(layer)]


@contextmanager
def pruned_once(layer: nn.Module) -> Iterator[None]:
    """Let a linear layer that is applied many times in one forward pass, as a recurrent one is, prune its
    weight a single time; nothing happens to a layer that prunes nothing.

    In an LSTM over 28 rows, pruning at each of them took as long as all the rest of a training step.
    """
    if not isinstance(layer, ThresholdLinear):
        yield
        return
    layer.kept = prune(layer.weight, layer.threshold)
    try:
        yield
    finally:
        del layer.kept


def threshold_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of `model` that prune by a threshold."""
    return (layer for layer in model.modules() if type(layer) in _PLAIN)

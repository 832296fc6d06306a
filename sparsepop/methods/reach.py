"""Which outputs a signal can still reach through the alive weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsepop.kinds import LAYERS, NORMS
from sparsepop.masks import Masks
from sparsepop.methods.base import Method
from sparsepop.nn import Act

if TYPE_CHECKING:
    from sparsepop.member import Member


@dataclass(frozen=True)
class Reach:
    """How many classes some input is connected to, and for each layer, in forward order, which share of its
    output channels is, in whichever of its calls; layers that share a weight are several.
    """

    classes: int
    layers: tuple[tuple[str, float], ...]

    @property
    def cut(self) -> str:
        """The layer from which on nothing arrives; the last one where something does, but not everywhere."""
        dead = len(self.layers)
        while dead and self.layers[dead - 1][1] == 0.0:
            dead -= 1
        return self.layers[min(dead, len(self.layers) - 1)][0]


@dataclass(frozen=True)
class Reachable(Method):
    """Report how many classes are connected to the input through alive weights, and the connected share of
    each layer's output channels (the smallest, where several layers share a weight).

    Fewer connected classes than there are, or than before, are noted as an event `collapse`. This is about
    structure: values may still be zero where a path is. Costs a forward pass of one blank image at each
    report.
    """

    def measure(self, member: Member) -> Mapping[str, float]:
        reach = reached(member.model, member.masks, member.task.shape)
        memory, classes = member.memory_of(self), member.task.classes
        if reach.classes < memory.get("classes", classes):
            message = f"{classes - reach.classes} of {classes} classes are cut off, at {reach.cut}"
            member.note("collapse", message, classes_reached=reach.classes)
        memory["classes"] = reach.classes
        return {"classes_reached": float(reach.classes)}

    def measure_layers(self, member: Member) -> Mapping[str, Mapping[str, float]]:
        shares: dict[str, float] = {}
        for name, share in reached(member.model, member.masks, member.task.shape).layers:
            shares[name] = min(share, shares.get(name, 1.0))
        return {name: {"reached": share} for name, share in shares.items()}


@torch.no_grad()
def reached(model: nn.Module, masks: Masks, shape: tuple[int, int, int]) -> Reach:
    """Follow a signal from every pixel of an image of `shape` (C, H, W) through `model` with nothing but the
    masks for weights.

    Weights that are never pruned pass everything on; norms and activations pass on what they get. Signals are
    0 or 1 and only ever added, so nothing cancels out.
    """
    names = {id(param): name for name, param in masks.params.items()}
    channels: dict[nn.Module, Tensor] = {}

    def spread(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        name = names.get(id(layer.weight))
        mask = torch.ones_like(layer.weight) if name is None else masks.tensors[name].to(layer.weight.dtype)
        signal = _apply(layer, inputs[0], mask) > 0
        if name is not None:
            # recurrent layers are called once for each step in time, the first time with an empty state
            found = _channels(layer, signal)
            channels[layer] = found | channels[layer] if layer in channels else found
        return signal.to(output.dtype)

    with _hooked(model, spread):
        param = next(model.parameters())
        ends = model(torch.ones(1, *shape, device=param.device, dtype=param.dtype)).flatten(1)[0] > 0
    shares = [found.double().mean() for found in channels.values()]
    classes, *numbers = torch.stack([ends.double().sum(), *shares]).tolist()
    known = [names[id(layer.weight)] for layer in channels]
    return Reach(int(classes), tuple(zip(known, numbers, strict=True)))


def _channels(layer: Any, signal: Tensor) -> Tensor:
    """Which output channels of `layer` have a signal anywhere: for a linear layer the last axis, else the
    second.
    """
    last = isinstance(layer, nn.Linear)
    return (signal if last else signal.movedim(1, -1)).flatten(0, -2).any(0)


def _apply(layer: Any, x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight) if isinstance(layer, nn.Linear) else layer._conv_forward(x, weight, None)


@contextmanager
def _hooked(model: nn.Module, spread: Any) -> Iterator[None]:
    """`model` in evaluation mode, its layers replaced by `spread`, norms and activations by identities."""
    training = model.training
    hooks = []
    for part in model.modules():
        if isinstance(part, LAYERS):
            hooks.append(part.register_forward_hook(spread))
        elif isinstance(part, (Act, *NORMS)):
            hooks.append(part.register_forward_hook(lambda part, inputs, output: inputs[0]))
    try:
        model.eval()
        yield
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()

"""Networks that are not ours: functions, import strings, timm and torchvision; inspected before training."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sparsepop.kinds import LAYERS
from sparsepop.ledger import count_multiplies
from sparsepop.masks import prunable_names
from sparsepop.models.names import Model, maker_of, model_name
from sparsepop.models.task import Task
from sparsepop.nn import Act


def build_own(model: Model, task: Task) -> nn.Module:
    """A network that a function, an import string or a package makes, freshly initialised from torch's global
    generator. Each `nn.ReLU` that was seen at work is an `Act` instead, so that methods can replace it.

    ValueError for what cannot be made, does not give (N, classes) logits for (N, C, H, W) images, has nothing
    to prune, changes its weights before it uses them (weight standardisation), where no mask would hold, or
    keeps them in a type that no ticket has (bfloat16).
    """
    slots = _inspected(model, task)
    network = _made(model, task)
    for name, channels in slots:
        parent, _, own = name.rpartition(".")
        slot = network.get_submodule(name)
        setattr(network.get_submodule(parent), own, Act(channels, bool(getattr(slot, "inplace", False))))
    return network


@lru_cache(maxsize=64)
def _inspected(model: Model, task: Task) -> tuple[tuple[str, int], ...]:
    """Where activations may be replaced, and their channels; of a network that is made for this alone."""
    name = model_name(model)
    with torch.random.fork_rng(devices=[]):
        first, network = _made(model, task), _made(model, task)
        _check_tensors(name, first, network)
        _check_types(name, network)
        slots = _slots(name, network, task)
        _check_weights(name, network, task)
        _check_training(name, network, task)
    return slots


def _made(model: Model, task: Task) -> nn.Module:
    name = model_name(model)
    make = maker_of(model)
    try:
        network = make(task)
    except Exception as error:
        raise ValueError(f"model {name} cannot be made for {task}: {_told(error)}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"model {name} gave a {type(network).__name__}: return an nn.Module")
    if any(is_lazy(each) for each in (*network.parameters(), *network.buffers())):
        _forward(name, network.eval(), task, 1)  # lazy layers learn their sizes from a blank image
    network.train()
    return network


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _forward(name: str, network: nn.Module, task: Task, images: int) -> Any:
    first = next(network.parameters(), torch.zeros(()))
    dtype = torch.float32 if is_lazy(first) else first.dtype
    try:
        with torch.no_grad():
            return network(torch.zeros(images, *task.shape, dtype=dtype))
    except Exception as error:
        raise ValueError(
            f"model {name} takes no images of {task.shape} (channels, height, width): {_told(error)}"
        ) from error


def _slots(name: str, network: nn.Module, task: Task) -> tuple[tuple[str, int], ...]:
    """Names of the ReLUs whose channels, axis 1 of what they get, are the same at every use."""
    seen: dict[str, set[int]] = {}
    hooks = []
    before = [each for each, _ in network.named_parameters()]

    def look(place: str, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        seen.setdefault(place, set()).add(x.shape[1] if x.ndim in (2, 4) else 0)

    for place, part in network.named_modules():
        if type(part) is nn.ReLU:
            hooks.append(part.register_forward_pre_hook(lambda _, x, place=place: look(place, x)))
    output = _forward(name, network.eval(), task, 1)
    for hook in hooks:
        hook.remove()
    _check_output(name, output, task, 1)
    if before != [each for each, _ in network.named_parameters()]:
        raise ValueError(f"model {name} makes layers in its first forward pass: make them in __init__")
    return tuple((place, max(widths)) for place, widths in seen.items() if len(widths) == 1 and max(widths))


def _check_output(name: str, output: Any, task: Task, images: int) -> None:
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if found != (images, task.classes):
        raise ValueError(
            f"model {name} answers {found} to {images} images, not the logits ({images}, {task.classes}) "
            "of the data's classes: give its last layer Task.classes outputs, and leave auxiliary heads out"
        )


def _check_weights(name: str, network: nn.Module, task: Task) -> None:
    weights = dict.fromkeys(prunable_names(network))
    if not weights:
        kinds = ", ".join(kind.__name__ for kind in LAYERS)
        raise ValueError(f"model {name} has nothing to prune: no {kinds} with a weight of its own")
    params = {each: network.get_parameter(each) for each in weights}
    counted = count_multiplies(network, task.shape, params)
    if odd := [each for each in counted.macs if each not in counted.direct]:
        raise ValueError(
            f"model {name} computes another weight from {odd[0]} before it uses it, so that a pruned weight "
            "would not stay zero: use plain layers there"
        )


def _check_training(name: str, network: nn.Module, task: Task) -> None:
    """What comes out in training mode; the network is of no use any more afterwards."""
    _check_output(name, _forward(name, network.train(), task, 2), task, 2)


def _check_types(name: str, network: nn.Module) -> None:
    """States are sent, and tickets kept, as arrays of numpy's types."""
    tensors = {place: each for place, each in network.state_dict().items() if isinstance(each, Tensor)}
    for place, value in tensors.items():
        try:
            torch.empty(0, dtype=value.dtype).numpy()
        except TypeError as error:
            raise ValueError(
                f"model {name} keeps {place} in {value.dtype}, which no ticket can hold: keep it in float32, "
                "and use Recipe(precision='bfloat16') to compute in bfloat16"
            ) from error


def _check_tensors(name: str, one: nn.Module, other: nn.Module) -> None:
    """What a saved state leaves out must be the same in every network that is made."""
    if {id(param) for param in one.parameters()} & {id(param) for param in other.parameters()}:
        raise ValueError(f"model {name} gives the same network each time: make it inside of the function")
    kept = one.state_dict().keys()
    pairs = zip(one.named_buffers(), other.named_buffers(), strict=False)
    for (place, value), (_, again) in pairs:
        if place not in kept and not torch.equal(value, again):
            raise ValueError(
                f"model {name} draws the buffer {place} at random and keeps it out of its state, so that no "
                "member could go on from one: register it with persistent=True"
            )
    if odd := sorted(kept ^ other.state_dict().keys()):
        raise ValueError(f"model {name} is another network each time: only one of two has {odd[0]}")

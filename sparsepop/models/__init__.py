"""Networks by name, ours and others': `build("resnet-34", (3, 32, 32), 10)`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from sparsepop.models import imagenet, lenet, lstm, mlp, resnet, vgg
from sparsepop.models.names import ZOOS, Model, model_name
from sparsepop.models.own import build_own
from sparsepop.models.task import Task
from sparsepop.models.wrn import wrn

__all__ = ["Model", "Task", "blank", "build", "is_own", "model_name"]

_SCALABLE: dict[str, Callable[..., nn.Module]] = {
    "resnet-20": partial(resnet.resnet_thin, 20),
    "resnet-32": partial(resnet.resnet_thin, 32),
    "resnet-18": partial(resnet.resnet_basic, (2, 2, 2, 2)),
    "resnet-34": partial(resnet.resnet_basic, (3, 4, 6, 3)),
    "resnet-50": partial(resnet.resnet_bottleneck, (3, 4, 6, 3)),
    "vgg-16": vgg.vgg_16,
}
_FIXED: dict[str, Callable[[tuple[int, int, int], int], nn.Module]] = {
    "lenet-300-100": lenet.lenet_300_100,
    "lenet-5": lenet.lenet_5,
    "lstm-a": partial(lstm.lstm, 128),
    "lstm-b": partial(lstm.lstm, 256),
    "residual-mlp": mlp.residual_mlp,
    "imagenet-resnet-50": lambda shape, classes: imagenet.resnet_50(shape[0], classes),
}
_SCALED = re.compile(rf"({'|'.join(_SCALABLE)})(?:-w([1-9][0-9]*))?")
_WRN = re.compile(r"wrn-([1-9][0-9]*)-([1-9][0-9]*)")


def build(model: Model, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A freshly initialised network that maps (N, *shape) images to (N, classes) logits.

    `shape` is (channels, height, width). `model` is one of our names, or another's network: a function
    (Task) -> nn.Module, `package.module:function` for one that can be imported wherever members train,
    `timm:NAME` or `torchvision:NAME` for those packages' networks, never with their trained weights.
    Weights are drawn from torch's global generator; our own networks are made on torch's default device
    ("meta" included). A suffix `-wN` on `resnet-*` and `vgg-16` sets the channels of the first stage, the
    others scale with it: `resnet-34-w16` has stages of 16, 32, 64, 128.

    Raises:
        ValueError: unknown name, images too small for the network, a size that isn't positive, or a network
            that cannot be used (`build_own` says which).
    """
    if len(shape) != 3 or min(*shape, classes) < 1:
        raise ValueError(
            f"{model_name(model)} needs a positive (channels, height, width) and classes, "
            f"not {shape}, {classes}"
        )
    if is_own(model):
        return build_own(model, Task((shape[0], shape[1], shape[2]), classes))
    assert isinstance(model, str)
    return _built(model, shape, classes)


def blank(
    model: Model, shape: tuple[int, int, int], classes: int, device: str | torch.device = "meta"
) -> nn.Module:
    """The network on `device`, its parameters and state yet to be loaded; torch's generators stay as they
    are. What a network keeps out of its state is there."""
    if is_own(model):
        # not on "meta": not every constructor can work there, and buffers outside of the state would be lost
        with torch.random.fork_rng(devices=[]):
            return build(model, shape, classes).to(device)
    with torch.device("meta"):
        bare = build(model, shape, classes)
    return bare if str(device) == "meta" else bare.to_empty(device=device)


def is_own(model: Model) -> bool:
    """Whether the network is not one of ours."""
    return not isinstance(model, str) or ":" in model


def _built(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    if name in _FIXED:
        return _FIXED[name](shape, classes)
    if match := _SCALED.fullmatch(name):
        base, width = match.groups()
        return _SCALABLE[base](shape[0], classes, **({"width": int(width)} if width else {}))
    if match := _WRN.fullmatch(name):
        return wrn(int(match[1]), int(match[2]), shape[0], classes)
    own = [*(f"{zoo}:NAME" for zoo in ZOOS), "package.module:function"]
    known = ", ".join([*_FIXED, *(f"{base}[-wN]" for base in _SCALABLE), "wrn-D-K", *own])
    raise ValueError(f"unknown model {name!r}; known: {known}")

"""Networks by name: `build("resnet-34", (3, 32, 32), 10)`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from torch import nn

from sparsepop.models import imagenet, lenet, lstm, resnet, vgg
from sparsepop.models.wrn import wrn

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
    "imagenet-resnet-50": lambda shape, classes: imagenet.resnet_50(shape[0], classes),
}
_SCALED = re.compile(rf"({'|'.join(_SCALABLE)})(?:-w([1-9][0-9]*))?")
_WRN = re.compile(r"wrn-([1-9][0-9]*)-([1-9][0-9]*)")


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A freshly initialised network that maps (N, *shape) images to (N, classes) logits.

    Weights are drawn from torch's global generator, on torch's default device ("meta" included). `shape` is
    (channels, height, width). A suffix `-wN` on `resnet-*` and `vgg-16` sets the channels of the first stage,
    the others scale with it: `resnet-34-w16` has stages of 16, 32, 64, 128.

    Raises:
        ValueError: unknown name, images too small for the network, or a size that isn't positive.
    """
    if len(shape) != 3 or min(*shape, classes) < 1:
        raise ValueError(
            f"{name} needs a positive (channels, height, width) and classes, not {shape}, {classes}"
        )
    if name in _FIXED:
        return _FIXED[name](shape, classes)
    if match := _SCALED.fullmatch(name):
        base, width = match.groups()
        return _SCALABLE[base](shape[0], classes, **({"width": int(width)} if width else {}))
    if match := _WRN.fullmatch(name):
        return wrn(int(match[1]), int(match[2]), shape[0], classes)
    known = ", ".join([*_FIXED, *(f"{base}[-wN]" for base in _SCALABLE), "wrn-D-K"])
    raise ValueError(f"unknown model {name!r}; known: {known}")

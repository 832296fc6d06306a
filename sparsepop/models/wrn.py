"""Wide residual networks (Zagoruyko & Komodakis 2016)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from sparsepop.models.resnet import conv, he_initialised
from sparsepop.nn import Act


class PreActivation(nn.Module):
    """Block B(3, 3) with BatchNorm and activation before each convolution (section 2).

    Where the shape changes, the shortcut is a 1x1 convolution that shares the first activation.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.act1 = Act()
        self.conv1 = conv(inputs, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = Act()
        self.conv2 = conv(width, width, 3)
        self.shortcut = None if (inputs, stride) == (width, 1) else conv(inputs, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, width, H / stride, W / stride), rounded up."""
        y = self.act1(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(y)
        return self.conv2(self.act2(self.bn2(self.conv1(y)))) + skip


def wrn(depth: int, widening: int, channels: int, classes: int) -> nn.Sequential:
    """WRN-depth-widening without dropout (table 1): 16 stem channels, three stages of (depth - 4) / 6 blocks.

    Raises:
        ValueError: `depth` isn't 6n + 4 with n >= 1.
    """
    count, rest = divmod(depth - 4, 6)
    if count < 1 or rest:
        raise ValueError(
            f"wrn-{depth}-{widening}: depth {depth} is not 6n + 4; use 10, 16, 22, 28, 34, 40, ..."
        )
    parts = OrderedDict[str, nn.Module](conv1=conv(channels, 16, 3))
    inputs = 16
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        width = 2 ** (stage + 3) * widening
        first = PreActivation(inputs, width, stride)
        parts[f"layer{stage}"] = nn.Sequential(
            first, *(PreActivation(width, width, 1) for _ in range(1, count))
        )
        inputs = width
    parts.update(
        bn1=nn.BatchNorm2d(inputs), act1=Act(), avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()
    )
    parts["fc"] = nn.Linear(inputs, classes)
    return he_initialised(nn.Sequential(parts))

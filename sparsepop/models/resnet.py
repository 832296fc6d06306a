"""Residual networks for small images.

Parameters are named as in torchvision (`conv1`, `layer2.0.downsample.0`, `fc`), so weights go both ways.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from sparsepop.nn import Act

Block = Callable[[int, int, int, nn.Module], nn.Module]
Shortcut = Callable[[int, int, int], nn.Module]


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5 left)."""

    def __init__(self, inputs: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = Act()
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut
        self.act2 = Act()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, width, H / stride, W / stride), rounded up."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.act2(y + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut (He et al. 2016, figure 5 right), four times as wide outside.

    The stride sits on the 3x3 convolution instead of the first 1x1, as in torchvision ("v1.5").
    """

    def __init__(self, inputs: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = Act()
        self.conv2 = conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = Act()
        self.conv3 = conv(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut
        self.act3 = Act()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 4 * width, H / stride, W / stride), rounded up."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.act3(y + self.downsample(x))


class Subsample(nn.Module):
    """Shortcut without parameters (He et al. 2016, option A): every stride-th pixel, new channels zero."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra = extra
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + extra, H / stride, W / stride), rounded up."""
        # Pooling single pixels equals x[:, :, ::stride, ::stride], at a third of its time with channels last.
        pixels = F.avg_pool2d(x, 1, self.stride)
        return F.pad(pixels, (0, 0, 0, 0, 0, self.extra))


def subsample(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Option A: identity, or zero-padded where the number of channels grows."""
    return nn.Identity() if (inputs, stride) == (outputs, 1) else Subsample(outputs - inputs, stride)


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Option B: identity, or a 1x1 convolution with BatchNorm where the shape changes."""
    if (inputs, stride) == (outputs, 1):
        return nn.Identity()
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def resnet_thin(depth: int, channels: int, classes: int, width: int = 16) -> nn.Sequential:
    """CIFAR network of `depth` = 6n + 2 layers in three stages, option A (He et al. 2016, section 4.2)."""
    blocks = [(depth - 2) // 6] * 3
    return resnet(small_stem(channels, width), Basic, 1, blocks, width, classes, subsample)


def resnet_basic(blocks: Sequence[int], channels: int, classes: int, width: int = 64) -> nn.Sequential:
    """ResNet-18 or -34 (He et al. 2016, table 1) with the stem for small images."""
    return resnet(small_stem(channels, width), Basic, 1, blocks, width, classes, projection)


def resnet_bottleneck(blocks: Sequence[int], channels: int, classes: int, width: int = 64) -> nn.Sequential:
    """ResNet-50 or deeper (He et al. 2016, table 1) with the stem for small images."""
    return resnet(small_stem(channels, width), Bottleneck, 4, blocks, width, classes, projection)


def small_stem(channels: int, width: int) -> OrderedDict[str, nn.Module]:
    """A 3x3 convolution that keeps the resolution."""
    return OrderedDict(conv1=conv(channels, width, 3), bn1=nn.BatchNorm2d(width), act1=Act())


def resnet(
    stem: OrderedDict[str, nn.Module],
    block: Block,
    expansion: int,
    blocks: Sequence[int],
    width: int,
    classes: int,
    shortcut: Shortcut,
) -> nn.Sequential:
    """Stem, one stage per entry of `blocks`, each twice as wide as the one before, global mean, classifier.

    `expansion` is the ratio of a block's output channels to its width. The stem has `width` output channels.
    """
    parts = OrderedDict(stem)
    inputs = width
    for stage, count in enumerate(blocks):
        layers = []
        for index in range(count):
            inner, stride = width << stage, 2 if stage > 0 and index == 0 else 1
            layers.append(block(inputs, inner, stride, shortcut(inputs, expansion * inner, stride)))
            inputs = expansion * inner
        parts[f"layer{stage + 1}"] = nn.Sequential(*layers)
    parts.update(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(inputs, classes))
    return he_initialised(nn.Sequential(parts))


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias, padded so that stride 1 keeps the resolution."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def he_initialised(model: nn.Sequential) -> nn.Sequential:
    """Convolutions ~ N(0, 2 / fan-out) (He et al. 2015, "Delving deep into rectifiers", section 2.2).

    Linear biases are zero, linear weights keep PyTorch's U(-1, 1) / sqrt(fan-in).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return model

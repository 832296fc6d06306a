"""VGG with BatchNorm and one classifier layer, as used on CIFAR."""

from __future__ import annotations

from torch import nn

from sparsepop.models.resnet import conv, he_initialised
from sparsepop.nn import Act


def vgg_16(channels: int, classes: int, width: int = 64) -> nn.Sequential:
    """Configuration D of Simonyan & Zisserman 2015 (table 1), BatchNorm after each convolution.

    The three fully connected layers are replaced by a global mean and one linear layer. Pooling rounds sizes
    up, so any image size will do; multiples of 32 are pooled as in the paper.
    """
    layers: list[nn.Module] = []
    for count, factor in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
        for _ in range(count):
            layers += [conv(channels, factor * width, 3), nn.BatchNorm2d(factor * width), Act()]
            channels = factor * width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    features = nn.Sequential(*layers)
    pool = nn.AdaptiveAvgPool2d(1)
    return he_initialised(nn.Sequential(features, pool, nn.Flatten(), nn.Linear(channels, classes)))

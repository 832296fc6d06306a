"""Networks for images of ImageNet's size."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from sparsepop.models.resnet import Bottleneck, projection, resnet
from sparsepop.nn import Act


def resnet_50(channels: int, classes: int) -> nn.Sequential:
    """torchvision's `resnet50`, function and parameter names alike, so its trained weights can be loaded.

    Built here because torchvision's bottlenecks use one ReLU module three times, at two different widths.
    """
    stem = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False),
        bn1=nn.BatchNorm2d(64),
        act1=Act(),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
    )
    return resnet(stem, Bottleneck, 4, (3, 4, 6, 3), 64, classes, projection)

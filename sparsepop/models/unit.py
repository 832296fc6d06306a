"""A network that sees pixels from 0 to 1, as papers on MNIST feed theirs, where the data come normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from sparsepop.models import build

if TYPE_CHECKING:
    from sparsepop.member import Task


@dataclass(frozen=True)
class FedUnits:
    """As a recipe's model: the network called `name`, its inputs first taken back to 0..1. `mean` and `std`
    are what the data were normalised by; the defaults are MNIST's. The network lies under `net`.

    Thresholds and learned coefficients depend on the size of the inputs: DST keeps 9% of LeNet-300-100 so
    and 5% on normalised images.
    """

    name: str
    mean: float = 0.1307
    std: float = 0.3081

    def __call__(self, task: Task) -> nn.Module:
        return UnitInputs(build(self.name, task.shape, task.classes), self.mean, self.std)


class UnitInputs(nn.Module):
    """`net` on normalised images (N, C, H, W) taken back to the range of pixels."""

    def __init__(self, net: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.net = net
        self.mean, self.std = mean, std

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.mul(self.std).add(self.mean))

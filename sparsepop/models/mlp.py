"""A residual network without convolutions, for experiments that end within seconds."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from sparsepop.nn import Act

WIDTH, STAGES, BLOCKS = 128, 2, 4


class Block(nn.Module):
    """Two linear layers of `width` units, each with a BatchNorm, and an identity shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        self.act1 = Act()
        self.fc2 = nn.Linear(width, width, bias=False)
        self.bn2 = nn.BatchNorm1d(width)
        self.act2 = Act()

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) -> (N, width)."""
        y = self.act1(self.bn1(self.fc1(x)))
        return self.act2(self.bn2(self.fc2(y)) + x)


def residual_mlp(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two stages of four residual blocks, 128 units wide throughout: 18 prunable layers, of which an image of
    64 pixels and ten classes make 271,616 weights."""
    channels, height, width = shape
    stages = {
        f"layer{number}": nn.Sequential(*(Block(WIDTH) for _ in range(BLOCKS)))
        for number in range(1, STAGES + 1)
    }
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(channels * height * width, WIDTH, bias=False),
            bn1=nn.BatchNorm1d(WIDTH),
            act1=Act(),
            **stages,
            fc=nn.Linear(WIDTH, classes),
        )
    )

"""The two LeNets that the pruning literature compares on."""

from __future__ import annotations

from torch import nn

from sparsepop.nn import Act


def lenet_300_100(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two hidden layers of 300 and 100 units (LeCun et al. 1998, section III.C), here with ReLUs."""
    channels, height, width = shape
    return _initialised(
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * height * width, 300),
            Act(),
            nn.Linear(300, 100),
            Act(),
            nn.Linear(100, classes),
        )
    )


def lenet_5(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """LeNet-5 in Caffe's variant: 20 and 50 filters of 5x5 without padding, 500 hidden units.

    As in the pruning literature, and unlike Caffe's own file, the convolutions are followed by a ReLU too; it
    comes after the pooling, where it gives the same numbers for a quarter of the work.

    Raises:
        ValueError: height or width below 16, where the second pooling would have nothing left to pool.
    """
    channels, height, width = shape
    if min(height, width) < 16:
        raise ValueError(f"lenet-5 needs images of at least 16x16, not {height}x{width}; use lenet-300-100")
    return _initialised(
        nn.Sequential(
            nn.Conv2d(channels, 20, 5),
            nn.MaxPool2d(2),
            Act(),
            nn.Conv2d(20, 50, 5),
            nn.MaxPool2d(2),
            Act(),
            nn.Flatten(),
            nn.Linear(50 * _pooled(height) * _pooled(width), 500),
            Act(),
            nn.Linear(500, classes),
        )
    )


def _pooled(size: int) -> int:
    """Side of the last feature map for an image of side `size`."""
    return ((size - 4) // 2 - 4) // 2


def _initialised(model: nn.Sequential) -> nn.Sequential:
    """Weights of variance 1 / fan-in (LeCun et al. 1998, "Efficient BackProp", section 4.6), biases zero."""
    for module in model:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return model

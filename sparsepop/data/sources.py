"""What the readers of different layouts hand over: splits of encoded images, or of decoded ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Reader = Callable[[int], bytes]


class Encoded(Protocol):
    """A split of images in their files' encoding, in a fixed order."""

    @property
    def labels(self) -> Labels: ...

    @property
    def files(self) -> Sequence[Path]:
        """All files that the split's content depends on."""

    def origin(self, index: int) -> str:
        """Where an image came from, for error messages."""

    def sample(self) -> bytes:
        """The first image, read without the others."""

    def load(self) -> Reader:
        """Reads any image; may hold the whole split in memory."""

    def stream(self, cache: Path) -> Reader:
        """Reads any image, holding none; may write to the cache folder."""


@dataclass(frozen=True)
class Decoded:
    """pixels uint8 (N, H, W, C) and labels int64 (N) of a split."""

    pixels: Pixels
    labels: Labels


Split = TypeVar("Split", covariant=True)


@dataclass(frozen=True)
class Source(Generic[Split]):
    """Both splits of a data set and its number of classes; ValueError for labels outside [0, classes)."""

    name: str
    train: Split
    test: Split
    classes: int

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            check_labels(getattr(self, split).labels, self.classes, f"{split} of {self.name}")


def check_labels(labels: Labels, classes: int, what: str) -> None:
    """ValueError unless there are labels and all are in [0, classes)."""
    if not len(labels):
        raise ValueError(f"{what} holds no images: check that the data set is complete")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise ValueError(
            f"{what} has the label {wrong}, out of range for {classes} classes: use 0..{classes - 1}"
        )

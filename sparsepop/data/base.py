"""What every data set offers to the training loop, and the order in which it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from sparsepop.seeds import mix

SPLITS = ("train", "validation", "test")
_ORDER, _HELD_OUT = 1, 2  # tags that keep the random streams of different uses apart
_KEPT_ORDERS = 32


class Data(ABC):
    """A labelled image set with three splits; training batches are a pure function of (seed, step, size).

    name: what it was opened as; shape: (C, H, W) of one image; classes: number of labels;
    sizes: images in "train", "validation" and "test"; device: where batches are made.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    sizes: dict[str, int]
    device: torch.device

    @abstractmethod
    def batch(
        self, seed: int, step: int, size: int, *, augment: bool = True, rank: int = 0, world: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Training batch of a step: x float32 (n, C, H, W), normalised, and y int64 (n), on the device.

        Every training image comes at most once in an epoch; what does not fill a batch is left to the next
        epoch's permutation. Of the global batch of `size` images, rank gets
        [rank * size // world, (rank + 1) * size // world): the ranks together see the one-rank batch.
        ValueError for a step, size, rank or world that makes no batch.
        """

    @abstractmethod
    def batches(
        self, split: str, size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The whole split in a fixed order, not augmented; the last batch may be smaller. Of several ranks,
        each gets every world-th batch.

        ValueError for an unknown split or a size below 1.
        """

    def steps_per_epoch(self, size: int) -> int:
        """Full batches of `size` images in an epoch; ValueError when there is none."""
        check_size(size)
        steps = self.sizes["train"] // size
        if steps == 0:
            raise ValueError(
                f"batch size {size} exceeds the {self.sizes['train']} training images of {self.name!r}: "
                "use a smaller batch"
            )
        return steps


class Order:
    """The order of training images: a permutation per (seed, epoch), drawn on the CPU, kept on the device."""

    def __init__(self, train: Tensor, device: torch.device) -> None:
        self._train = train.cpu()
        self._device = device
        self._kept: dict[int, tuple[int, Tensor]] = {}

    def batch(self, seed: int, step: int, size: int, steps_per_epoch: int) -> Tensor:
        """Indices (int64, `size` of them) of the global batch of a step."""
        if step < 0:
            raise ValueError(f"step {step} is negative: steps count from 0")
        epoch, position = divmod(step, steps_per_epoch)
        return self._epoch(seed, epoch)[position * size : (position + 1) * size]

    def _epoch(self, seed: int, epoch: int) -> Tensor:
        kept = self._kept.get(seed)
        if kept is None or kept[0] != epoch:
            if len(self._kept) >= _KEPT_ORDERS:
                self._kept.clear()
            generator = torch.Generator().manual_seed(mix(_ORDER, seed, epoch))
            order = self._train[torch.randperm(len(self._train), generator=generator)]
            kept = self._kept[seed] = (epoch, to_device(order, self._device))
        return kept[1]


def hold_out(count: int, validation: int | None) -> tuple[Tensor, Tensor]:
    """Indices of (training, validation) images among `count`, sorted, the same for every seed.

    validation None means 10%, at most 5,000. ValueError when nothing is left to train on.
    """
    held = min(5000, count // 10) if validation is None else validation
    if not 0 <= held < count:
        raise ValueError(f"validation {held} must be at least 0 and below the {count} training images")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(mix(_HELD_OUT, count)))
    return order[held:].sort().values, order[:held].sort().values


def share(size: int, rank: int, world: int) -> slice:
    """The part of a global batch that a rank gets; ValueError when it would be empty."""
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} is not among the {world} ranks: use 0 <= rank < world")
    if size < world:
        raise ValueError(f"batch size {size} leaves some of {world} ranks without image: use a larger batch")
    return slice(rank * size // world, (rank + 1) * size // world)


def chunks(split: str, index: dict[str, Tensor], size: int, rank: int, world: int) -> Iterator[Tensor]:
    """A rank's indices of a split, `size` at a time; ValueError as Data.batches says."""
    if split not in index:
        raise ValueError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")
    check_size(size)
    return iter(index[split].split(size)[rank::world] if len(index[split]) else ())


def check_size(size: int) -> None:
    """ValueError unless a batch has at least one image."""
    if size < 1:
        raise ValueError(f"batch size {size} is not positive: use 1 or more")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; the host does not wait for the copy to a GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)

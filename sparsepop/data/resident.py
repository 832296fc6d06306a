"""Data sets that fit into memory: uint8 tensors on the device, augmented and normalised there."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sparsepop.data.augment import crop_and_flip, draw_crops, normalise
from sparsepop.data.base import Data, Order, chunks, hold_out, share
from sparsepop.data.sources import Decoded, Source
from sparsepop.seeds import mix

_AUGMENT = 3  # tag of the random stream that crops and flips are drawn from


class Resident(Data):
    """All images on the device. Training images in colour are padded by H // 8, cropped at random and
    mirrored, grey ones are left alone. Mean and standard deviation are those of the training images.

    The random numbers of the augmentation come from the device's own generator, so they differ between kinds
    of devices; a batch never makes the host wait for the device.
    """

    def __init__(self, source: Source[Decoded], device: torch.device, validation: int | None = None) -> None:
        train, held = hold_out(len(source.train.labels), validation)
        self.name, self.classes, self.device = source.name, source.classes, device
        height, width, channels = source.train.pixels.shape[1:]
        self.shape = (channels, height, width)
        if source.test.pixels.shape[1:] != source.train.pixels.shape[1:]:
            raise ValueError(
                f"{source.name} has training images of {width}x{height}x{channels} and test images of "
                f"{'x'.join(map(str, source.test.pixels.shape[2:0:-1]))}x{source.test.pixels.shape[3]}: "
                "resize them to one size"
            )
        self.sizes = {"train": len(train), "validation": len(held), "test": len(source.test.labels)}
        self._order = Order(train, device)
        self._train, self._test = _on(source.train, device), _on(source.test, device)
        everything = torch.arange(self.sizes["test"])
        self._index = {"train": train, "validation": held, "test": everything}
        self._index = {split: index.to(device) for split, index in self._index.items()}
        self._scale, self._shift = _statistics(self._train[0], self._index["train"])
        self._pad = height // 8 if channels == 3 else 0

    def batch(
        self, seed: int, step: int, size: int, *, augment: bool = True, rank: int = 0, world: int = 1
    ) -> tuple[Tensor, Tensor]:
        part = share(size, rank, world)
        index = self._order.batch(seed, step, size, self.steps_per_epoch(size))[part]
        images, labels = (tensor.index_select(0, index) for tensor in self._train)
        if augment and self.shape[0] == 3:
            crops = draw_crops(size, self._pad, mix(_AUGMENT, seed, step), self.device)
            images = crop_and_flip(images, crops.part(part), self._pad)
        return normalise(images, self._scale, self._shift), labels

    def batches(
        self, split: str, size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self._test if split == "test" else self._train
        return (
            (
                normalise(images.index_select(0, index), self._scale, self._shift),
                labels.index_select(0, index),
            )
            for index in chunks(split, self._index, size, rank, world)
        )


def _on(split: Decoded, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(split.pixels).to(device), torch.from_numpy(split.labels).to(device)


def _statistics(images: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift (C) that give the training images mean 0 and variance 1, per channel."""
    total = images.new_zeros(images[0].numel(), dtype=torch.int64)
    squares = total.clone()
    # Sums over 256 images stay below 2**24, so float32 is exact and every device gets the same statistics.
    for index in train.split(256):
        pixels = images.index_select(0, index).flatten(1).float()
        total += pixels.sum(0).long()
        squares += pixels.square_().sum(0).long()
    channels = images.shape[-1]
    count = len(train) * images[0].numel() // channels
    mean = total.view(-1, channels).sum(0).cpu().double() / count
    variance = squares.view(-1, channels).sum(0).cpu().double() / count - mean.square()
    deviation = variance.clamp(min=1e-4).sqrt()
    return (1 / deviation).float().to(images.device), (-mean / deviation).float().to(images.device)

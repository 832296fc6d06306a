"""Data sets larger than memory, ImageNet above all: decoded by threads some steps ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparsepop.data.augment import normalise
from sparsepop.data.base import Data, Order, chunks, hold_out, share, to_device
from sparsepop.data.images import Box, decode_crop, threads
from sparsepop.data.sources import Encoded, Reader, Source
from sparsepop.seeds import mix

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of pixels in 0..1
_AUGMENT = 4  # tag of the random stream that crops and flips are drawn from
_AHEAD = 2  # batches decoded ahead of use
_WAITING = 8  # batches kept that nobody has asked for yet
_TRIES = 10
_DRAWS = 2 * _TRIES + 3  # random numbers for one image: areas, ratios, left, top, flip

Draws = npt.NDArray[np.float32]


class Streamed(Data):
    """Images of any size, brought to RGB of side x side.

    Training: a part of 8% to 100% of the area with aspect ratio 3/4 to 4/3, mirrored half of the time
    (Szegedy et al., "Going deeper with convolutions", 2015, section 6). Evaluation, and training without
    augmentation: the central square of 87.5% of the shorter side; an image of side x side is taken as it is.
    Normalised with ImageNet's mean and standard deviation. cache is the folder for what has to be unpacked.
    """

    def __init__(
        self,
        source: Source[Encoded],
        device: torch.device,
        cache: Path,
        validation: int | None = None,
        side: int = 224,
    ) -> None:
        train, held = hold_out(len(source.train.labels), validation)
        self.name, self.classes, self.device = source.name, source.classes, device
        self.shape = (3, side, side)
        self.sizes = {"train": len(train), "validation": len(held), "test": len(source.test.labels)}
        self._index = {"train": train, "validation": held, "test": torch.arange(self.sizes["test"])}
        self._order = Order(train, torch.device("cpu"))
        self._train = _Decoder(source.train, source.train.stream(cache), side)
        self._test = _Decoder(source.test, source.test.stream(cache), side)
        deviation = torch.tensor(_DEVIATION, device=device)
        self._scale = 1 / (255 * deviation)
        self._shift = -torch.tensor(_MEAN, device=device) / deviation
        self._pool = ThreadPoolExecutor(threads(), thread_name_prefix="decode")
        self._waiting: dict[tuple[int, int, int, bool, int, int], _Pending] = {}

    def batch(
        self, seed: int, step: int, size: int, *, augment: bool = True, rank: int = 0, world: int = 1
    ) -> tuple[Tensor, Tensor]:
        now = (seed, step, size, augment, rank, world)
        pending = self._waiting.pop(now, None) or self._begin(*now)
        for later in range(step + 1, step + 1 + _AHEAD):
            key = (seed, later, size, augment, rank, world)
            if key not in self._waiting:
                self._waiting[key] = self._begin(*key)
        while len(self._waiting) > _WAITING:
            self._waiting.pop(next(iter(self._waiting))).cancel()
        return self._deliver(pending)

    def batches(
        self, split: str, size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        decoder = self._test if split == "test" else self._train
        return self._evaluation(decoder, chunks(split, self._index, size, rank, world))

    def _evaluation(self, decoder: _Decoder, parts: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        begun = (decoder.begin(self._pool, part, None) for part in parts)
        ahead = deque(islice(begun, _AHEAD))
        while ahead:
            pending = ahead.popleft()
            ahead.extend(islice(begun, 1))
            yield self._deliver(pending)

    def _begin(self, seed: int, step: int, size: int, augment: bool, rank: int, world: int) -> _Pending:
        part = share(size, rank, world)
        index = self._order.batch(seed, step, size, self.steps_per_epoch(size))[part]
        draws = _draw(mix(_AUGMENT, seed, step), size)[part] if augment else None
        return self._train.begin(self._pool, index, draws)

    def _deliver(self, pending: _Pending) -> tuple[Tensor, Tensor]:
        images, labels = pending.result()
        on_device = to_device(images, self.device)
        return normalise(on_device, self._scale, self._shift), to_device(labels, self.device)


class _Pending(NamedTuple):
    """A batch that threads are decoding into `pixels`."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    tasks: list[Future[None]]

    def result(self) -> tuple[Tensor, Tensor]:
        for task in self.tasks:
            task.result()
        return torch.from_numpy(self.pixels), torch.from_numpy(self.labels)

    def cancel(self) -> None:
        for task in self.tasks:
            task.cancel()


class _Decoder(NamedTuple):
    """Decodes images of one split."""

    split: Encoded
    read: Reader
    side: int

    def begin(self, pool: ThreadPoolExecutor, index: Tensor, draws: Draws | None) -> _Pending:
        """Hands the images to the pool; draws (n, _DRAWS) are the random numbers of the augmentation."""
        wanted = index.numpy()
        pixels = np.empty((len(wanted), self.side, self.side, 3), np.uint8)
        tasks = [
            pool.submit(self._decode, int(image), None if draws is None else draws[row], pixels[row])
            for row, image in enumerate(wanted)
        ]
        return _Pending(pixels, self.split.labels[wanted], tasks)

    def _decode(self, index: int, draws: Draws | None, out: npt.NDArray[np.uint8]) -> None:
        box: Callable[[int, int], Box]
        box = partial(central, self.side) if draws is None else partial(random_part, draws)
        training = draws is not None
        image = decode_crop(
            self.read(index), self.side, box, partial(self.split.origin, index), draft=training
        )
        flip = draws is not None and draws[-1] < 0.5
        out[:] = image[:, ::-1] if flip else image


def _draw(seed: int, count: int) -> Draws:
    return torch.rand(count, _DRAWS, generator=torch.Generator().manual_seed(seed)).numpy()


def central(side: int, width: int, height: int) -> Box:
    """The central square of 87.5% (224 of 256) of the shorter side; all of an image of that size."""
    if (width, height) == (side, side):
        return (0, 0, width, height)
    edge = 0.875 * min(width, height)
    left, top = (width - edge) / 2, (height - edge) / 2
    return (left, top, left + edge, top + edge)


def random_part(draws: Draws, width: int, height: int) -> Box:
    """The first of ten random parts that fits; where none does, the largest central one of allowed shape."""
    area = width * height * (0.08 + 0.92 * draws[:_TRIES])
    ratio = np.exp((2 * draws[_TRIES : 2 * _TRIES] - 1) * np.log(4 / 3))
    across, down = np.sqrt(area * ratio), np.sqrt(area / ratio)
    fitting = np.flatnonzero((across <= width) & (down <= height))
    if len(fitting):
        first = fitting[0]
        edges = max(1.0, float(across[first])), max(1.0, float(down[first]))
        place = float(draws[-3]), float(draws[-2])
    else:
        edges = min(width, height * 4 / 3), min(height, width * 4 / 3)
        place = 0.5, 0.5
    left, top = (width - edges[0]) * place[0], (height - edges[1]) * place[1]
    return (left, top, min(width, left + edges[0]), min(height, top + edges[1]))

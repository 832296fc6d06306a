"""Decoding of encoded images with Pillow, many at once in threads."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparsepop.data.sources import Encoded, Pixels, Reader


class UnequalImages(Exception):
    """A split's images differ in size, so no array holds them. No ValueError, for the data is sound."""


Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels
_GREY = frozenset({"1", "L", "LA"})
_CHUNK = 512


def threads() -> int:
    """How many threads decode: the CPUs this process may use, at most 16."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, usable)


@contextmanager
def opened(encoded: bytes, origin: Callable[[], str]) -> Iterator[Image.Image]:
    """The image, not yet decoded; ValueError naming its origin when it cannot be read."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.mode[0] in "IF":
                raise ValueError(f"{origin()} has more than 8 bits a channel ({image.mode}): convert it to 8")
            yield image
    except (OSError, SyntaxError, TypeError, Image.DecompressionBombError) as cause:
        raise ValueError(f"{origin()} is not a readable image ({cause}): replace or remove it") from cause


def sample_shape(split: Encoded) -> tuple[int, int, int]:
    """(H, W, C) of a split's first image; C is 1 for a grey image and 3 for every other."""
    with opened(split.sample(), lambda: split.origin(0)) as image:
        return (image.height, image.width, 1 if image.mode in _GREY else 3)


def decode_all(split: Encoded, shape: tuple[int, int, int]) -> Pixels:
    """uint8 (N, H, W, C) of all images; UnequalImages for one of another size than the given (H, W, C),
    ValueError for one that is damaged, or in colour where C is 1.
    """
    read = split.load()
    count = len(split.labels)
    pixels = np.empty((count, *shape), np.uint8)

    def decode(start: int) -> None:
        for index in range(start, min(start + _CHUNK, count)):
            pixels[index] = _decode(read, index, split, shape)

    with ThreadPoolExecutor(threads()) as pool:
        for _ in pool.map(decode, range(0, count, _CHUNK)):
            pass
    return pixels


def _decode(read: Reader, index: int, split: Encoded, shape: tuple[int, int, int]) -> Pixels:
    height, width, channels = shape
    with opened(read(index), lambda: split.origin(index)) as image:
        if (image.height, image.width) != (height, width):
            raise UnequalImages(split.origin(index))
        if channels == 1 and image.mode not in _GREY:
            raise ValueError(
                f"{split.origin(index)} is in colour, the first image is grey: convert all images to one mode"
            )
        wanted = "L" if channels == 1 else "RGB"
        plain = image if image.mode == wanted else image.convert(wanted)
        return np.asarray(plain).reshape(shape)


def decode_crop(
    encoded: bytes, side: int, box: Callable[[int, int], Box], origin: Callable[[], str], draft: bool = False
) -> Pixels:
    """The part `box(width, height)` of an image, resized to uint8 (side, side, 3).

    draft lets a JPEG be decoded at a fraction of its size while the part keeps at least `side` pixels
    a side, which is faster and nearly the same.
    """
    with opened(encoded, origin) as image:
        width, height = image.size
        left, top, right, bottom = box(width, height)
        if draft:
            image.draft("RGB", (int(width * side / (right - left)), int(height * side / (bottom - top))))
        across, down = image.width / width, image.height / height
        part = (
            left * across,
            top * down,
            min(right * across, image.width),
            min(bottom * down, image.height),
        )
        colour = image if image.mode == "RGB" else image.convert("RGB")
        return np.asarray(colour.resize((side, side), Image.Resampling.BILINEAR, box=part))

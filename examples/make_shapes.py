"""Draws discs, squares and crosses into Parquet files; with --folders, into a folder for each class."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NAMES = ("disc", "square", "cross")
HERE = Path(__file__).parent


def draw(kind: int, rng: np.random.Generator) -> bytes:
    """A grey 12x12 PNG of one shape, anywhere, in any size."""
    y, x = np.mgrid[:12, :12] - rng.integers(3, 9, 2).reshape(2, 1, 1)
    size = rng.integers(2, 5)
    disc, square = x**2 + y**2 <= size**2, np.maximum(abs(x), abs(y)) <= size
    cross = square & (np.minimum(abs(x), abs(y)) == 0)
    pixels = np.where((disc, square, cross)[kind], 220, 30) + rng.integers(-25, 26, (12, 12))
    stream = io.BytesIO()
    Image.fromarray((pixels // 16 * 16).astype(np.uint8)).save(stream, "png", optimize=True)
    return stream.getvalue()


def images(count: int, seed: int) -> list[tuple[bytes, int]]:
    """Images with their labels, as many of each class."""
    rng = np.random.default_rng(seed)
    return [(draw(place % len(NAMES), rng), place % len(NAMES)) for place in range(count)]


def write_parquet(folder: Path, split: str, found: list[tuple[bytes, int]]) -> None:
    """One file of a split: a column of encoded images and a column of labels, as on the Hugging Face hub."""
    folder.mkdir(parents=True, exist_ok=True)
    column = [{"bytes": data, "path": None} for data, _ in found]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table(
        {"image": pa.array(column, kind), "label": pa.array([label for _, label in found], pa.int64())}
    )
    pq.write_table(table, folder / f"{split}-00000-of-00001.parquet", compression="zstd")


def write_folders(folder: Path, split: str, found: list[tuple[bytes, int]]) -> None:
    """The same as a folder for each class."""
    for number, (data, label) in enumerate(found):
        place = folder / split / NAMES[label]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:04d}.png").write_bytes(data)


if __name__ == "__main__":
    write = write_folders if "--folders" in sys.argv else write_parquet
    for split, count, seed in (("train", 300, 0), ("test", 90, 1)):
        write(HERE / "shapes", split, images(count, seed))

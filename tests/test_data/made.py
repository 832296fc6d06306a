"""Small data sets that the tests write themselves."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Array = npt.NDArray[np.uint8]


def pictures(count: int, height: int = 16, width: int = 16, channels: int = 3, seed: int = 0) -> Array:
    """Random uint8 (count, H, W, C); no two are equal."""
    shape = (count, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(picture: Array) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(sink, "PNG")
    return sink.getvalue()


def write_shard(
    path: Path,
    encoded: list[bytes],
    labels: list[int],
    *,
    image: str = "image",
    label: str = "label",
    names: int | None = 3,
) -> None:
    """A Parquet file in the hub's layout, with its class names in the schema's metadata."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(image, kind), (label, pa.int64())])
    if names is not None:
        classes = {"names": [str(k) for k in range(names)], "_type": "ClassLabel"}
        features = {image: {"_type": "Image"}, label: classes}
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    rows = [{"bytes": data, "path": None} for data in encoded]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table([pa.array(rows, kind), pa.array(labels, pa.int64())], schema=schema), path)


def write_parquet(folder: Path, split: str, images: Array, shards: int = 1, label: str = "label") -> None:
    """Images with labels 0, 1, 2, 0, ... in `shards` files."""
    parts = np.array_split(np.arange(len(images)), shards)
    for number, part in enumerate(parts):
        path = folder / f"{split}-{number:05d}-of-{shards:05d}.parquet"
        write_shard(path, [png(images[k]) for k in part], [int(k) % 3 for k in part], label=label)


def write_folders(folder: Path, split: str, images: Array, classes: int = 3) -> None:
    """Images in class folders, taking turns."""
    for number, picture in enumerate(images):
        path = folder / split / f"class{number % classes}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture))

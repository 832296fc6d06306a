"""Reading of Parquet files in the layout of the Hugging Face hub: SPLIT-IIIII-of-NNNNN.parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sparsepop.data import cache
from sparsepop.data.sources import Labels, Reader, Source

# Older sets on the hub carry a hash behind the number of shards.
_SHARD = re.compile(r"(?P<split>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})(-[0-9a-f]+)?\.parquet")
_TEST = ("test", "validation", "valid", "val")


@dataclass(frozen=True)
class ParquetSplit:
    """The shards of one split; image is the name of the column of encoded images."""

    files: tuple[Path, ...]
    image: str
    labels: Labels

    @cached_property
    def _ends(self) -> Labels:
        return np.cumsum([_open(file).metadata.num_rows for file in self.files])

    def origin(self, index: int) -> str:
        shard = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[shard - 1]) if shard else 0
        return f"the image in row {index - before} of {self.files[shard]}"

    def sample(self) -> bytes:
        # a shard may be empty, as that of a filtered set
        rows = (part[0].as_py() for file in self.files for part in self._encoded(file, 1) if len(part))
        for row in rows:
            return row
        raise ValueError(f"{self.files[0]} and all shards with it hold no image: download the set again")

    def load(self) -> Reader:
        return _reader(pa.chunked_array([part for file in self.files for part in self._encoded(file, 4096)]))

    def stream(self, folder: Path) -> Reader:
        """Copies the encoded images once to a file that can be mapped: Parquet has no access by row."""
        entry = folder / cache.key("encoded", self.files)
        try:
            return _reader(cache.cached(entry, self._repack, _map))
        except OSError as cause:
            raise OSError(
                f"{folder} cannot take the unpacked images ({cause}): "
                "set SPARSEPOP_DATA to a folder with enough space"
            ) from cause

    def _repack(self, folder: Path) -> None:
        schema = pa.schema([("image", pa.large_binary())])
        with pa.ipc.new_file(str(folder / "images.arrow"), schema) as sink:
            for file in self.files:
                for part in self._encoded(file, 256):
                    sink.write_batch(pa.record_batch([part.cast(pa.large_binary())], schema=schema))

    def _encoded(self, file: Path, rows: int) -> Iterator[Any]:
        column = f"{self.image}.bytes"
        with _readable(file), pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=rows, columns=[column]):
                yield pc.struct_field(batch.column(0), "bytes")


def find_parquet(folder: Path, name: str) -> Source[ParquetSplit] | None:
    """The data set whose shards lie in the folder or in its `data` folder; None when there are none.

    The test split is `test`, or `validation` where that is missing or has no labels (-1).
    ValueError, naming the file, for missing or damaged shards and for missing columns.
    """
    for place in (folder, folder / "data"):
        shards = _shards(place)
        if shards:
            return _source(shards, place, name)
    return None


def _shards(folder: Path) -> dict[str, tuple[Path, ...]]:
    found: dict[str, dict[int, Path]] = {}
    expected: dict[str, int] = {}
    for path in sorted(folder.glob("*.parquet")):
        if match := _SHARD.fullmatch(path.name):
            found.setdefault(match["split"], {})[int(match["part"])] = path
            expected[match["split"]] = int(match["parts"])
    for split, parts in found.items():
        if missing := set(range(expected[split])) - set(parts):
            absent = f"{split}-{min(missing):05d}-of-{expected[split]:05d}.parquet"
            raise ValueError(f"{absent} is missing in {folder}: download the set completely")
    return {split: tuple(parts[part] for part in sorted(parts)) for split, parts in found.items()}


def _source(shards: dict[str, tuple[Path, ...]], folder: Path, name: str) -> Source[ParquetSplit]:
    tests = [split for split in _TEST if split in shards]
    if "train" not in shards or not tests:
        raise ValueError(
            f"{folder} has the splits {', '.join(sorted(shards))}: it needs train and test (or validation)"
        )
    train = _split(shards["train"])
    test = _split(shards[tests[0]])
    if len(tests) > 1 and len(test.labels) and (test.labels < 0).all():
        test = _split(shards[tests[1]])
    classes = _named_classes(train.files[0]) or int(train.labels.max(initial=-1)) + 1
    return Source(name, train, test, classes)


def _split(files: tuple[Path, ...]) -> ParquetSplit:
    schemas = [_open(file).schema_arrow for file in files]
    images = [_image_column(schema, file) for schema, file in zip(schemas, files, strict=True)]
    labels = [_labels(file, _label_column(schema, file)) for schema, file in zip(schemas, files, strict=True)]
    if len(set(images)) > 1:
        raise ValueError(
            f"{files[0]} and other shards name their image columns {sorted(set(images))}: use one"
        )
    return ParquetSplit(files, images[0], np.concatenate(labels))


def _labels(file: Path, column: str) -> Labels:
    with _readable(file):
        values = pq.read_table(file, columns=[column], partitioning=None).column(0)
    if values.null_count:
        raise ValueError(f"{file} has rows without {column!r}: remove or label them")
    return values.to_numpy().astype(np.int64)


def _image_column(schema: Any, file: Path) -> str:
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return field.name
    raise ValueError(
        f"{file} has no image column among {', '.join(schema.names)}: it needs a struct with a field `bytes`"
    )


def _label_column(schema: Any, file: Path) -> str:
    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    for wanted in ("label", "fine_label"):
        if wanted in integers:
            return wanted
    if len(integers) != 1:
        raise ValueError(
            f"{file} has no integer column `label` among {', '.join(schema.names)}: add or rename one"
        )
    return integers[0]


def _named_classes(file: Path) -> int:
    """How many class names the schema's metadata lists; 0 when it lists none."""
    schema = _open(file).schema_arrow
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        return len(described["info"]["features"][_label_column(schema, file)]["names"])
    except (KeyError, TypeError, json.JSONDecodeError):
        return 0


def _open(file: Path) -> Any:
    with _readable(file), pq.ParquetFile(file) as opened:
        return opened


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as cause:
        reason = str(cause).partition("\n")[0]
        raise ValueError(f"{file} is damaged or no Parquet file ({reason}): download it again") from cause


def _reader(column: Any) -> Reader:
    return lambda index: column[index].as_py()


def _map(entry: Path) -> Any:
    return pa.ipc.open_file(pa.memory_map(str(entry / "images.arrow"))).read_all().column(0)

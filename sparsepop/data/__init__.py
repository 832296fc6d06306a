"""Data sets by name or folder; batch(seed, step, size) is a pure function of its arguments."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import torch

from sparsepop.data import cache
from sparsepop.data.base import SPLITS, Data
from sparsepop.data.folders import find_folders
from sparsepop.data.images import UnequalImages, decode_all, sample_shape
from sparsepop.data.known import DOWNLOADED, KNOWN, digits, download
from sparsepop.data.parquet import find_parquet
from sparsepop.data.resident import Resident
from sparsepop.data.sources import Decoded, Encoded, Pixels, Source
from sparsepop.data.streamed import Streamed

__all__ = ["KNOWN", "SPLITS", "Data", "Resident", "Streamed", "data_home", "open_data"]

_UNEQUAL = "unequal.txt"  # in a cache entry, in place of pixels: the first image of another size


def data_home() -> Path:
    """Where data sets lie that are named: $SPARSEPOP_DATA or ~/.cache/sparsepop/data."""
    return Path(os.environ.get("SPARSEPOP_DATA") or "~/.cache/sparsepop/data").expanduser()


def open_data(
    where: str,
    device: str | torch.device = "cpu",
    *,
    validation: int | None = None,
    root: str | None = None,
    limit_bytes: int = 2 << 30,
) -> Data:
    """A data set by its name (digits, mnist, cifar10, cifar100, any folder below root) or by a folder's path.

    A folder holds Parquet files in the layout of the Hugging Face hub, or class folders train/CLASS and
    test/CLASS or val/CLASS. Known names without a folder are downloaded into root, which defaults to
    `data_home`; decoded images are kept in its `.decoded`.
    Sets of more than limit_bytes of decoded pixels are streamed, and so are images that differ in size.
    validation training images are held out (default: 10%, at most 5,000) by a choice that no seed changes.
    FileNotFoundError for a missing folder, or a known set that cannot be downloaded; OSError for a file that
    may not be read and a folder that cannot take unpacked images; ValueError for everything else that is
    wrong with the data.
    """
    home = Path(root).expanduser() if root else data_home()
    target = torch.device(device)
    if where == "digits":
        return Resident(digits(), target, validation)
    folder = _folder(where, home)
    found = folder and _encoded(folder, where)
    if found:
        return _from_encoded(found, target, validation, home / ".decoded", limit_bytes)
    if where in DOWNLOADED:
        return Resident(download(where, home), target, validation)
    raise ValueError(
        f"{folder} holds neither SPLIT-00000-of-00001.parquet files nor train/CLASS folders: check the path"
    )


def _folder(where: str, home: Path) -> Path | None:
    """The folder that is meant; None for a known name that has to be downloaded first."""
    given = Path(os.path.expanduser(where))
    for folder in (home / where,) if where in KNOWN else (home / where, given):
        if where and folder.is_dir():
            return folder
    if where in DOWNLOADED:
        return None
    if given.is_file():
        raise NotADirectoryError(f"{where} is a file: give the folder of Parquet files or of class folders")
    if len(given.parts) > 1 or given.exists():
        raise FileNotFoundError(f"no data folder {where!r}: check the path")
    raise ValueError(
        f"unknown data set {where!r}: use {', '.join(KNOWN)}, a folder's path, or the name of one in {home}"
    )


def _encoded(folder: Path, name: str) -> Source[Encoded] | None:
    return find_parquet(folder, name) or find_folders(folder, name)


def _from_encoded(
    source: Source[Encoded], device: torch.device, validation: int | None, decoded: Path, limit_bytes: int
) -> Data:
    shape = sample_shape(source.train)
    count = len(source.train.labels) + len(source.test.labels)
    if count * int(np.prod(shape)) > limit_bytes:
        return Streamed(source, device, decoded, validation)
    try:
        train, test = (_decoded(split, shape, decoded) for split in (source.train, source.test))
    except UnequalImages:
        return Streamed(source, device, decoded, validation)
    return Resident(Source(source.name, train, test, source.classes), device, validation)


def _decoded(split: Encoded, shape: tuple[int, int, int], folder: Path) -> Decoded:
    # of another size the same images may be unequal
    entry = folder / cache.key(f"pixels {shape}", split.files)

    def fill(entry: Path) -> None:
        try:
            np.save(entry / "pixels.npy", decode_all(split, shape))
        except UnequalImages as found:
            # so that nobody decodes all of it again to find that out
            (entry / _UNEQUAL).write_text(f"{found}\n")

    try:
        pixels = cache.cached(entry, fill, partial(_mapped, (len(split.labels), *shape)))
    except OSError:  # the cache saves time only, so a folder that cannot be written is no reason to stop
        pixels = decode_all(split, shape)
    return Decoded(pixels, split.labels)


def _mapped(shape: tuple[int, ...], entry: Path) -> Pixels:
    """Mapped copy-on-write: the processes of one machine share a single copy in memory.

    UnequalImages where the entry says that there is no such array.
    """
    if (entry / _UNEQUAL).is_file():
        raise UnequalImages((entry / _UNEQUAL).read_text())
    pixels = np.load(entry / "pixels.npy", mmap_mode="c")
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ValueError(f"{entry} holds {pixels.dtype} {pixels.shape}, not uint8 {shape}")
    return pixels

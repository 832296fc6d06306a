"""Reading of image files in class folders, as ImageNet is unpacked: train/CLASS/*.jpg and val/CLASS/*.jpg."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsepop.data.sources import Labels, Reader, Source

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_TEST = ("test", "val", "validation")


@dataclass(frozen=True)
class FolderSplit:
    """The image files of one split, sorted by class and name."""

    files: tuple[Path, ...]
    labels: Labels

    def origin(self, index: int) -> str:
        return str(self.files[index])

    def sample(self) -> bytes:
        return self.files[0].read_bytes()

    def load(self) -> Reader:
        return lambda index: self.files[index].read_bytes()

    def stream(self, cache: Path) -> Reader:
        return self.load()


def find_folders(folder: Path, name: str) -> Source[FolderSplit] | None:
    """The data set in class folders below the folder; None when it has no train/CLASS.

    The test split is `test`, or `val` where `test` has no class folders. Classes are the sorted folder
    names of train. ValueError for a missing split, a class that train does not have, or an image that is no
    file.
    """
    names = _classes(folder / "train")
    if not names:
        return None
    for split in _TEST:
        if _classes(folder / split):
            train, test = _split(folder / "train", names), _split(folder / split, names)
            return Source(name, train, test, len(names))
    raise ValueError(f"{folder} has train/CLASS but neither test/CLASS nor val/CLASS: add one of them")


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")


def _split(folder: Path, names: list[str]) -> FolderSplit:
    files: list[Path] = []
    labels: list[int] = []
    for name in _classes(folder):
        if name not in names:
            raise ValueError(f"{folder / name} is a class that train does not have: remove or rename it")
        images = _images(folder / name)
        files += images
        labels += [names.index(name)] * len(images)
    return FolderSplit(tuple(files), np.asarray(labels, np.int64))


def _images(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        images = [
            entry for entry in entries if entry.name.lower().endswith(_SUFFIXES) and entry.name[0] != "."
        ]
    for entry in images:
        if not entry.is_file():
            raise ValueError(f"{entry.path} is no file, or a link to none: remove or restore it")
    return [folder / name for name in sorted(entry.name for entry in images)]

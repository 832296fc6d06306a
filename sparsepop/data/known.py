"""The data sets that are known by name: scikit-learn's digits, and those that torchvision downloads."""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparsepop.data.cache import locked
from sparsepop.data.sources import Decoded, Source
from sparsepop.seeds import mix

DOWNLOADED = {"mnist": "MNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
KNOWN = ("digits", *DOWNLOADED)
_DIGITS_TEST = 360


def digits() -> Source[Decoded]:
    """scikit-learn's 1,797 grey 8x8 images, 0..16 scaled to 0..240; a fixed choice of 360 is for testing."""
    rows = _digit_rows()
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(mix(0))).numpy()]
    pixels = (rows[:, :-1] * 15).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = rows[:, -1].astype(np.int64)
    train = Decoded(pixels[:-_DIGITS_TEST], labels[:-_DIGITS_TEST])
    return Source("digits", train, Decoded(pixels[-_DIGITS_TEST:], labels[-_DIGITS_TEST:]), 10)


def _digit_rows() -> NDArray[np.float64]:
    """The 64 pixels and the label of every digit, as in scikit-learn's own file."""
    package = importlib.util.find_spec("sklearn")
    folders = package.submodule_search_locations if package is not None else None
    file = Path(next(iter(folders or [""]))) / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        # importing scikit-learn takes longer than training on its digits for an epoch
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    raw = load_digits()
    return np.column_stack([raw.data, raw.target])


def download(name: str, root: Path) -> Source[Decoded]:
    """A data set that torchvision keeps in (and first downloads to) root/NAME.

    FileNotFoundError when it is not there and cannot be fetched.
    """
    try:
        train, test = _fetched(name, root)
    except (OSError, RuntimeError) as cause:
        reason = " ".join(str(cause).split())
        raise FileNotFoundError(
            f"{name} is not in {root / name} and could not be downloaded ({reason}): "
            f"put its Parquet files there, or set SPARSEPOP_DATA to the folder that holds {name}/"
        ) from cause
    return Source(name, _decoded(train), _decoded(test), len(train.classes))


def _fetched(name: str, root: Path) -> tuple[Any, Any]:
    """torchvision's training and test set."""
    datasets: Any = importlib.import_module("torchvision.datasets")
    kind = partial(getattr(datasets, DOWNLOADED[name]), str(root / name))
    # Without the lock, for a set that is there may be another user's, and its readers need not wait for each
    # other. One that is being unpacked is not there as a whole: torchvision finds that out when it reads it.
    with suppress(OSError, RuntimeError, ValueError):
        return kind(train=True, download=False), kind(train=False, download=False)
    # Two processes that download into one folder would damage each other's archives.
    with locked(root / f".{name}.lock"):
        return kind(train=True, download=True), kind(train=False, download=True)


def _decoded(dataset: Any) -> Decoded:
    pixels = np.ascontiguousarray(dataset.data, np.uint8)
    return Decoded(pixels if pixels.ndim == 4 else pixels[..., None], np.asarray(dataset.targets, np.int64))

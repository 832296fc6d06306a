"""Data sets that several tests open."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsepop.data import Data, open_data
from tests.test_data.made import pictures, write_folders, write_parquet


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """60 training images in two shards and 10 test images, 16x16 in colour."""
    folder = tmp_path / "hub"
    write_parquet(folder, "train", pictures(60), shards=2)
    write_parquet(folder, "test", pictures(10, seed=1))
    return folder


@pytest.fixture
def classed(tmp_path: Path) -> Path:
    """The same images in class folders."""
    folder = tmp_path / "classed"
    write_folders(folder, "train", pictures(60))
    write_folders(folder, "val", pictures(10, seed=1))
    return folder


@pytest.fixture(params=["resident", "streamed"])
def data(request: pytest.FixtureRequest, hub: Path, root: str) -> Data:
    return open_data(str(hub), root=root, limit_bytes=0 if request.param == "streamed" else 1 << 30)

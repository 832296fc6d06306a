"""What every test starts from: one thread, so that timings and sums do not depend on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import torch

from tests.s3 import ENVIRONMENT, Server, serving

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """A real S3 server, whose keys this process has."""
    pytest.importorskip("moto", reason="needs moto[s3,server]")
    os.environ.update(ENVIRONMENT)
    with serving() as server:
        yield server

"""What every test starts from: one thread, so that timings and sums do not depend on the machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import torch

from tests.s3 import ENVIRONMENT, Server, serving

torch.set_num_threads(1)
# an example that is slow on a busy machine is no failure
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # started in a shell's background: the commands under test would inherit that Ctrl-C is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all that starts Ray in one process of a parallel run, one cluster at a time."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """A real S3 server, whose keys this process has."""
    pytest.importorskip("moto", reason="needs moto[s3,server]")
    os.environ.update(ENVIRONMENT)
    with serving() as server:
        yield server

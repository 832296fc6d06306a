"""One local Ray cluster for all tests that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a cluster with five CPUs in name, whose processes are as eager as the tests'."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # for drivers that run elsewhere
    from sparsepop.population.launch import SETTINGS

    os.environ.update(SETTINGS)
    import ray

    context = ray.init(
        address="local",
        num_cpus=5,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="CRITICAL",
        namespace="sparsepop",
        object_store_memory=200 * 2**20,
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()

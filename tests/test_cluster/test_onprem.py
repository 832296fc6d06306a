"""cluster-onprem.yaml, launched on machines made of namespaces: up, a population, its results, down."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sparsepop.results import read
from tests.test_cluster.hosts import SHARED, missing, network, wait_for
from tests.test_cluster.laptop import laptop
from tests.test_cluster.small import STEPS

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1200)]

WITHOUT = missing()
FOUR = 4  # members, as many as the two machines have CPUs in name


@pytest.mark.skipif(WITHOUT is not None, reason=str(WITHOUT))
def test_a_population_trains_on_machines_of_ones_own(tmp_path: Path) -> None:
    with network(tmp_path, os.getpid() % 250) as net:
        head, worker = f"{net.prefix}.10", f"{net.prefix}.11"

        def change(config: dict[str, Any]) -> None:
            config["provider"] |= {"head_ip": head, "worker_ips": [worker]}
            # the head's CPUs are this machine's, and so are the worker's: say how many each has
            config["head_start_ray_commands"][1] += " --num-cpus=2"
            config["worker_start_ray_commands"][1] += " --num-cpus=2"

        mine = laptop(net, "cluster-onprem.yaml", change)
        hosts = [net.host("head", head, mine.public_key), net.host("worker", worker, mine.public_key)]
        mine.up("RAY_UP_enable_autoscaler_v2=0")
        joined = wait_for(hosts[1].has_ray, "Ray on the worker", 180)
        print(f"{joined:6.1f} s until the worker had Ray")

        log = mine.submit(f"{SHARED}/results", f"--members {FOUR}")

        assert "succeeded" in log, log
        check_whole(tmp_path / "shared" / "results" / "small")
        mine.down()
        # `ray stop` reaches the head; a worker's Ray ends itself when it finds no head any more
        gone = wait_for(lambda: not any(host.has_ray() for host in hosts), "end of Ray", 180)
        print(f"{gone:6.1f} s until Ray had gone from all machines")


def check_whole(experiment: Path) -> None:
    members = read(experiment, "members")
    assert list(members["status"]) == ["done"] * FOUR
    assert set(members["step"]) == {STEPS}
    assert {json.loads(text)["host"] for text in members["hardware"]} == {"head", "worker"}

"""cluster-onprem.yaml, launched on machines made of namespaces: up, a population, its results, down."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sparsepop.results import read
from tests.test_cluster.hosts import SHARED, Host, missing, network, wait_for
from tests.test_cluster.laptop import laptop
from tests.test_cluster.small import MEMBERS, STEPS

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]

WITHOUT = missing()


@pytest.mark.skipif(WITHOUT is not None, reason=str(WITHOUT))
def test_a_population_trains_on_machines_of_ones_own(tmp_path: Path) -> None:
    with network(tmp_path, os.getpid() % 250) as net:
        head, worker = f"{net.prefix}.10", f"{net.prefix}.11"

        def change(config: dict[str, Any]) -> None:
            config["provider"] |= {"head_ip": head, "worker_ips": [worker]}

        mine = laptop(net, "cluster-onprem.yaml", change)
        for name, address in (("head", head), ("worker", worker)):
            net.host(name, address, mine.public_key)
        mine.sh("RAY_UP_enable_autoscaler_v2=0 ray up --yes cluster-onprem.yaml")
        wait_for(lambda: "worker joined" in mine.on_head(JOINED), "worker in the cluster", 120)

        log = mine.submit(f"{SHARED}/results", "small")

        assert "succeeded" in log, log
        mine.ray("down --yes FILE")
        assert not runs_ray(net.hosts["head"])
        gone = wait_for(lambda: not runs_ray(net.hosts["worker"]), "end of Ray on the worker", 180)
        print(f"{gone:6.1f} s until Ray had gone from the worker")
        check_whole(tmp_path / "shared" / "results" / "small")


JOINED = "python -c 'import ray; ray.init(logging_level=50); print(len(ray.nodes()) == 2 and \\\"worker joined\\\")'"


def runs_ray(host: Host) -> bool:
    return "/raylet " in host.run("ps -A -o command")


def check_whole(experiment: Path) -> None:
    members = read(experiment, "members")
    assert list(members["status"]) == ["done"] * MEMBERS
    assert set(members["step"]) == {STEPS}
    assert {json.loads(text)["host"] for text in members["hardware"]} == {"head", "worker"}

"""cluster.yaml, launched on a cloud that moto plays: workers come, one is lost, the population ends whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sparsepop.results import read
from sparsepop.storage import Storage
from tests.test_cluster.hosts import missing, network, wait_for
from tests.test_cluster.laptop import Laptop, laptop
from tests.test_cluster.small import GENERATION, MEMBERS, STEPS

if TYPE_CHECKING:
    from tests.test_cluster.cloud import Cloud

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1500)]

WITHOUT = missing()


@pytest.mark.skipif(WITHOUT is not None, reason=str(WITHOUT))
def test_a_population_trains_on_spot_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    pytest.importorskip("moto")
    from tests.test_cluster.cloud import KEYS, cloud

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)  # pyarrow's, where results are read
    with network(tmp_path, os.getpid() % 250) as net, cloud(net) as aws:
        mine = laptop(net, "cluster.yaml", lambda config: on_moto(config, aws.subnet))
        aws.authorized = lambda: launcher_key(mine)
        try:
            mine.ray("up --yes FILE")
            wait_for(lambda: len(aws.running("worker")) == 1, "first worker", 120)
            mine.submit(aws.storage, "small", wait=False)
            lose_a_worker(aws)
            wait_for(lambda: ended(mine), "end of the population", 600)
        finally:
            if aws.running("head"):
                mine.on_head("tail -n 40 /tmp/ray/session_latest/logs/monitor*.log; ray status")
        assert "SUCCEEDED" in mine.on_head("ray job status small --address http://127.0.0.1:8265")
        check_whole(Storage(aws.storage).child("small"))
        back = wait_for(lambda: len(aws.running("worker")) == 1, "worker given back", 180)
        print(f"{back:6.1f} s until the idle worker was given back")
        mine.ray("down --yes FILE")
        assert not aws.running()
        assert aws.failure is None


def on_moto(config: dict[str, Any], subnet: str) -> None:
    """No public addresses, two small workers with a CPU each, and impatience."""
    config["provider"]["use_internal_ips"] = True
    config |= {"max_workers": 2, "idle_timeout_minutes": 0.5}
    worker = config["available_node_types"]["worker"]
    worker |= {"max_workers": 2, "resources": {"CPU": 1}}
    worker["node_config"]["InstanceType"] = "m6i.large"
    for kind in config["available_node_types"].values():
        kind["node_config"]["SubnetIds"] = [subnet]


def launcher_key(mine: Laptop) -> str:
    """The public half of the key that Ray had the cloud make."""
    return mine.host.run("ssh-keygen -y -f ~/.ssh/ray-autoscaler_us-east-1.pem")


def lose_a_worker(aws: Cloud) -> None:
    """Once there is a second worker and both have been seen to train."""
    storage = Storage(aws.storage).child("small")
    came = wait_for(lambda: len(aws.running("worker")) == 2, "second worker", 300)
    print(f"{came:6.1f} s until a second worker was asked for")
    trained = wait_for(lambda: len(hosts_of(storage)) == 2, "members on both workers", 300)
    print(f"{trained:6.1f} s until both trained; now the older one is lost")
    aws.lose(next(iter(aws.running("worker"))))


def hosts_of(storage: Storage) -> set[str]:
    if not storage.exists("members"):
        return set()
    rows = read(storage, "members", superseded=True)
    return {json.loads(text)["host"] for text in rows["hardware"].dropna()}


def ended(mine: Laptop) -> bool:
    status = mine.on_head("ray job status small --address http://127.0.0.1:8265")
    return "SUCCEEDED" in status or "FAILED" in status


def check_whole(storage: Storage) -> None:
    members, reports = read(storage, "members"), read(storage, "reports")
    assert list(members["status"]) == ["done"] * MEMBERS
    assert members["attempt"].max() > 0
    assert len(reports) == MEMBERS * STEPS // GENERATION
    assert not reports.duplicated(["member", "step"]).any()
    assert len(hosts_of(storage)) == 3

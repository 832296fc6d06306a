"""cluster.yaml, launched on a cloud that moto plays: workers come, one is lost, the population ends whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sparsepop.results import read
from sparsepop.storage import Storage
from tests.test_cluster.hosts import missing, network, wait_for
from tests.test_cluster.laptop import Laptop, laptop
from tests.test_cluster.small import GENERATION, MEMBERS, STEPS

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(2400)]

WITHOUT = missing()
ASK = "from ray.autoscaler.sdk import request_resources; request_resources(bundles=[{{'CPU': 1}}] * {count})"


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
        mine.up()
        ask_for(mine, 2)
        until("Ray on two workers", lambda: aws.with_ray("worker") == 2)
        mine.submit(aws.storage, job_flags="--no-wait")
        storage = Storage(aws.storage).child("small")
        until("members on both workers", lambda: len(hosts_of(storage)) == 2)
        until("first generation", lambda: len(reports_of(storage)) >= 2)
        aws.lose(next(iter(aws.running("worker"))))
        until("a worker in its place", lambda: len(hosts_of(storage)) == 3)
        until("end of the population", lambda: statuses_of(storage) == ["done"] * MEMBERS)
        check_whole(storage)
        until("end of the job", lambda: "succeeded" in mine.on_head(STATUS))
        ask_for(mine, 0)
        until("an idle worker given back", lambda: len(aws.running("worker")) == 1)
        mine.down()
        assert not aws.running()
        assert aws.failure is None


STATUS = "ray job status --address http://127.0.0.1:8265 small"


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


def ask_for(mine: Laptop, count: int) -> None:
    """Ask the autoscaler for workers before there is work for them, or for none any more."""
    mine.on_head(f'python -c \\"import ray; ray.init(logging_level=50); {ASK.format(count=count)}\\"')


def until(what: str, ready: Any) -> None:
    print(f"{wait_for(ready, what, 400, pause=2):6.1f} s until {what}", flush=True)


def statuses_of(storage: Storage) -> list[str]:
    return list(read(storage, "members")["status"]) if storage.exists("members") else []


def reports_of(storage: Storage) -> Any:
    return read(storage, "reports") if storage.exists("reports") else []


def hosts_of(storage: Storage) -> set[str]:
    """Names of all machines that have ever trained a member."""
    if not storage.exists("members"):
        return set()
    rows = read(storage, "members", superseded=True)
    return {json.loads(text)["host"] for text in rows["hardware"].dropna()}


def check_whole(storage: Storage) -> None:
    members, reports = read(storage, "members"), read(storage, "reports")
    assert list(members["step"]) == [STEPS] * MEMBERS
    assert members["attempt"].max() > 0
    assert len(reports) == MEMBERS * STEPS // GENERATION
    assert not reports.duplicated(["member", "step"]).any()

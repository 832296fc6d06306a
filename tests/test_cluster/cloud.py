"""A cloud: moto answers for AWS, and a machine of namespaces stands behind every instance said to run."""

from __future__ import annotations

import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from tests.test_cluster.hosts import Network, wait_for

REGION, PORT, BUCKET, PROFILE = "us-east-1", 5000, "results", "sparsepop"
KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": REGION}
POLL = 0.5


@dataclass
class Cloud:
    """`subnet` is where all instances live; `authorized` gives the public key that they let in."""

    network: Network
    subnet: str = ""
    authorized: Callable[[], str] = lambda: ""
    failure: Exception | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"http://{self.network.gateway}:{PORT}"

    @property
    def storage(self) -> str:
        """A `--storage` on the cloud's S3; moto lacks what pyarrow would do without allow_delayed_open."""
        where = f"endpoint_override={self.network.gateway}:{PORT}&scheme=http&region={REGION}"
        return f"s3://{BUCKET}/populations?{where}&allow_delayed_open=true"

    def client(self, service: str) -> Any:
        secrets = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, **secrets)

    def furnish(self) -> None:
        """What an account has before the first cluster: a network, a bucket, a profile for the nodes."""
        ec2, block = self.client("ec2"), f"{self.network.prefix}.0/24"
        vpc = ec2.create_vpc(CidrBlock=block)["Vpc"]["VpcId"]
        self.subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=block)["Subnet"]["SubnetId"]
        self.client("s3").create_bucket(Bucket=BUCKET)
        self.client("iam").create_instance_profile(InstanceProfileName=PROFILE)

    def running(self, kind: str = "") -> dict[str, str]:
        """Address of every instance that runs, or of those of one node type."""
        pages = self.client("ec2").get_paginator("describe_instances").paginate()
        found = [each for page in pages for one in page["Reservations"] for each in one["Instances"]]
        return {
            each["InstanceId"]: each["PrivateIpAddress"]
            for each in found
            if each["State"]["Name"] == "running" and (not kind or kind in _tags(each))
        }

    def with_ray(self, kind: str) -> int:
        """How many instances of one node type are nodes of a Ray cluster already."""
        return sum(
            name in self.network.hosts and self.network.hosts[name].has_ray() for name in self.running(kind)
        )

    def lose(self, instance: str) -> None:
        """End an instance as the spot market does."""
        self.client("ec2").terminate_instances(InstanceIds=[instance])

    def _watch(self) -> None:
        while not self._stop.wait(POLL):
            try:
                self._follow(self.running())
            except Exception as error:
                self.failure = error
                raise

    def _follow(self, running: dict[str, str]) -> None:
        mine = {name for name in self.network.hosts if name.startswith("i-")}
        for name in mine - set(running):
            self.network.vanish(name)
        for name in set(running) - mine:
            self.network.host(name, running[name], self.authorized())


def _tags(instance: dict[str, Any]) -> list[str]:
    return [tag["Value"] for tag in instance.get("Tags", []) if tag["Key"] == "ray-user-node-type"]


@contextmanager
def cloud(network: Network) -> Iterator[Cloud]:
    """A furnished cloud on a network, watched until the end."""
    made = Cloud(network)
    network.environment = {**KEYS, "AWS_ENDPOINT_URL": made.endpoint}
    server = Path(sys.executable).parent / "moto_server"
    with open(network.folder / "moto.log", "wb") as log:
        command = [str(server), "-H", network.gateway, "-p", str(PORT)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    watcher = threading.Thread(target=made._watch)
    try:
        wait_for(lambda: _up(made.endpoint), "moto", 60)
        made.furnish()
        watcher.start()
        yield made
    finally:
        made._stop.set()
        if watcher.ident:
            watcher.join()
        process.terminate()
        process.wait()


def _up(endpoint: str) -> bool:
    with suppress(OSError):
        urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=2).close()
        return True
    return False

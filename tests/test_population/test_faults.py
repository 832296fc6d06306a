"""Whatever dies, the population ends with the results of the undisturbed one. Linux only: reads /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from sparsepop.experiment import PBT, Resources
from sparsepop.member import Member
from sparsepop.methods import Method
from sparsepop.population.launch import train_all
from sparsepop.population.places import Places
from sparsepop.population.preflight import begin
from sparsepop.recipe import Recipe
from sparsepop.results import read
from sparsepop.storage import Storage
from tests.test_population.commands import Command, command_line, descendants, kill
from tests.test_population.worlds import SPACE, World, assert_same_results, experiment, recipe

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("ray_address"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


def undisturbed(members: int, folder: Path) -> Storage:
    storage = Storage(str(folder / "undisturbed"))
    assert not World(experiment(PBT(SPACE, members=members, quantile=0.5)), storage).run().errors
    return storage


def assert_undisturbed(command: Command, members: int, *extra: str) -> None:
    """The results of the undisturbed run, but for the name of the slow method and `extra` kinds of events."""
    whole = undisturbed(members, command.folder)
    assert_same_results(command.storage, whole, ignored=["recipe"], kinds=extra)


@contextmanager
def two_nodes() -> Iterator[tuple[Cluster, Any]]:
    """A head and a second node, two CPUs each."""
    settings = {"num_cpus": 2, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=settings)
    try:
        yield cluster, cluster.add_node(num_cpus=2)
    finally:
        cluster.shutdown()


def test_everything_is_killed_at_once(tmp_path: Path) -> None:
    command = Command(tmp_path)
    first = command.start()
    command.reach(first, 2)
    everybody = [*descendants(first.pid), first.pid]
    assert len(everybody) > 5
    kill(everybody)
    first.communicate()
    command.finish(command.start())
    assert_undisturbed(command, 2)


def test_the_exchange_is_killed(tmp_path: Path) -> None:
    command = Command(tmp_path)
    process = command.start()
    command.reach(process, 1)
    exchanges = [pid for pid in descendants(process.pid) if command_line(pid).startswith("ray::Exchange")]
    assert len(exchanges) == 1
    kill(exchanges)
    began = time.monotonic()
    command.reach(process, 2)
    # the generation itself takes a second
    assert time.monotonic() - began < 60
    command.finish(process)
    assert_undisturbed(command, 2)
    assert read(command.storage, "members", superseded=True)["attempt"].max() == 0


def test_a_node_is_killed(tmp_path: Path) -> None:
    """Its members go on where the others are, in turns."""
    with two_nodes() as (cluster, second):
        command = Command(tmp_path, ["--address", cluster.address], members=4)
        process = command.start()
        command.reach(process, 1)
        cluster.remove_node(second, allow_graceful=False)
        command.finish(process)
    assert_undisturbed(command, 4)


def test_a_node_is_announced_to_go(tmp_path: Path) -> None:
    with two_nodes() as (cluster, second):
        command = Command(tmp_path, ["--address", cluster.address], members=4, pause=1.0)
        process = command.start()
        command.reach(process, 1)
        drain = ["drain-node", "--address", cluster.address, "--node-id", second.node_id]
        drain += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ray"), *drain], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        deadline = time.monotonic() + 30
        while (
            not (early := list(tmp_path.glob("out/small/states/*/early.pt"))) and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        assert early
        cluster.remove_node(second, allow_graceful=False)
        command.finish(process)
    assert_undisturbed(command, 4, "notice")
    assert "notice" in set(read(command.storage, "events")["kind"])


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_the_disk_fails_and_comes_back(tmp_path: Path, how: str) -> None:
    disk = tmp_path / "out"
    with small_disk(disk, "96m"):
        command = Command(tmp_path)
        process = command.start()
        command.reach(process, 1)
        if how == "full":
            fill(disk / "filler")
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 1
        lines = errors.splitlines()
        assert len(lines) == 2, errors
        word = "No space left on device" if how == "full" else "Read-only file system"
        assert all(line.startswith("sparsepop: member") and word in line for line in lines)
        assert not list(disk.rglob("*.tmp"))
        assert set(read(command.storage, "reports")["generation"]) >= {1}
        if how == "full":
            (disk / "filler").unlink()
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        command.finish(command.start())
        assert_undisturbed(command, 2, "unsaved")


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(1 << 20))


@dataclass(frozen=True)
class Hang(Method):
    """Stops at `step`, once."""

    folder: str
    step: int

    def after_step(self, member: Member) -> None:
        mark = Path(self.folder, "hung")
        if member.step == self.step and not mark.exists():
            mark.touch()
            signal.pause()


def test_a_member_hangs(tmp_path: Path) -> None:
    def hanging(hp: dict[str, Any]) -> Recipe:
        plain = recipe(hp)
        return replace(plain, methods=(*plain.methods, Hang(str(tmp_path), 11)))

    search = PBT(SPACE, members=2, quantile=0.5)
    changed = experiment(search, recipe=hanging, resources=Resources(cpus=1, patience=15.0))
    storage = Storage(str(tmp_path / "small"))
    begin(changed, storage, fresh=False)
    assert train_all(changed, storage, Places(2, 1.0, 0.0, 1)) == {}
    assert_same_results(storage, undisturbed(2, tmp_path), ignored=["recipe"], kinds=["hung"])
    events = read(storage, "events", superseded=True)
    (message,) = events[events["kind"] == "hung"]["message"]
    assert "in after_step" in message
    assert os.path.basename(__file__) in message


def test_states_larger_than_the_object_store(tmp_path: Path) -> None:
    def large(hp: dict[str, Any]) -> Recipe:
        return replace(recipe(hp), model="resnet-18", steps=8, batch=8)

    search = PBT(SPACE, members=2, quantile=0.5)
    changed = replace(experiment(search, recipe=large), generation=2)
    command = Command(tmp_path)
    command.config = LARGE
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 << 20},
    )
    try:
        command.flags = ["--address", cluster.address]
        command.finish(command.start())
    finally:
        cluster.shutdown()
    whole = Storage(str(tmp_path / "undisturbed"))
    assert not World(changed, whole).run().errors
    assert_same_results(command.storage, whole)
    assert "exploit" in set(read(command.storage, "events")["kind"])


LARGE = """
from dataclasses import replace
from sparsepop.experiment import PBT
from tests.test_population.worlds import experiment as small, recipe as plain, SPACE

def recipe(hp):
    return replace(plain(hp), model="resnet-18", steps=8, batch=8)

def experiment():
    return replace(small(PBT(SPACE, members=2, quantile=0.5), recipe=recipe), generation=2)
"""

"""Populations on a real local Ray cluster: the results of one process, whatever happens to processes."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ray

from sparsepop.experiment import PBT, Experiment, Grid
from sparsepop.member import Member
from sparsepop.methods import Method
from sparsepop.optim import SGD
from sparsepop.population import launch
from sparsepop.population.board import Terms
from sparsepop.population.exchange import exchange_actor
from sparsepop.population.launch import train_all
from sparsepop.population.messages import Post
from sparsepop.population.places import Places
from sparsepop.population.preflight import begin
from sparsepop.recipe import Recipe
from sparsepop.results import read
from sparsepop.run import main
from sparsepop.storage import Storage
from tests.test_population.commands import Command
from tests.test_population.worlds import SPACE, STEPS, World, assert_same_results, experiment, recipe

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_address")]
THREE_AT_ONCE = Places(3, 1.0, 0.0, 1)
TWO_AT_ONCE = Places(2, 2.5, 0.0, 1)
ONE_AT_A_TIME = Places(1, 5.0, 0.0, 1)


@dataclass(frozen=True)
class Trip(Method):
    """At `step`, once for every file `FOLDER/N` (N < times) that is not there yet: raises or kills itself."""

    folder: str
    step: int
    times: int = 1
    kill: bool = False

    def after_step(self, member: Member) -> None:
        if member.step != self.step:
            return
        for number in range(self.times):
            with suppress(FileExistsError):
                Path(self.folder, str(number)).touch(exist_ok=False)
                if self.kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise RuntimeError("stumbled over a stone")


def tripping(trip: Trip, when: Callable[[dict[str, Any]], bool] = lambda hp: True) -> Callable[..., Recipe]:
    def made(hp: dict[str, Any]) -> Recipe:
        plain = recipe(hp)
        return replace(plain, methods=(*plain.methods, trip)) if when(hp) else plain

    return made


def test_members_find_files_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config may name a ticket's store, say, relative to there."""
    monkeypatch.chdir(tmp_path)
    Path("rate.txt").write_text("0.05")

    def made(hp: dict[str, Any]) -> Recipe:
        return replace(
            recipe({"lr": 0.1, "fraction": 0.3}), optimizer=SGD(float(Path("rate.txt").read_text()))
        )

    small, storage = experiment(Grid({}, seeds=2), recipe=made), Storage(str(tmp_path / "out"))
    begin(small, storage, fresh=False)
    assert train_all(small, storage, TWO_AT_ONCE) == {}
    assert set(read(storage, "reports")["lr"]) == {0.05}


def counting(folder: Path, made: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Notes, in every process but this one, how many members live there when a recipe is asked for."""
    driver = os.getpid()

    def counted(hp: dict[str, Any]) -> Recipe:
        if os.getpid() != driver:
            alive = sum(isinstance(each, Member) for each in gc.get_objects())
            (folder / f"alive-{alive}-{os.getpid()}").touch()
        return made(hp)

    return counted


def run(experiment: Experiment, folder: Path, places: Places) -> tuple[Storage, dict[int, str]]:
    storage = Storage(str(folder / "small"))
    begin(experiment, storage, fresh=False)
    return storage, train_all(experiment, storage, places)


def undisturbed(experiment: Experiment, folder: Path) -> Storage:
    storage = Storage(str(folder / "undisturbed"))
    assert not World(experiment, storage).run().errors
    return storage


def test_members_take_turns_and_one_is_killed_and_the_results_stay_the_same(tmp_path: Path) -> None:
    trip = Trip(str(tmp_path), 11, kill=True)
    changed = experiment(PBT(SPACE, members=5), recipe=counting(tmp_path, tripping(trip)))
    storage, failed = run(changed, tmp_path, TWO_AT_ONCE)
    assert failed == {}
    assert (tmp_path / "0").exists()
    assert_same_results(storage, undisturbed(changed, tmp_path))
    # one attempt for each turn, and few processes for all of them, in which no member outlives its turn
    assert len(read(storage, "members", superseded=True)) > 2 * 5
    alive = [path.name.split("-") for path in tmp_path.glob("alive-*")]
    assert max(int(count) for _, count, _ in alive) <= 1
    assert len({pid for _, _, pid in alive}) <= 4


def test_a_member_that_keeps_failing_is_given_up_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "RETRIES", 1)
    lr = max(start.hp["lr"] for start in experiment().starts())
    # nobody is better than the one that stumbles, so it keeps its hyperparameters
    trip = Trip(str(tmp_path), 11, times=9)
    changed = experiment(recipe=tripping(trip, lambda hp: hp["lr"] == lr), score="lr")
    assert changed.starts()[0].hp["lr"] == lr
    storage, failed = run(changed, tmp_path, THREE_AT_ONCE)
    told = rf"RuntimeError: stumbled over a stone \({Path(__file__).name}:\d+\)"
    assert list(failed) == [0]
    assert re.fullmatch(told, failed[0])
    members = read(storage, "members").set_index("member")
    assert dict(members["status"]) == {0: "failed", 1: "done", 2: "done"}
    assert members.loc[0, "message"].startswith(f"{failed[0]}\n")
    assert "after_step" in members.loc[0, "message"]
    assert members.loc[0, "step"] == 8
    assert sorted(path.name for path in tmp_path.glob("?")) == ["0", "1"]


def test_an_asynchronous_population_takes_turns(tmp_path: Path) -> None:
    search = PBT(SPACE, members=2, quantile=0.5, synchronous=False)
    storage, failed = run(experiment(search), tmp_path, ONE_AT_A_TIME)
    assert failed == {}
    reports = read(storage, "reports")
    assert sorted(reports[reports["final"]]["member"]) == [0, 1]
    assert not reports.duplicated(["member", "step"]).any()


def test_members_without_exchange_queue_for_places(tmp_path: Path) -> None:
    changed = experiment(Grid({"lr": [0.1, 0.01], "fraction": [0.3]}))
    storage, failed = run(changed, tmp_path, ONE_AT_A_TIME)
    assert failed == {}
    assert_same_results(storage, undisturbed(changed, tmp_path))
    assert len(read(storage, "members", superseded=True)) == 4
    assert not storage.exists("posts")


def test_the_exchange_survives_and_stays_small(tmp_path: Path) -> None:
    actor = exchange_actor().remote(str(tmp_path), Terms(PBT(SPACE, members=2, quantile=0.5), [0, 1]))
    hp = {"lr": 0.1, "fraction": 0.2}
    ray.get(actor.post.remote(Post(0, 1, 0.1, 0.1, hp, 8), []))
    assert ray.get(actor.ask.remote(0, 1, 0.01)) is None
    loaded = ray.get(actor.__ray_call__.remote(lambda self: "torch" in sys.modules))
    assert loaded is False
    ray.kill(actor, no_restart=False)
    ray.get(actor.post.remote(Post(1, 1, 0.9, 0.1, hp, 8), []))
    assignment, reference = ray.get(actor.ask.remote(0, 1, 5.0))
    assert (assignment.donor, assignment.donor_generation, reference) == (1, 1, [])
    ray.kill(actor)


def test_killed_stopped_resumed_and_done(
    tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(tmp_path, ["--address", ray_address])
    first = command.start()
    command.reach(first, 1)
    first.kill()
    first.communicate()

    for generation, sent in ((2, signal.SIGINT), (3, signal.SIGTERM)):
        stopped = command.start()
        command.reach(stopped, generation)
        stopped.send_signal(sent)
        began = time.monotonic()
        _, errors = stopped.communicate(timeout=60)
        assert time.monotonic() - began < 15
        assert stopped.returncode == 130
        assert errors.startswith("sparsepop: stopped; the same command goes on")
        assert len(errors.splitlines()) == 1

    last = command.start()
    output, errors = last.communicate(timeout=120)
    assert (last.returncode, errors) == (0, "")
    assert str(command.storage) in output
    reports = read(command.storage, "reports")
    assert sorted(zip(reports["member"], reports["step"], strict=True)) == [
        (member, step) for member in (0, 1) for step in range(8, STEPS + 1, 8)
    ]

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(launch, "cluster", None)  # all is done: no cluster is asked for
    assert main([str(tmp_path / "config.py"), "--storage", str(tmp_path / "out")]) == 0
    assert read(command.storage, "members", superseded=True)["attempt"].max() == 3

    whole = undisturbed(experiment(PBT(SPACE, members=2, quantile=0.5)), tmp_path)
    for name in ("score", "train_loss", "density", "train_flops"):
        assert list(reports[name]) == list(read(whole, "reports")[name])
    for name in ("hp_after", "donor"):
        assert list(read(command.storage, "events")[name]) == list(read(whole, "events")[name])

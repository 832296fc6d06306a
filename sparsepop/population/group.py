"""A member in several data-parallel processes: a Ray Train worker group inside the member's Tune trial."""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import suppress
from typing import Any
from uuid import uuid4

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.queue import Empty, Queue

from sparsepop.experiment import Start
from sparsepop.population.job import Job
from sparsepop.population.names import member_name
from sparsepop.population.notice import own_node
from sparsepop.population.states import StateFiles
from sparsepop.population.trial import MemberTrial, Tell, watched
from sparsepop.ranks import Ranks
from sparsepop.storage import Storage

SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # see `notice`
    # members queue for their workers' places here, for as long as it takes
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1000000",
}


LEFT = 0.01  # of each CPU: what the members' own trials live on
_ECHOES = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")


def run_group(job: Job, start: Start, tell: Tell) -> None:
    """Train a member in worker groups, one after another, until it is done: a group ends early where others
    need its place. Raises what a worker raised; the next attempt then goes on from the newest state."""
    os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
    places = _Place(job, start.member)
    places.clear()
    while not _Stay(job, start).run(tell):
        _wait_for_answer(job, start.member)


class _Stay:
    """One worker group, from its start to its end."""

    def __init__(self, job: Job, start: Start) -> None:
        self.member = start.member
        self.words = Queue(actor_options={"num_cpus": 0})
        self.done: bool | None = None  # until the leading worker says so
        self.error: BaseException | None = None
        self.folder = tempfile.TemporaryDirectory(prefix="sparsepop-", ignore_cleanup_errors=True)
        self.trainer = _trainer(job, start, self.words, self.folder.name)

    def run(self, tell: Tell) -> bool:
        """Pass on what the leading worker says; returns whether the member is done. Raises what ended the
        group, and RuntimeError where it ended and said nothing."""
        thread = threading.Thread(target=self._fit, daemon=True)
        thread.start()
        with self.folder:
            while thread.is_alive() or not self.words.empty():
                with suppress(Empty):
                    self._hear(self.words.get(timeout=0.5), tell)
        self.words.shutdown()
        if self.error is not None:
            raise self.error
        if self.done is None:
            raise RuntimeError(
                f"the workers of member {self.member} ended and did not say whether it is done: run the same "
                "command again, it goes on from its newest state"
            )
        return self.done

    def _hear(self, word: dict[str, Any], tell: Tell) -> None:
        if "done" in word:
            self.done = word["done"]
        else:
            tell(word)

    def _fit(self) -> None:
        try:
            self.trainer.fit()
        except WorkerGroupError as error:
            self.error = _root(error)
        except BaseException as error:  # a dead controller raises Ray's errors of actors, not those of Train
            self.error = error


def _root(error: WorkerGroupError) -> BaseException:
    """The failure that came first: the other ranks only say that somebody is gone."""
    failures = sorted(error.worker_failures.items())
    causes = [each for _, each in failures if not any(word in str(each) for word in _ECHOES)]
    return next(iter(causes or [each for _, each in failures]), error)


def _trainer(job: Job, start: Start, words: Queue, folder: str) -> TorchTrainer:
    workers = job.experiment.resources.workers
    wanted = {"CPU": max(0.0, job.cpus - LEFT), "GPU": job.gpus}
    resources = {name: each for name, each in wanted.items() if each}
    return TorchTrainer(
        _worker,
        train_loop_config={"job": job, "start": start, "words": words},
        torch_config=TorchConfig(backend="nccl" if job.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=bool(job.gpus), resources_per_worker=resources
        ),
        run_config=RunConfig(
            # Train would go on from its own checkpoints under a name that it knows
            name=f"{job.experiment.name}-{member_name(start.member)}-{uuid4().hex[:8]}",
            storage_path=folder,
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
        ),
    )


def _worker(config: dict[str, Any]) -> None:
    """What each of the group's processes does."""
    job, start, words = config["job"], config["start"], config["words"]
    job.settle()
    torch.set_num_threads(job.threads)
    if job.gpus:
        torch.cuda.set_device(get_device())
    ranks = Ranks.joined()
    if ranks.leads:
        _Place(job, start.member).note()
    nodes = ranks.all(own_node())
    tell = words.put if ranks.leads else lambda word: None
    trial = MemberTrial(job, start, tell, ranks, _places_are_wanted)
    with watched(trial, nodes):
        done = trial.run()
    if ranks.leads:
        words.put({"done": done})


def _places_are_wanted() -> bool:
    """Whether some worker group waits for a place."""
    groups = ray.util.placement_group_table().values()
    return any(group["state"] in ("PENDING", "RESCHEDULING") for group in groups)


def _wait_for_answer(job: Job, member: int) -> None:
    """Return when the exchange has decided what the member does next."""
    assert job.exchange is not None
    # without a state it waits for the common start
    begin = job.rounds.start if job.rounds is not None else 0
    generation = next(iter(StateFiles(Storage(job.root)).generations(member)), begin)
    while not job.exchange.decided(member, generation):
        pass


class _Place:
    """The placement group that a member's workers hold, noted on storage: Ray leaves it behind when a trial
    is killed, and nobody could use its devices until the driver ends."""

    def __init__(self, job: Job, member: int) -> None:
        self.storage = Storage(job.root)
        self.path = f"places/{member_name(member)}"

    def note(self) -> None:
        """Note the placement group that this worker runs in."""
        group = ray.util.get_current_placement_group()
        if group is not None:
            self.storage.write(self.path, group.id.hex().encode())

    def clear(self) -> None:
        """Free what an earlier attempt has left."""
        with suppress(FileNotFoundError, ValueError):
            name = self.storage.read(self.path).decode()
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(name))))
            self.storage.delete(self.path)

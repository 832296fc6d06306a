"""Putting a population on a Ray cluster: trials, the exchange, and what a failure means."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from ray import cloudpickle, tune

from sparsepop.experiment import PBT, Exchanging, Experiment, Start
from sparsepop.population.board import Terms, welcome
from sparsepop.population.client import PATIENCE, ActorClient
from sparsepop.population.exchange import exchange_actor
from sparsepop.population.job import Job
from sparsepop.population.loggers import made_loggers
from sparsepop.population.merger import RayMerger
from sparsepop.population.names import member_name
from sparsepop.population.places import CROWD, Places, ResourceError, plan_places
from sparsepop.population.timetable import rounds_of
from sparsepop.population.trial import run_member
from sparsepop.population.tuned import Guides, guides
from sparsepop.population.turns import Turns
from sparsepop.population.watch import Watch
from sparsepop.results import read
from sparsepop.storage import Storage

SLIVER = 0.0001  # of a CPU: the least that Tune gives a trial
RETRIES = 2  # times that a member may fail and go on from its newest state

SETTINGS = {
    # glibc gives the activations of each step back to the kernel, and faults them in again in the next; bytes
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

Nodes = list[Mapping[str, float]]


@contextmanager
def cluster(address: str | None) -> Iterator[Nodes]:
    """Connect to the cluster at `address`, or start one on this machine; yields what each of its nodes has.

    ConnectionError when there is none at `address`, or none starts.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.CRITICAL,
        "namespace": "sparsepop",
    }
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        _start(quiet)
    else:
        _check_reachable(address)
        ray.init(address=address, **quiet)
    try:
        with terminable():
            yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM, by which batch systems and `timeout` end a run, do what Ctrl-C does; Ray's own handler
    would print a stack and leave.
    """
    if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _start(settings: Mapping[str, Any]) -> None:
    try:
        ray.init(address="local", include_dashboard=False, **settings)
    except Exception as error:  # Ray raises nothing narrower when its processes take too long
        raise ConnectionError(
            f"Ray did not start on this machine ({error}): run the command again when the machine is less "
            "busy, or with --address on a running cluster"
        ) from error


def _check_reachable(address: str) -> None:
    """ConnectionError unless something listens at `host:port`: Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConnectionError(f"--address {address} is no address: give auto, or host:port")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address} ({error}): check --address") from error


def unfinished(experiment: Experiment, storage: Storage) -> list[Start]:
    """The starts of the members that have not come to an end, by their rows on storage."""
    done: set[int] = set()
    if storage.exists("members"):
        frame = read(storage, "members")
        done = set(frame.loc[frame["status"].isin(["done", "stopped", "merged"]), "member"])
    return [start for start in experiment.starts() if start.member not in done]


def places_for(experiment: Experiment, nodes: Nodes) -> Places:
    """Places for the whole population, so that the members left by an earlier run compute as all did;
    ResourceError when the cluster can never hold a member."""
    # members that exchange wait for each other, so they share devices rather than queue for them
    crowd = CROWD if isinstance(experiment.search, Exchanging) else 1
    members, search = len(experiment.starts()), experiment.search
    places = plan_places(members, experiment.resources, nodes, crowd=crowd)
    waits = not isinstance(search, PBT) or search.synchronous
    if experiment.resources.workers > 1 and not waits and places.at_once < members:
        raise ResourceError(
            f"{places.at_once} of {members} members of {experiment.resources.workers} workers have room at a "
            "time, and asynchronous ones give no place away: have fewer of either, or use synchronous=True"
        )
    return places


def train_all(experiment: Experiment, storage: Storage, places: Places, folder: str = "") -> dict[int, str]:
    """Train all members that are not done yet, on the cluster that this process is connected to; returns who
    failed for good, and why. Members find modules in `folder`, where their machine has it."""
    loggers = made_loggers(experiment, storage)
    guided = guides(experiment, storage, [start.member for start in unfinished(experiment, storage)])
    job = Job(
        experiment,
        storage.root,
        None,
        places.threads,
        places.device,
        places.cpus,
        places.gpus,
        folder,
        rounds_of(experiment),
        os.getcwd(),
    )
    exchange = _started_exchange(job, storage, guided.members)
    if exchange is not None:
        patience = min(PATIENCE, experiment.resources.patience / 2)  # who waits for longer would be hung
        job = replace(job, exchange=ActorClient(exchange, patience))
    population = len(experiment.starts())
    finished = population - len(guided.members)
    early = "stopped" if job.rounds is None else "merged"
    watch = Watch(storage, exchange, experiment.name, population, finished, early=early)
    with tempfile.TemporaryDirectory(prefix="sparsepop-", ignore_cleanup_errors=True) as scratch:
        try:
            if guided.members:  # else a scheduler had stopped the last ones when the run before ended
                _tuner(job, guided, places, [watch, *loggers], scratch).fit()
        finally:
            watch.close()
            if exchange is not None:
                ray.kill(exchange)
    return watch.failed


def _started_exchange(job: Job, storage: Storage, members: Sequence[int]) -> Any | None:
    """The handle of a new exchange between `members`; None where they exchange nothing."""
    experiment = job.experiment
    if not isinstance(experiment.search, Exchanging):
        return None
    welcome(storage)
    terms = Terms(experiment.search, members, experiment.mode, experiment.seed, job.rounds)
    merger = None
    if job.rounds is not None:
        merger = partial(RayMerger, cloudpickle.dumps(job), job.rounds.groups)
    return exchange_actor().remote(storage.root, terms, merger)


def _tuner(
    job: Job, guided: Guides, places: Places, callbacks: list[tune.Callback], scratch: str
) -> tune.Tuner:
    alone = job.experiment.resources.workers == 1
    # a data-parallel member's trial only waits for its workers, which have places of their own
    wanted = {"CPU": places.cpus, "GPU": places.gpus} if alone else {"CPU": SLIVER}
    trainable = tune.with_resources(tune.with_parameters(run_member, job=job), wanted)
    # even where all have a place now: a node may go
    turns = alone and job.exchange is not None
    asked = guided.searcher is not None
    return tune.Tuner(
        trainable,
        param_space={} if asked else {"member": tune.grid_search(guided.members)},
        tune_config=tune.TuneConfig(
            search_alg=guided.searcher,
            num_samples=len(guided.members) if asked else 1,
            # nobody is suggested anything before there is a place: until then more is known
            max_concurrent_trials=places.at_once if asked else None,
            scheduler=Turns() if turns else guided.scheduler,
            # a process that has loaded torch serves the next member
            reuse_actors=places.at_once < len(guided.members),
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            # Tune's own files are never read: results and states are ours
            storage_path=scratch,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=callbacks,
            verbose=0,
        ),
    )


def _trial_name(trial: Any) -> str:
    return member_name(trial.config["member"])

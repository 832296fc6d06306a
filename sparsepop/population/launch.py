"""Putting a population on a Ray cluster: places, trials, the exchange, and what a failure means."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import tune

from sparsepop.data import open_data
from sparsepop.experiment import ConfigError, Experiment, Start, describe, differences
from sparsepop.models import build
from sparsepop.population.exchange import start_exchange
from sparsepop.population.places import CROWD, Places, plan_places
from sparsepop.population.progress import Progress
from sparsepop.population.rules import impossible
from sparsepop.population.trial import Job, exchanges, run_member
from sparsepop.population.turns import Turns
from sparsepop.results import read
from sparsepop.storage import Storage

RETRIES = 2  # times that a member may fail and go on from its newest state

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a run: where its results lie, which members failed and why, and whether it was interrupted."""

    root: str
    failed: dict[int, str]
    interrupted: bool = False


def prepare(experiment: Experiment, storage: Storage, *, fresh: bool) -> None:
    """Check all that can be checked without a cluster, and note on storage what the experiment is.

    Raises ConfigError for a model or data set that cannot be built, for a population that could never exchange, and for an experiment
    of this name with another description; StorageError where nothing can be written.
    """
    storage.check_writable()
    description = describe(experiment)
    if fresh:
        storage.delete_tree()
    elif storage.exists("experiment.json"):
        changes = differences(json.loads(storage.read("experiment.json")), description)
        if changes:
            raise ConfigError(
                f"the experiment in {storage} was started with another config ({'; '.join(changes[:5])}): "
                "give this one another name, undo the change, or start over with --fresh"
            )
    check_members(experiment)
    storage.write("experiment.json", json.dumps(description, indent=1).encode())


def check_members(experiment: Experiment) -> None:
    """Build every kind of model once, and the data set; ConfigError says what cannot work."""
    recipes = [experiment.recipe(dict(start.hp)) for start in experiment.starts()]
    reason = impossible(experiment.search, min(-(-r.steps // experiment.generation) for r in recipes))
    if reason:
        raise ConfigError(reason)
    if reason := unlike(experiment, recipes):
        raise ConfigError(reason)
    try:
        data = open_data(experiment.data)
        data_steps = {recipe.batch: data.steps_per_epoch(recipe.batch) for recipe in recipes}
        assert all(data_steps.values())
        for model in sorted({recipe.model for recipe in recipes}):
            build(model, data.shape, data.classes)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(str(error)) from error


def unlike(experiment: Experiment, recipes: list[Any]) -> str | None:
    """Why the members of a PBT population cannot be compared, or None when they can."""
    if not exchanges(experiment):
        return None
    for name in ("steps", "density", "model"):
        values = sorted({getattr(recipe, name) for recipe in recipes})
        if len(values) > 1:
            return f"members of one population must agree on {name}, these have {values[:5]}: fix it, or use Grid or Sampled"
    return None


@contextmanager
def cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Connect to the cluster at `address`, or start one on this machine; yields its resources."""
    os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    options: dict[str, Any] = {"address": "local", "include_dashboard": False} if address is None else {"address": address}
    ray.init(**options, logging_level="ERROR", log_to_driver=False, namespace="sparsepop")
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def launch(experiment: Experiment, storage: Storage, resources: dict[str, float]) -> Outcome:
    """Train all members that are not done yet, on the cluster that this process is connected to."""
    todo = unfinished(experiment, storage)
    if not todo:
        return Outcome(storage.root, {})
    # members that exchange wait for each other, so they share devices rather than queue for them
    crowd = CROWD if exchanges(experiment) else 1
    places = plan_places(len(todo), experiment.resources, resources, crowd=crowd)
    members = [start.member for start in todo]
    exchange = start_exchange(storage.root, experiment.search, members, experiment.mode, experiment.seed)
    job = Job(experiment, storage.root, experiment.data, exchange, places.threads, places.device)
    watch = Watch(experiment.name, len(experiment.starts()), len(experiment.starts()) - len(todo), exchange)
    try:
        results = _tuner(job, members, places, watch).fit()
    except KeyboardInterrupt:
        watch.close()
        return Outcome(storage.root, {}, interrupted=True)
    return Outcome(storage.root, _failures(results))


def unfinished(experiment: Experiment, storage: Storage) -> list[Start]:
    """The starts of the members that have no `done` row on storage."""
    done: set[int] = set()
    if storage.exists("members"):
        frame = read(storage, "members")
        done = set(frame.loc[frame["status"] == "done", "member"])
    return [start for start in experiment.starts() if start.member not in done]


class Watch(Progress):
    """Shows progress, and tells the exchange when a member has failed for good."""

    def __init__(self, name: str, members: int, finished: int, exchange: Any) -> None:
        super().__init__(name, members, finished)
        self.exchange = exchange

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        super().on_trial_error(iteration, trials, trial, **info)
        ray.get(self.exchange.retire.remote(trial.config["member"]))


def _tuner(job: Job, members: list[int], places: Places, watch: Watch) -> tune.Tuner:
    trainable = tune.with_resources(
        tune.with_parameters(run_member, job=job), {"CPU": places.cpus, "GPU": places.gpus}
    )
    turns = exchanges(job.experiment) and places.at_once < len(members)
    return tune.Tuner(
        trainable,
        param_space={"member": tune.grid_search(members)},
        tune_config=tune.TuneConfig(
            scheduler=Turns() if turns else None,
            reuse_actors=turns,
            max_concurrent_trials=None,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            # Tune's own files are never read: results and states are ours
            storage_path=_scratch(),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[watch],
            verbose=0,
        ),
    )


def _trial_name(trial: Any) -> str:
    return f"m{trial.config['member']:04d}"


def _scratch() -> str:
    folder = tempfile.mkdtemp(prefix="sparsepop-tune-")
    _SCRATCH.append(folder)
    return folder


_SCRATCH: list[str] = []


def clean_scratch() -> None:
    """Remove what Tune wrote for itself."""
    while _SCRATCH:
        shutil.rmtree(_SCRATCH.pop(), ignore_errors=True)


def _failures(results: Any) -> dict[int, str]:
    failed = {}
    for result in results:
        if result.error is not None:
            lines = [line for line in str(result.error).splitlines() if line.strip()]
            failed[result.config["member"]] = lines[-1].strip() if lines else type(result.error).__name__
    return failed


def with_flags(experiment: Experiment, members: int | None, workers: int | None) -> Experiment:
    """The experiment with the population's size or the members' workers set from the command line."""
    if members is not None:
        if not hasattr(experiment.search, "members"):
            raise ConfigError(f"--members={members} does not fit {type(experiment.search).__name__}: its values say how many")
        experiment = replace(experiment, search=replace(experiment.search, members=members))
    if workers is not None:
        experiment = replace(experiment, resources=replace(experiment.resources, workers=workers))
    return experiment

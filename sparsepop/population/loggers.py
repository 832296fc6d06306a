"""TensorBoard, MLflow and Weights & Biases: Ray's own callbacks, shown members instead of trials."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from ray.tune import Callback

from sparsepop.config import ConfigError
from sparsepop.experiment import Experiment
from sparsepop.population.names import member_name
from sparsepop.population.suggestions import start_of
from sparsepop.storage import Storage

# the package that each needs, and the extra of this one that brings it
PACKAGES = {"tensorboard": ("tensorboardX", ""), "mlflow": ("mlflow", "mlflow"), "wandb": ("wandb", "wandb")}


def check_loggers(experiment: Experiment) -> None:
    """ConfigError where a logger's package is not installed."""
    for name in experiment.loggers:
        if not isinstance(name, str):
            continue
        package, extra = PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            what = f"the extra sparsepop[{extra}]" if extra else "ray[tune]"
            raise ConfigError(
                f"logger {name!r} needs the package {package!r}, which is absent: install {what}"
            )


def made_loggers(experiment: Experiment, storage: Storage) -> list[Callback]:
    """The callbacks of an experiment, set up; ConfigError where one does not work (a missing key, say).

    What they keep on this machine is in a folder of their name in the experiment's, or in this process's
    folder where the storage is not local.
    """
    return [_made(logger, experiment, storage) for logger in experiment.loggers]


def _made(logger: str | Callable[[], Any], experiment: Experiment, storage: Storage) -> Callback:
    name = logger if isinstance(logger, str) else logger.__qualname__
    folder = Path(storage.root if storage.local else experiment.name).absolute() / name
    try:
        inner = _MAKERS[logger](experiment, folder) if isinstance(logger, str) else logger()
        if not isinstance(inner, Callback):
            raise TypeError(f"it is a {type(inner).__name__} and no ray.tune.Callback")
        inner.setup()
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"logger {name} cannot start: {type(error).__name__}: {text}") from error
    return Logged(name, inner, experiment, storage, folder)


def _tensorboard(experiment: Experiment, folder: Path) -> Callback:
    from ray.tune.logger import TBXLoggerCallback

    return TBXLoggerCallback()


def _mlflow(experiment: Experiment, folder: Path) -> Callback:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    place = os.environ.get("MLFLOW_TRACKING_URI")
    if not place:
        # MLflow's newer versions refuse files as a store, unless they are told that they are meant
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        place = folder.as_uri()
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    return MLflowLoggerCallback(place, experiment_name=experiment.name)


def _wandb(experiment: Experiment, folder: Path) -> Callback:
    from ray.air.integrations.wandb import WandbLoggerCallback, _WandbLoggingActor

    class Finishing(_WandbLoggingActor):
        """Ray kills this process once `run` is over, when W&B's own may not have written all yet."""

        def run(self) -> None:
            import wandb

            super().run()
            wandb.teardown()

    class Waiting(WandbLoggerCallback):
        _logger_actor_cls = Finishing

    project = os.environ.get("WANDB_PROJECT") or "sparsepop"
    # the processes that log have the cluster's environment, not this one's
    passed = {
        name: value for name in ("mode", "base_url") if (value := os.environ.get(f"WANDB_{name}".upper()))
    }
    return Waiting(project=project, group=experiment.name, settings=passed)


_MAKERS: dict[str, Callable[[Experiment, Path], Callback]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}


class Logged(Callback):
    """Another callback sees each member as one trial, each generation once, with the numbers of its report;
    `timesteps_total` is the step, `training_iteration` the generation. One that fails is left alone from then
    on: no training ends for it."""

    def __init__(
        self, name: str, inner: Callback, experiment: Experiment, storage: Storage, folder: Path
    ) -> None:
        self.name = name
        self.inner: Callback | None = inner
        self.experiment = experiment
        self.storage = storage
        self.folder = folder
        self.run = uuid4().hex[:8]
        self.seen: dict[int, Seen] = {}
        self.newest: dict[int, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks, and never reads this
        return {"name": self.name}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A member has got a place, the first time or again."""
        if (member := trial.config["member"]) not in self.seen:
            hp = start_of(self.experiment, self.storage, member).hp
            self.seen[member] = Seen(trial, hp, self.folder, self.experiment.name, self.run)
            self._tell("on_trial_start", iteration, trials, self.seen[member])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A member has reached the end of a generation."""
        member = trial.config["member"]
        # members that wait say so, and those that were cut off repeat themselves
        if result["waiting"] or result["generation"] <= self.newest.get(member, -1):
            return
        self.newest[member] = result["generation"]
        self._tell("on_trial_result", iteration, trials, self.seen[member], shown(result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A member has written its last report, or is stopped early."""
        self._end("on_trial_complete", iteration, trials, trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A member has failed for good."""
        self._end("on_trial_error", iteration, trials, trial)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """All have ended."""
        self._tell("on_experiment_end", trials)

    def _end(self, hook: str, iteration: int, trials: list[Any], trial: Any) -> None:
        if (member := trial.config["member"]) in self.seen:
            self._tell(hook, iteration, trials, self.seen[member])

    def _tell(self, hook: str, *args: Any) -> None:
        if self.inner is None:
            return
        try:
            getattr(self.inner, hook)(*args)
        except Exception as error:
            self.inner = None
            text = " ".join(str(error).split())
            print(f"sparsepop: logger {self.name} stopped: {type(error).__name__}: {text}", file=sys.stderr)


class Seen:
    """A member as loggers see it: a trial of its own name, with the hyperparameters that it starts with."""

    def __init__(self, trial: Any, hp: Mapping[str, Any], folder: Path, experiment: str, run: str) -> None:
        self.trial = trial
        self.name = member_name(trial.config["member"])
        self.config = {"member": trial.config["member"], **hp}
        self.evaluated_params = self.config
        self.trial_id = f"{experiment}-{self.name}-{run}"  # each run of the command draws its own lines
        self.experiment_dir_name = experiment
        self.local_path = str(folder / self.name)
        self.init_local_path()

    def __str__(self) -> str:
        return self.name

    def __getattr__(self, name: str) -> Any:
        if name == "trial":
            raise AttributeError(name)
        return getattr(self.trial, name)

    def init_local_path(self) -> None:
        """Make the member's folder."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)


def shown(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a logger is shown of a result: numbers alone, under flat names: `hp/` are the hyperparameters now,
    `numbers/` those of methods."""
    report = result["report"]
    rows = {**{name: result[name] for name in ("member", "generation", "step", "donor")}, **report["row"]}
    rows |= {f"hp/{name}": value for name, value in report["hp"].items()}
    rows |= {f"numbers/{name}": value for name, value in report["numbers"].items()}
    numbers = {name: value for name, value in rows.items() if _number(value)}
    return {**numbers, "training_iteration": result["generation"], "timesteps_total": result["step"]}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

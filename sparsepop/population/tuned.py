"""Ray Tune's own searchers and schedulers for an experiment: made, checked, and put where they were."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import (
    HyperBandScheduler,
    PopulationBasedTraining,
    PopulationBasedTrainingReplay,
    ResourceChangingScheduler,
    TrialScheduler,
)
from ray.tune.search import Searcher

from sparsepop.config import ConfigError
from sparsepop.experiment import Experiment, Tuned
from sparsepop.population.schedulers import SEEN, Judge
from sparsepop.population.searchers import METRIC, Asked, decoded, samplers
from sparsepop.results import Tables, read
from sparsepop.results.reader import last_rows
from sparsepop.storage import Storage

EXTRAS = ("optuna",)  # of this package, each with the package of the same name
CLOCKS = (*SEEN, "training_iteration", "time_total_s")
_UNFIT: dict[type, str] = {
    PopulationBasedTraining: "copies Tune's checkpoints, and members have none: use search=PBT(...)",
    PopulationBasedTrainingReplay: "needs Tune's checkpoints, and members have none: use a Grid",
    HyperBandScheduler: "waits for whole brackets, which no resumed run can go on with: use ASHAScheduler",
    ResourceChangingScheduler: "changes resources, which a member keeps to its end: leave it out",
}


@dataclass(frozen=True)
class Guides:
    """Who suggests hyperparameters, who stops early (None: nobody), and the members left to train."""

    searcher: Asked | None
    scheduler: Judge | None
    members: list[int]


def guides(experiment: Experiment, storage: Storage, members: list[int]) -> Guides:
    """The guides of an experiment, in the state in which earlier runs on `storage` left them; members whose
    last report a scheduler would have stopped them after are stopped now, and left out."""
    if not isinstance(experiment.search, Tuned):
        return Guides(None, None, members)
    scheduler = _scheduler(experiment, storage)
    if scheduler is not None and storage.exists("reports"):
        stopped = scheduler.replay(read(storage, "reports"), _ended(storage))
        members = [member for member in members if member not in stopped]
    return Guides(_searcher(experiment, storage, members), scheduler, members)


def check_tuned(experiment: Experiment) -> None:
    """ConfigError unless searcher and scheduler can be made and fit; the searcher has to suggest something
    within the space."""
    search = experiment.search
    if not isinstance(search, Tuned):
        return
    if search.scheduler is not None:
        _made_scheduler(search.scheduler, experiment)
    if search.searcher is not None:
        inner = _made_searcher(search.searcher, experiment)
        try:
            if isinstance(suggested := inner.suggest("probe"), dict):
                decoded(search.space, suggested)
        except Exception as error:
            raise _wrong("searcher", error) from error


def _searcher(experiment: Experiment, storage: Storage, members: list[int]) -> Asked | None:
    search = experiment.search
    if not isinstance(search, Tuned) or search.searcher is None:
        return None
    inner = _made_searcher(search.searcher, experiment)
    return Asked(inner, search.space, storage, members, _ended(storage))


def _scheduler(experiment: Experiment, storage: Storage) -> Judge | None:
    search = experiment.search
    if not isinstance(search, Tuned) or search.scheduler is None:
        return None
    return Judge(_made_scheduler(search.scheduler, experiment), storage, experiment.seed)


def _ended(storage: Storage) -> dict[int, float]:
    """The last scores of the members that are done or stopped."""
    if not storage.exists("members"):
        return {}
    tables = Tables(storage)
    members, reports = tables.read("members"), tables.read("reports")
    ended = set(members.loc[members["status"].isin(["done", "stopped"]), "member"])
    scores = last_rows(reports)["score"]
    known = zip(scores.index.tolist(), scores.tolist(), strict=True)
    return {int(member): float(score) for member, score in known if member in ended}


def _made_searcher(make: Callable[[], Any], experiment: Experiment) -> Searcher:
    searcher = _made("searcher", make, Searcher)
    for package in EXTRAS:
        logging.getLogger(package).setLevel(logging.WARNING)  # the terminal is taken
    assert isinstance(experiment.search, Tuned)
    space = samplers(experiment.search.space)
    if not searcher.set_search_properties(METRIC, experiment.mode, space):
        raise ConfigError(
            f"{type(searcher).__name__} has a space, metric or mode of its own, or takes none of Ray Tune's: "
            "leave them to the experiment"
        )
    return searcher


def _made_scheduler(make: Callable[[], Any], experiment: Experiment) -> TrialScheduler:
    scheduler = _made("scheduler", make, TrialScheduler)
    name = type(scheduler).__name__
    for kind, reason in _UNFIT.items():
        if isinstance(scheduler, kind):
            raise ConfigError(f"{name} {reason}")
    if experiment.resources.workers > 1:
        raise ConfigError(
            f"{name} cannot stop a member of several workers early: use workers=1, or leave it out"
        )
    # Tune's schedulers stop nobody where they don't find it, and say nothing
    if (clock := getattr(scheduler, "_time_attr", CLOCKS[0])) not in CLOCKS:
        raise ConfigError(
            f"{name} counts {clock!r}, which no report has: use time_attr='generation' or 'step'"
        )
    if not scheduler.set_search_properties(METRIC, experiment.mode):
        raise ConfigError(f"{name} has a metric or mode of its own: leave them to the experiment")
    return scheduler


def _made(what: str, make: Callable[[], Any], kind: type) -> Any:
    try:
        made = make()
    except Exception as error:
        raise _wrong(what, error) from error
    if not isinstance(made, kind):
        raise ConfigError(f"{what}() gave a {type(made).__name__}: return a {kind.__name__} of ray.tune")
    return made


def _wrong(what: str, error: Exception) -> ConfigError:
    if package := _missing(error):
        extra = f"the extra sparsepop[{package}]" if package in EXTRAS else "it"
        return ConfigError(f"{what}() needs the package {package!r}, which is not installed: install {extra}")
    text = " ".join(str(error).split())
    return ConfigError(f"{what}() raised {type(error).__name__}: {text}")


def _missing(error: Exception) -> str | None:
    """The package whose absence is behind an error: Ray's searchers assert that theirs is there."""
    if isinstance(error, ModuleNotFoundError):
        return error.name
    found = re.match(r"(\w+) must be installed", str(error), re.IGNORECASE)
    return found[1].lower() if found else None

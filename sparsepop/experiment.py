"""What an experiment is: a search, what one member may use, and how every member starts. Plain values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparsepop.search import (
    PARTITION,
    PBT,
    Exchanging,
    Grid,
    PartitionParallel,
    Sampled,
    Search,
    Start,
    SuperposeParallel,
    Tuned,
)
from sparsepop.search.checks import check_count, check_maker, is_number

__all__ = [
    "PARTITION",
    "PBT",
    "Exchanging",
    "Experiment",
    "Grid",
    "PartitionParallel",
    "Resources",
    "Sampled",
    "Search",
    "Start",
    "SuperposeParallel",
    "Tuned",
]

LOGGERS = ("tensorboard", "mlflow", "wandb")
HARVESTS = ("end", "generation")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ODD = re.compile(r"(?<=.)[^A-Za-z0-9._/\\\x00-\x1f-]+")


@dataclass(frozen=True)
class Resources:
    """What one member may use in all its `workers` data-parallel processes together: CPUs and GPUs, fractions
    allowed; None = an equal share of what the cluster has. `patience`: seconds without a batch after which a
    process counts as hung, is ended and started again."""

    cpus: float | None = None
    gpus: float | None = None
    workers: int = 1
    patience: float = 900.0

    def __post_init__(self) -> None:
        for name in ("cpus", "gpus"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and 0 <= value < math.inf):
                raise ValueError(f"{name}={value!r}: use a number of at least 0, or None for an equal share")
        check_count("workers", self.workers, 1)
        if not (is_number(self.patience) and 0 < self.patience < math.inf):
            raise ValueError(f"patience={self.patience!r}: use a positive number of seconds")


@dataclass(frozen=True)
class Experiment:
    """A population to train: `recipe(hp)` builds a member (pure; the whole mapping from hp to a run),
    `data` names the data set, `generation` is the number of steps between two exchanges, reports and
    saves, and `score` is the reported number that members are compared by. `name` is the folder of the
    results: blanks and the like become "-", for names are often made of the data's folder. ValueError for
    a value that cannot be.

    Two are no part of what the experiment is, and may change between two runs of it. `loggers` show the run
    elsewhere too: `tensorboard`, `mlflow`, `wandb`, or a function without arguments that gives another
    callback of Ray Tune. `harvest` says when members leave tickets: at their `end` alone, after every
    `generation`, or also after these steps; members in mid-training go on as if nothing had been taken.
    """

    name: str
    recipe: Callable[[dict[str, Any]], Any]
    data: str
    search: Search
    generation: int
    score: str = "validation_accuracy"
    mode: str = "max"
    seed: int = 0
    resources: Resources = field(default_factory=Resources)
    loggers: Sequence[str | Callable[[], Any]] = ()
    harvest: str | Sequence[int] = "end"

    def __post_init__(self) -> None:
        named = _ODD.sub("-", self.name) if isinstance(self.name, str) else ""
        if not _NAME.fullmatch(named):
            raise ValueError(
                f"name {self.name!r} is no folder name: use up to 100 letters, digits, '.', '_' and '-', "
                "a letter or digit first"
            )
        object.__setattr__(self, "name", named)
        if not callable(self.recipe):
            raise ValueError(f"recipe {self.recipe!r} is not callable: give a function recipe(hp)")
        check_count("generation", self.generation, 1)
        check_count("seed", self.seed, 0)
        if self.mode not in ("max", "min"):
            raise ValueError(f"mode {self.mode!r} is unknown: use 'max' or 'min'")
        for name in ("data", "score"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name}={getattr(self, name)!r}: give a non-empty string")
        for name, kind in (("search", Search), ("resources", Resources)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name}={getattr(self, name)!r} is no {_kinds(kind)}: use one")

        object.__setattr__(self, "loggers", _loggers(self.loggers))
        object.__setattr__(self, "harvest", _harvest(self.harvest, self.generation))

    def starts(self) -> list[Start]:
        """How every member starts."""
        return self.search.starts(self.seed)

    def harvests_at(self, step: int) -> bool:
        """Whether a member that goes on after `step`, a generation's end, leaves a ticket there."""
        return self.harvest == "generation" or (not isinstance(self.harvest, str) and step in self.harvest)


def _loggers(given: Any) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"loggers={given!r} is no list: write loggers=({given!r},)")
    for each in given:
        if not isinstance(each, str):
            check_maker("loggers", each)
        elif each not in LOGGERS:
            raise ValueError(f"logger {each!r} is unknown: use {', '.join(LOGGERS)}, or a function")
    return tuple(given)


def _harvest(given: Any, generation: int) -> str | tuple[int, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        if given not in HARVESTS:
            raise ValueError(f"harvest={given!r}: use one of {', '.join(HARVESTS)}, or a tuple of steps")
        return str(given)
    for step in given:
        check_count("harvest", step, 1)
        if step % generation:
            raise ValueError(
                f"harvest names step {step}, which ends no generation of {generation} steps: use multiples"
            )
    return tuple(given)


def _kinds(kind: Any) -> str:
    return " | ".join(entry.__name__ for entry in getattr(kind, "__args__", (kind,)))

"""What an experiment is: a search, what one member may use, and how every member starts. Plain values."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparsepop.schedule import Every
from sparsepop.space import (
    FACTORS,
    Choice,
    Domain,
    check_factors,
    check_names,
    check_space,
    sample,
    stable_rng,
)

LOGGERS = ("tensorboard", "mlflow", "wandb")
HARVESTS = ("end", "generation")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
            if value is not None and not (_number(value) and 0 <= value < math.inf):
                raise ValueError(f"{name}={value!r}: use a number of at least 0, or None for an equal share")
        _whole("workers", self.workers, 1)
        if not (_number(self.patience) and 0 < self.patience < math.inf):
            raise ValueError(f"patience={self.patience!r}: use a positive number of seconds")


@dataclass(frozen=True)
class Start:
    """How one member starts: its number, the seed of everything random in it, its hyperparameters."""

    member: int
    seed: int
    hp: dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """Every combination of `values`, each with the same `seeds` seeds (a paired comparison); no exchange."""

    values: Mapping[str, Sequence[Any]]
    seeds: int = 1

    def __post_init__(self) -> None:
        check_names(self.values)
        _whole("seeds", self.seeds, 1)
        try:
            values = {name: Choice(tuple(_listed(entry))).values for name, entry in self.values.items()}
        except ValueError as error:
            raise ValueError(f"Grid({dict(self.values)!r}): {error}") from error
        object.__setattr__(self, "values", values)

    def starts(self, seed: int) -> list[Start]:
        """The members, seeds varying slowest, the last name fastest: where members queue for devices, all
        combinations are there once before any is repeated."""
        combinations = [
            dict(zip(self.values, row, strict=True)) for row in itertools.product(*self.values.values())
        ]
        pairs = itertools.product(member_seeds(seed, self.seeds), combinations)
        return [Start(member, own, dict(hp)) for member, (own, hp) in enumerate(pairs)]


@dataclass(frozen=True)
class Sampled:
    """`members` points drawn from `space`: random search; no exchange."""

    space: Mapping[str, Domain]
    members: int

    def __post_init__(self) -> None:
        _freeze_space(self)
        _whole("members", self.members, 1)

    def starts(self, seed: int) -> list[Start]:
        """The members; the first n are the same whatever `members` is."""
        return _sampled(self.space, self.members, seed)


SELECTIONS = ("truncation", "tournament")


@dataclass(frozen=True)
class PBT:
    """Population-based training (Jaderberg et al. 2017): starts as `Sampled` does, then some copy others and
    explore (each hyperparameter drawn anew with probability `resample`, else moved by one of `factors`).
    `selection`: under `truncation` the worst `quantile` copies the best one; in a `tournament` everybody
    draws an opponent and copies it if it is better, whatever the `quantile`. Synchronous populations wait for
    each other at every generation's end."""

    space: Mapping[str, Domain]
    members: int
    quantile: float = 0.25
    resample: float = 0.25
    factors: Sequence[float] = FACTORS
    synchronous: bool = True
    selection: str = "truncation"

    def __post_init__(self) -> None:
        _freeze_space(self)
        _whole("members", self.members, 1)
        _check_exploits(self.quantile, self.resample)
        _check_known("selection", self.selection, SELECTIONS)
        object.__setattr__(self, "factors", tuple(self.factors))
        check_factors(self.factors)

    def starts(self, seed: int) -> list[Start]:
        """The members: the very starting points of `Sampled(space, members)`."""
        return _sampled(self.space, self.members, seed)


PARTITION = "partition"
RESTS = ("first", "mean")
LOST = ("again", "keep")
FINE_TUNE = ("first", "all")


@dataclass(frozen=True)
class PartitionParallel:
    """Parallel grow-and-prune (P-GaP, Ma et al. 2022): groups of `parts` members, each of which grows a
    partition of its own; a generation is a round, at whose end a group's partitions become one sparse network
    that all of them go on from.

    The recipe gives hp["partition"] to its `PartitionGrow(own=...)`; everything else is the same for all of a
    group: the point of `space` that it draws, the state of its first member that all start the first round
    from (after common sparse training, if the rounds begin later than step 0). Members draw different
    batches. `rest`: what no partition owns is the first member's, or the mean. `batches`: so many of them go
    into the BatchNorm statistics of the merged network. `lost`: what becomes of the partition of a member
    that is killed in mid-round: trained `again` from the round's begin (and nobody goes on without it), or
    the old one is kept (`keep`) when the others are done first. `fine_tune`: who goes on after the last
    round, the first member (the paper) or all of them.

    With a `quantile`, groups are compared between rounds as members are under `PBT`, by the scores of their
    merged networks: all members of a group of the worst quantile take over the merged network of one of the
    best, and its hyperparameters, explored (`resample`, `factors`), alike. All groups then wait for each
    other where a round ends, but after the last. None: nobody is compared.
    """

    parts: int
    groups: int = 1
    space: Mapping[str, Domain] = field(default_factory=dict)
    rest: str = "first"
    batches: int = 16
    lost: str = "again"
    fine_tune: str = "first"
    quantile: float | None = None
    resample: float = 0.25
    factors: Sequence[float] = FACTORS

    def __post_init__(self) -> None:
        _freeze_space(self)
        _whole("parts", self.parts, 1)
        _whole("groups", self.groups, 1)
        _whole("batches", self.batches, 0)
        if PARTITION in self.space:
            raise ValueError(f"space names {PARTITION!r}, which every member has already: leave it out")
        for name, known in (("rest", RESTS), ("lost", LOST), ("fine_tune", FINE_TUNE)):
            _check_known(name, getattr(self, name), known)
        if self.quantile is not None:
            _check_exploits(self.quantile, self.resample)
            if self.groups < 2 or not self.space:
                raise ValueError(
                    f"quantile={self.quantile!r} with groups={self.groups} and {len(self.space)} "
                    "hyperparameter(s): use at least 2 groups and a space, or quantile=None"
                )
        object.__setattr__(self, "factors", tuple(self.factors))
        check_factors(self.factors)

    @property
    def members(self) -> int:
        return self.parts * self.groups

    def starts(self, seed: int) -> list[Start]:
        """The members, group by group, in order of their partitions."""
        points = [start.hp for start in _sampled(self.space, self.groups, seed)]
        return [
            Start(member, own, {**points[member // self.parts], PARTITION: member % self.parts})
            for member, own in enumerate(member_seeds(seed, self.members))
        ]


AVERAGES = ("caa", "cima")
SCOPES = ("global", "layer")
SHARES = ("all", "worst")


@dataclass(frozen=True)
class SuperposeParallel:
    """Members that are superposed while they train: after each step that `at` names (a generation's end) the
    networks of all are averaged, pruned back to the exact count, and taken on; between these steps, and after
    the last of them, they train apart. Starts as `Sampled` does, and every member keeps its hyperparameters.

    Networks that never had anything in common have no useful average: all start from the first member's state
    after `common` steps (0: its first weights and masks), or each from its own where that is None.
    `average`: `caa` (all alike) or `cima` (moving, from the worst to the best, which has the share `factor`);
    `scope`: weights are ranked over the whole network (`global`), or each layer keeps the best member's count
    (`layer`). `share`: `all` take the superposed network on, or the `worst` `quantile` alone, and whoever has
    diverged. `batches`: so many of them go into its BatchNorm statistics.
    """

    space: Mapping[str, Domain]
    members: int
    at: Every | Sequence[int]
    common: int | None = 0
    average: str = "caa"
    factor: float = 0.5
    scope: str = "global"
    share: str = "all"
    quantile: float = 0.25
    batches: int = 16

    def __post_init__(self) -> None:
        _freeze_space(self)
        _whole("members", self.members, 2)
        _whole("batches", self.batches, 0)
        if self.common is not None:
            _whole("common", self.common, 0)
        if not isinstance(self.at, Every):
            object.__setattr__(self, "at", tuple(_listed(self.at)))
        for name, known in (("average", AVERAGES), ("scope", SCOPES), ("share", SHARES)):
            _check_known(name, getattr(self, name), known)
        for name in ("factor", "quantile"):
            if not _number(getattr(self, name)) or not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} is outside (0, 1]: it is a share")

    def starts(self, seed: int) -> list[Start]:
        """The members: the very starting points of `Sampled(space, members)`."""
        return _sampled(self.space, self.members, seed)

    def due(self, step: int) -> bool:
        """Whether the members are superposed after `step`."""
        return self.at(step) if isinstance(self.at, Every) else step in self.at


@dataclass(frozen=True)
class Tuned:
    """`members` independent members under algorithms of Ray Tune; no exchange.

    `searcher` and `scheduler` are functions without arguments, each giving a new object of Ray Tune: a
    `Searcher`, which is asked for each member's hyperparameters when a place is free, and a `TrialScheduler`
    that may stop members early (ASHA, the median rule), after reports that it sees as `generation`, `step`,
    `score`. Metric, mode and space are given to them. None: starting points as `Sampled` draws them, and
    nobody stopped. Only the functions' names are kept as part of what the experiment is: their settings may
    change between two runs of it.
    """

    space: Mapping[str, Domain]
    members: int
    searcher: Callable[[], Any] | None = None
    scheduler: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        _freeze_space(self)
        _whole("members", self.members, 1)
        for name in ("searcher", "scheduler"):
            _check_maker(name, getattr(self, name))
        if self.searcher is not None and not self.space:
            raise ValueError("space is empty, a searcher has nothing to suggest: name a hyperparameter")

    def starts(self, seed: int) -> list[Start]:
        """The members, as of `Sampled(space, members)`. Where a searcher suggests hyperparameters these
        stand in for them: examples, by which a recipe is checked before anything starts."""
        return _sampled(self.space, self.members, seed)


Search = Grid | Sampled | PBT | PartitionParallel | SuperposeParallel | Tuned
Exchanging = PBT | PartitionParallel | SuperposeParallel


@dataclass(frozen=True)
class Experiment:
    """A population to train: `recipe(hp)` builds a member (pure; the whole mapping from hp to a run),
    `data` names the data set, `generation` is the number of steps between two exchanges, reports and
    saves, and `score` is the reported number that members are compared by. ValueError for a value that
    cannot be.

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
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r} is no folder name: use up to 100 letters, digits, '.', '_' and '-', "
                "a letter or digit first"
            )
        if not callable(self.recipe):
            raise ValueError(f"recipe {self.recipe!r} is not callable: give a function recipe(hp)")
        _whole("generation", self.generation, 1)
        _whole("seed", self.seed, 0)
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


def member_seeds(seed: int, count: int) -> list[int]:
    """`count` distinct seeds below 2**31 derived from an experiment's seed; the first n never depend on
    `count`."""
    rng = stable_rng("member seeds", seed)
    seeds: dict[int, None] = {}
    while len(seeds) < count:
        seeds.setdefault(rng.randrange(2**31))
    return list(seeds)


def _sampled(space: Mapping[str, Domain], members: int, seed: int) -> list[Start]:
    seeds = member_seeds(seed, members)
    return [
        Start(member, own, sample(space, stable_rng("start", seed, member)))
        for member, own in enumerate(seeds)
    ]


def _check_exploits(quantile: Any, resample: Any) -> None:
    if not _number(quantile) or not 0 < quantile <= 0.5:
        raise ValueError(f"quantile={quantile!r} is outside (0, 0.5]: top and bottom must not overlap")
    if not _number(resample) or not 0 <= resample <= 1:
        raise ValueError(f"resample={resample!r} is no probability: use a number from 0 to 1")


def _check_maker(name: str, value: Any) -> None:
    if value is None:
        return
    if not callable(value) or not hasattr(value, "__qualname__"):
        raise ValueError(f"{name}={value!r} is no function: give one without arguments that makes it")
    try:
        signature = inspect.signature(value)
    except ValueError:  # some built-in types have none
        return
    try:
        signature.bind()
    except TypeError as error:
        raise ValueError(f"{name}={value.__qualname__} cannot be called without arguments: {error}") from None


def _loggers(given: Any) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"loggers={given!r} is no list: write loggers=({given!r},)")
    for each in given:
        if not isinstance(each, str):
            _check_maker("loggers", each)
        elif each not in LOGGERS:
            raise ValueError(f"logger {each!r} is unknown: use {', '.join(LOGGERS)}, or a function")
    return tuple(given)


def _harvest(given: Any, generation: int) -> str | tuple[int, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        if given not in HARVESTS:
            raise ValueError(f"harvest={given!r}: use one of {', '.join(HARVESTS)}, or a tuple of steps")
        return str(given)
    for step in given:
        _whole("harvest", step, 1)
        if step % generation:
            raise ValueError(
                f"harvest names step {step}, which ends no generation of {generation} steps: use multiples"
            )
    return tuple(given)


def _freeze_space(search: Sampled | PBT | PartitionParallel | SuperposeParallel | Tuned) -> None:
    check_space(search.space)
    object.__setattr__(search, "space", dict(search.space))


def _listed(values: Any) -> Sequence[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{values!r} is no list of values: put it in a tuple")
    return values


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: use a whole number of at least {least}")


def _check_known(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r}: use one of {', '.join(known)}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kinds(kind: Any) -> str:
    return " | ".join(entry.__name__ for entry in getattr(kind, "__args__", (kind,)))

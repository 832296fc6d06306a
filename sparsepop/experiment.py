"""What an experiment is: plain values, their description as JSON, and loading them from a config file."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import itertools
import json
import math
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

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

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_loads = itertools.count(1)
_folders: set[str] = set()  # of the configs loaded so far


class ConfigError(ValueError):
    """A config file that cannot be used; the message is one line and says what to do."""


@dataclass(frozen=True)
class Resources:
    """What one member may use in all its `workers` data-parallel processes together: CPUs and GPUs, fractions
    allowed; None = an equal share of what the cluster has."""

    cpus: float | None = None
    gpus: float | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("cpus", "gpus"):
            value = getattr(self, name)
            if value is not None and not (_number(value) and 0 <= value < math.inf):
                raise ValueError(f"{name}={value!r}: use a number of at least 0, or None for an equal share")
        _whole("workers", self.workers, 1)


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
        """The members, seeds varying fastest, the last name next."""
        combinations = [
            dict(zip(self.values, row, strict=True)) for row in itertools.product(*self.values.values())
        ]
        pairs = itertools.product(combinations, member_seeds(seed, self.seeds))
        return [Start(member, own, dict(hp)) for member, (hp, own) in enumerate(pairs)]


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


@dataclass(frozen=True)
class PBT:
    """Population-based training (Jaderberg et al. 2017): starts as `Sampled` does, then the worst
    `quantile` copies the best one and explores (each hyperparameter drawn anew with probability
    `resample`, else moved by one of `factors`). Synchronous populations wait for each other at every
    generation's end."""

    space: Mapping[str, Domain]
    members: int
    quantile: float = 0.25
    resample: float = 0.25
    factors: Sequence[float] = FACTORS
    synchronous: bool = True

    def __post_init__(self) -> None:
        _freeze_space(self)
        _whole("members", self.members, 1)
        if not _number(self.quantile) or not 0 < self.quantile <= 0.5:
            raise ValueError(
                f"quantile={self.quantile!r} is outside (0, 0.5]: top and bottom must not overlap"
            )
        if not _number(self.resample) or not 0 <= self.resample <= 1:
            raise ValueError(f"resample={self.resample!r} is no probability: use a number from 0 to 1")
        object.__setattr__(self, "factors", tuple(self.factors))
        check_factors(self.factors)

    def starts(self, seed: int) -> list[Start]:
        """The members: the very starting points of `Sampled(space, members)`."""
        return _sampled(self.space, self.members, seed)


Search = Grid | Sampled | PBT


@dataclass(frozen=True)
class Experiment:
    """A population to train: `recipe(hp)` builds a member (pure; the whole mapping from hp to a run),
    `data` names the data set, `generation` is the number of steps between two exchanges, reports and
    saves, and `score` is the reported number that members are compared by. ValueError for a value that
    cannot be."""

    name: str
    recipe: Callable[[dict[str, Any]], Any]
    data: str
    search: Search
    generation: int
    score: str = "validation_accuracy"
    mode: str = "max"
    seed: int = 0
    resources: Resources = field(default_factory=Resources)

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

    def starts(self) -> list[Start]:
        """How every member starts."""
        return self.search.starts(self.seed)


def member_seeds(seed: int, count: int) -> list[int]:
    """`count` distinct seeds below 2**31 derived from an experiment's seed; the first n never depend on
    `count`."""
    rng = stable_rng("member seeds", seed)
    seeds: dict[int, None] = {}
    while len(seeds) < count:
        seeds.setdefault(rng.randrange(2**31))
    return list(seeds)


def to_json(value: Any) -> Any:
    """`value` as plain JSON: dataclasses become {"type": class name, field: ...}, tuples and sets lists
    (sets sorted), numbers that are not finite strings, functions and classes their qualified names,
    anything else its repr. ValueError for a repr that names a memory address, because it differs from run
    to run."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {entry.name: to_json(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(name): to_json(entry) for name, entry in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((to_json(entry) for entry in value), key=repr)
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    return _named(value)


def describe(experiment: Experiment) -> dict[str, Any]:
    """What the experiment is, as plain JSON: equal for two runs that may share their results. Where and
    how it runs (resources, the folder that holds the data) is left out. Calls recipe(hp) for every start."""
    description = {
        "name": experiment.name,
        "data": PurePath(experiment.data).name or experiment.data,
        "search": to_json(experiment.search),
        "generation": experiment.generation,
        "score": experiment.score,
        "mode": experiment.mode,
        "seed": experiment.seed,
    }
    starts = [
        {**dataclasses.asdict(start), "hp": to_json(start.hp), "recipe": _resolved(experiment, start)}
        for start in experiment.starts()
    ]
    return {**description, "starts": starts}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two descriptions, a line each, such as `search.members: 4 -> 6`; a change that
    every entry of a list shares is one line with `[*]`."""
    lines = [f"{path}: {change}" for path, change in _changes("", old, new)]
    return list(dict.fromkeys(lines))


def check(experiment: Experiment) -> None:
    """Raise ConfigError unless recipe(hp) gives a frozen dataclass, the same twice, for every start."""
    for start in experiment.starts():
        if _resolved(experiment, start) != _resolved(experiment, start):
            raise ConfigError(
                f"recipe(hp) of member {start.member} gives another recipe when called again: make it depend "
                f"on hp alone (hp={start.hp!r})"
            )


def load(path: str, *, data: str | None = None, smoke: bool = False) -> Experiment:
    """The experiment that the config file `path` exports, checked.

    The file exports `EXPERIMENT` (and `SMOKE`, its small variant for `smoke=True`), or a function
    `experiment(data=..., smoke=...)`, called with those of the given keywords that it accepts; `data`
    replaces the data set either way. It is imported as a fresh module, its folder first on the path. Raises
    ConfigError, one line, for all that can be wrong with it.
    """
    file = Path(path).expanduser().resolve()
    module = _imported(file)
    build = getattr(module, "experiment", None)
    if build is None or isinstance(build, ModuleType):
        experiment = _constant(module, file, smoke)
    else:
        experiment = _built(build, file, data, smoke)
    if data is not None and experiment.data != data:
        experiment = _guarded(
            f"{file.name} with data={data!r}", file, dataclasses.replace, experiment, data=data
        )
    check(experiment)
    return experiment


def config_modules(path: str) -> list[ModuleType]:
    """The imported modules whose files lie in the config's folder, the config among them: what has to
    travel by value to processes that cannot import them."""
    folder = Path(path).expanduser().resolve().parent
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return [
        sys.modules[name] for name, file in files.items() if file and Path(file).resolve().parent == folder
    ]


def _imported(file: Path) -> ModuleType:
    if file.suffix != ".py":
        raise ConfigError(f"config {file} is not a Python file: give the path of a .py file")
    if not file.is_file():
        raise ConfigError(f"config {file} does not exist: check the path")
    name = f"sparsepop_config_{re.sub(r'[^0-9A-Za-z_]', '_', file.stem)}_{next(_loads)}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # a .py file always has one
    module = importlib.util.module_from_spec(spec)
    _first_on_path(file.parent)
    sys.modules[name] = module
    try:
        _guarded(f"config {file.name}", file, _execute, file, module)
    except ConfigError:
        del sys.modules[name]
        raise
    return module


def _execute(file: Path, module: ModuleType) -> None:
    # Not the loader's exec_module: its bytecode cache misses an edit within the same second.
    exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)


def _first_on_path(folder: Path) -> None:
    """Let a config import its neighbours, and not those of a config loaded before from another folder."""
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))
    for neighbour in folder.glob("*.py"):
        loaded = sys.modules.get(neighbour.stem)
        other = getattr(loaded, "__file__", None)
        if other and str(Path(other).parent) in _folders and Path(other).parent != folder:
            del sys.modules[neighbour.stem]
    _folders.add(str(folder))


def _constant(module: ModuleType, file: Path, smoke: bool) -> Experiment:
    found = getattr(module, "EXPERIMENT", None)
    if found is None:
        raise ConfigError(
            f"config {file.name} exports neither EXPERIMENT nor a function experiment(): "
            "add EXPERIMENT = Experiment(...)"
        )
    if smoke:
        found = getattr(module, "SMOKE", None)
        if found is None:
            raise ConfigError(
                f"config {file.name} has no small variant: export SMOKE = Experiment(...) beside "
                "EXPERIMENT, or a function experiment(smoke=False)"
            )
    return _experiment(found, file, "SMOKE" if smoke else "EXPERIMENT")


def _built(build: Any, file: Path, data: str | None, smoke: bool) -> Experiment:
    if not callable(build):
        raise ConfigError(f"config {file.name} exports experiment = {build!r}: make it a function")
    given = {"data": data} if data is not None else {}
    accepted = inspect.signature(build).parameters.values()
    names = {
        entry.name for entry in accepted if entry.kind in (entry.POSITIONAL_OR_KEYWORD, entry.KEYWORD_ONLY)
    }
    keywords: dict[str, Any] = {**given, "smoke": True} if smoke else given
    if not any(entry.kind is entry.VAR_KEYWORD for entry in accepted):
        if smoke and "smoke" not in names:
            raise ConfigError(
                f"experiment() of {file.name} has no small variant: give it a keyword smoke=False"
            )
        keywords = {name: value for name, value in keywords.items() if name in names}
    found = _guarded(f"experiment() of {file.name}", file, build, **keywords)
    return _experiment(found, file, "experiment()")


def _experiment(found: Any, file: Path, what: str) -> Experiment:
    if not isinstance(found, Experiment):
        raise ConfigError(
            f"{what} of config {file.name} is a {type(found).__name__}: "
            "make it a sparsepop.experiment.Experiment"
        )
    return found


def _guarded(what: str, file: Path | None, call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    try:
        return call(*args, **keywords)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        message = " ".join(f"{what} raised {type(error).__name__}: {error}".split()).removesuffix(":")
        raise ConfigError(f"{message} ({_blamed(error, file)})") from error


def _blamed(error: BaseException, file: Path | None) -> str:
    """Where to look, `file:line`: the innermost place within the config's folder, else the innermost of
    all."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{PurePath(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    near = [frame for frame in frames if file is not None and Path(frame.filename).parent == file.parent]
    frame = (near or frames)[-1]
    return f"{PurePath(frame.filename).name}:{frame.lineno}"


def _resolved(experiment: Experiment, start: Start) -> Any:
    what = f"recipe(hp) of member {start.member} with hp={start.hp!r}"
    code = getattr(experiment.recipe, "__code__", None)
    file = Path(code.co_filename) if code is not None else None
    recipe = _guarded(what, file, experiment.recipe, dict(start.hp))
    if not _frozen(recipe):
        raise ConfigError(f"{what} gave a {type(recipe).__name__}: return a Recipe (a frozen dataclass)")
    return _guarded(what, file, to_json, recipe)


def _frozen(value: Any) -> bool:
    params: Any = getattr(type(value), "__dataclass_params__", None)
    return params is not None and params.frozen


def _changes(path: str, old: Any, new: Any) -> list[tuple[str, str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("type") == new.get("type"):
        found = []
        for name in dict.fromkeys([*old, *new]):
            inner = f"{path}.{name}" if path else str(name)
            found += _changes(inner, old.get(name, _Absent), new.get(name, _Absent))
        return found
    if isinstance(old, list) and isinstance(new, list):
        return _list_changes(path, old, new)
    return [] if old == new else [(path, f"{_short(old)} -> {_short(new)}")]


def _list_changes(path: str, old: list[Any], new: list[Any]) -> list[tuple[str, str]]:
    pairs = list(zip(old, new, strict=False))
    each = [_changes("", before, after) for before, after in pairs]
    shared = set(each[0]).intersection(*each) if len(each) > 1 else set()
    found = [] if len(old) == len(new) else [(path, f"{len(old)} entries -> {len(new)} entries")]
    for index, entries in enumerate(each):
        for inner, change in entries:
            place = "*" if (inner, change) in shared else str(index)
            found.append((f"{path}[{place}]" + (f".{inner}" if inner else ""), change))
    return found


class _Absent:
    """Stands for a name that one of two descriptions lacks."""


def _short(value: Any) -> str:
    if value is _Absent:
        return "(absent)"
    if isinstance(value, Mapping) and "type" in value:
        return str(value["type"])
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _named(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return f"{value.__module__}.{name}"
    text = repr(value)
    if " at 0x" in text:
        raise ValueError(f"{text} cannot be described: use a frozen dataclass, a function or a plain value")
    return text


def _sampled(space: Mapping[str, Domain], members: int, seed: int) -> list[Start]:
    seeds = member_seeds(seed, members)
    return [
        Start(member, own, sample(space, stable_rng("start", seed, member)))
        for member, own in enumerate(seeds)
    ]


def _freeze_space(search: Sampled | PBT) -> None:
    check_space(search.space)
    object.__setattr__(search, "space", dict(search.space))


def _listed(values: Any) -> Sequence[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{values!r} is no list of values: put it in a tuple")
    return values


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: use a whole number of at least {least}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kinds(kind: Any) -> str:
    return " | ".join(entry.__name__ for entry in getattr(kind, "__args__", (kind,)))

"""Loading an experiment from a config file, checking it, and describing it."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import itertools
import os
import re
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType, ModuleType
from typing import Any

from sparsepop.describe import to_json
from sparsepop.experiment import Experiment, Start

_loads = itertools.count(1)
_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "text (in quotes within the quotes of the shell)",
    bool: "True or False",
}
_folders: set[str] = set()  # of the configs loaded so far


class ConfigError(ValueError):
    """A config file that cannot be used; the message is one line and says what to do."""


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


def check(experiment: Experiment) -> None:
    """Raise ConfigError unless recipe(hp) gives a frozen dataclass, the same twice, for every start."""
    for start in experiment.starts():
        if _resolved(experiment, start) != _resolved(experiment, start):
            raise ConfigError(
                f"recipe(hp) of member {start.member} gives another recipe when called again: make it depend "
                f"on hp alone (hp={start.hp!r})"
            )


def load(
    path: str,
    *,
    data: str | None = None,
    smoke: bool = False,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Experiment:
    """The experiment that the config file `path` exports, checked.

    The file exports `EXPERIMENT` (and `SMOKE`, its small variant for `smoke=True`), or a function
    `experiment(data=..., smoke=...)`, called with those of the two keywords that it accepts; `data` replaces
    the data set either way. `settings` are further keywords, which it must accept. It is imported as a fresh
    module, its folder first on the path. Raises ConfigError, one line, for all that can be wrong with it.
    """
    file = Path(os.path.expanduser(path)).resolve()
    module = _imported(file)
    build = getattr(module, "experiment", None)
    if build is None or isinstance(build, ModuleType):
        experiment = _constant(module, file, smoke, settings)
    else:
        experiment = _built(build, file, data, smoke, settings)
    if data is not None and experiment.data != data:
        experiment = _guarded(
            f"{file.name} with data={data!r}", file, dataclasses.replace, experiment, data=data
        )
    check(experiment)
    return experiment


def config_folder(path: str) -> str:
    """The folder in which the config lies."""
    return str(Path(os.path.expanduser(path)).resolve().parent)


def config_modules(path: str) -> list[ModuleType]:
    """The imported modules of the config's folder, the config and those of packages there among them: what
    has to travel by value to processes that cannot import them. This package is never one."""
    folder = Path(config_folder(path))
    return [module for name, module in list(sys.modules.items()) if _lies_in(folder, name, module)]


def _lies_in(folder: Path, name: str, module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    top = name.partition(".")[0]
    # some name a file that is nowhere (torch.ops), and in another folder than this it would be one
    if not file or not Path(file).is_absolute() or top == __package__:
        return False
    place = Path(file).resolve()
    # a package by its name, for installed ones may lie further below the folder
    return place.parent == folder or (
        ("." in name or place.stem == "__init__")
        and (
            place.with_suffix("").as_posix().removesuffix("/__init__")
            == folder.joinpath(*name.split(".")).as_posix()
        )
    )


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


def _constant(module: ModuleType, file: Path, smoke: bool, settings: Mapping[str, Any]) -> Experiment:
    found = getattr(module, "EXPERIMENT", None)
    if found is None:
        raise ConfigError(
            f"config {file.name} exports neither EXPERIMENT nor a function experiment(): "
            "add EXPERIMENT = Experiment(...)"
        )
    if settings:
        raise ConfigError(
            f"config {file.name} takes no settings ({', '.join(settings)}): it exports EXPERIMENT; only a "
            "function experiment() has keywords"
        )
    if smoke:
        found = getattr(module, "SMOKE", None)
        if found is None:
            raise ConfigError(
                f"config {file.name} has no small variant: export SMOKE = Experiment(...) beside "
                "EXPERIMENT, or a function experiment(smoke=False)"
            )
    return _experiment(found, file, "SMOKE" if smoke else "EXPERIMENT")


def _built(build: Any, file: Path, data: str | None, smoke: bool, settings: Mapping[str, Any]) -> Experiment:
    if not callable(build):
        raise ConfigError(f"config {file.name} exports experiment = {build!r}: make it a function")
    keywords: dict[str, Any] = {"data": data} if data is not None else {}
    keywords |= {"smoke": True} if smoke else {}
    accepted = inspect.signature(build).parameters.values()
    if not any(entry.kind is entry.VAR_KEYWORD for entry in accepted):
        names = [
            entry.name
            for entry in accepted
            if entry.kind in (entry.POSITIONAL_OR_KEYWORD, entry.KEYWORD_ONLY)
        ]
        _check_accepted(file, names, smoke, settings)
        _check_kinds(file, build, settings)
        keywords = {name: value for name, value in keywords.items() if name in names}
    found = _guarded(f"experiment() of {file.name}", file, build, **{**keywords, **settings})
    return _experiment(found, file, "experiment()")


def _check_accepted(file: Path, names: list[str], smoke: bool, settings: Mapping[str, Any]) -> None:
    if smoke and "smoke" not in names:
        raise ConfigError(f"experiment() of {file.name} has no small variant: give it a keyword smoke=False")
    for name in settings:
        if name not in names:
            raise ConfigError(
                f"experiment() of {file.name} takes no {name!r}: choose from {', '.join(names) or 'nothing'}"
            )


def _check_kinds(file: Path, build: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """ConfigError for a setting that is not of the plain type, int, float, str or bool, that the function
    gives its keyword; a whole number will do for a float. Other annotations promise nothing here."""
    try:
        hints = typing.get_type_hints(build)
    except Exception:
        return  # names that exist for a type checker alone
    for name, value in settings.items():
        wanted = hints.get(name)
        if wanted in _KINDS and not _fits(value, wanted):
            raise ConfigError(
                f"{name}={value!r}: experiment() of {file.name} takes {_KINDS[wanted]}, and this is "
                f"a {type(value).__name__}"
            )


def _fits(value: Any, wanted: type) -> bool:
    if isinstance(value, bool) or wanted is bool:
        return isinstance(value, bool) and wanted is bool
    return isinstance(value, (int, float) if wanted is float else wanted)


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
        raise ConfigError(f"{message} ({blamed(error, file)})") from error


def blamed(error: BaseException, file: Path | None = None) -> str:
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

"""Names of networks that are not ours: from what makes one to text that a ticket can keep, and back."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from sparsepop.describe import to_json
from sparsepop.models.task import Task

Model = str | Callable[[Task], nn.Module]
ZOOS = ("timm", "torchvision")
_partials: dict[Any, Callable[[Task], nn.Module]] = {}
_FORMS = "give a function (Task) -> nn.Module, 'package.module:function', 'timm:NAME' or 'torchvision:NAME'"


def model_name(model: Model) -> str:
    """A model's name for messages and tickets; for a function `module:function`, which imports it where that
    module can be imported. Behind it, as JSON, the fields of a dataclass, `module:Class {...}`, and what a
    partial was given, `module:function [[...], {...}]`: plain values alone come back as they were.
    """
    if isinstance(model, str):
        return model
    if isinstance(model, partial):
        return f"{model_name(model.func)} {json.dumps(to_json([model.args, model.keywords]))}"
    if dataclasses.is_dataclass(model) and not isinstance(model, type):
        fields = {each.name: getattr(model, each.name) for each in dataclasses.fields(model) if each.init}
        return f"{model_name(type(model))} {json.dumps(to_json(fields))}"
    described = str(to_json(model))
    function = getattr(model, "__qualname__", "")
    module = described.removesuffix(f".{function}").removeprefix("sparsepop_config_")
    return f"{module}:{function}" if function else described


def unified(model: Model) -> Model:
    """For a `functools.partial` the first one of the same function, given the same: each compares equal to
    itself alone, so a recipe that makes one anew would be another's. Any other model as it is.
    """
    if type(model) is not partial:
        return model
    given = (model.args, tuple(sorted(model.keywords.items())))
    try:
        return _partials.setdefault((model.func, given, repr(given)), model)  # 1 == 1.0 == True
    except TypeError:  # it was given a list, say
        return model


def maker_of(model: Model) -> Callable[[Task], Any]:
    """What makes the network that `model` is or names. ValueError where it cannot be found."""
    if not isinstance(model, str):
        return model
    path, _, given = model.partition(" ")
    place, _, name = path.partition(":")
    if place in ZOOS:
        return partial({"timm": _timm, "torchvision": _torchvision}[place], name)
    found: Any = _module(place, model)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ValueError(f"{place} has no function {name!r}: {_FORMS}")
    return _with(path, found, given) if given else found


def _with(path: str, found: Any, given: str) -> Callable[[Task], Any]:
    """What `found`, at `path`, becomes with what is `given` behind it."""
    try:
        values = _frozen(json.loads(given))
        if isinstance(values, dict):
            made: Callable[[Task], Any] = found(**values)
            return made
        arguments, keywords = values
        return partial(found, *arguments, **keywords)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be made with {given} ({error}): give the object itself") from error


def _frozen(value: Any) -> Any:
    """JSON with tuples for its lists, as dataclasses that can be hashed have them."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return {name: _frozen(each) for name, each in value.items()} if isinstance(value, dict) else value


def _module(name: str, model: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if name in ZOOS:
            remedy = f"install it (pip install {name})"
        else:
            remedy = "install it on every node, add its folder to PYTHONPATH, or give the function itself"
        raise ValueError(
            f"model {model!r} needs {error.name!r}, which cannot be imported: {remedy}"
        ) from error


def _timm(name: str, task: Task) -> Any:
    timm = _module("timm", f"timm:{name}")
    if not timm.is_model(name):
        raise ValueError(f"timm has no {name!r}{_like(name, timm.list_models())}")
    return timm.create_model(name, pretrained=False, num_classes=task.classes, in_chans=task.shape[0])


def _torchvision(name: str, task: Task) -> Any:
    models = importlib.import_module("torchvision.models")
    known = [each for each in models.list_models() if "/" not in each]
    if name not in models.list_models():
        raise ValueError(f"torchvision has no {name!r}{_like(name, known)}")
    return models.get_model(name, weights=None, num_classes=task.classes)


def _like(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 5, 0.4)
    return f": the closest of its {len(known)} models are {', '.join(near)}" if near else ""

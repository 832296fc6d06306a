"""Values as plain JSON, and what differs between two such descriptions."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Mapping
from typing import Any

# a config's module is named after how many were loaded before it
_LOADED = re.compile(r"^(sparsepop_config_.*)_\d+$")


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
    if isinstance(value, functools.partial):
        given = {"arguments": to_json(value.args), "keywords": to_json(value.keywords)}
        return {"type": "partial", "function": to_json(value.func), **given}
    return _named(value)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two descriptions, a line each, such as `search.members: 4 -> 6`; a change that
    every entry of a list shares is one line with `[*]`."""
    lines = [f"{path}: {change}" for path, change in _changes("", old, new)]
    return list(dict.fromkeys(lines))


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
    found = [] if len(old) == len(new) else [(path, f"length {len(old)} -> {len(new)}")]
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
        module = _LOADED.sub(r"\1", value.__module__)
        return f"{module}.{name}"
    text = repr(value)
    if " at 0x" in text:
        raise ValueError(f"{text} cannot be described: use a frozen dataclass, a function or a plain value")
    return text

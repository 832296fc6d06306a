"""Joining the states of a round's members: every parameter and buffer from the one that owns it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparsepop.member import State
from sparsepop.search.merged import RESTS

_MEANT = ("model", "optimizer")


def part_of(state: State, owners: Mapping[str, int], part: int, rest: str = "first") -> State:
    """What the member that grew partition `part` gives to `join`: whatever stands under a parameter's name
    that it owns (its value, mask, optimizer buffers, what methods remember of it), and its share in what
    nobody owns: the `first` member's, or, of model and optimizer and where it is floating point, the `mean`.
    The result shares tensors with `state`.
    """
    return {
        key: _owned(entry, owners, part, part == 0 or (rest == "mean" and key in _MEANT))
        for key, entry in state.items()
    }


def join(parts: Mapping[int, State], rest: str = "first") -> State:
    """The state that `parts` are the parts of, by the number of the partition, in whatever order: each bit
    for bit, FLOPs added up. ValueError where one is missing, they are of different steps, or two hold what
    only one can own.
    """
    check_rest(rest)
    parts = _checked(parts)
    merged = {
        # what is not by name, such as the step, all have sent alike
        key: _joined(key, [each[key] for each in parts.values()], rest if key in _MEANT else "first")
        if isinstance(entry, Mapping)
        else entry
        for key, entry in parts[0].items()
    }
    merged["masks"]["version"] = max(each["masks"]["version"] for each in parts.values())
    merged["train_flops"] = sum(each["train_flops"] for each in parts.values())
    return merged


def check_rest(rest: str) -> str:
    """`rest` itself when it is known; else a ValueError that lists the known ones."""
    if rest not in RESTS:
        raise ValueError(f"unknown rest {rest!r}: choose one of {', '.join(RESTS)}")
    return rest


def _checked(states: Mapping[int, State]) -> dict[int, State]:
    if sorted(states) != list(range(len(states))) or not states:
        raise ValueError(f"partitions {sorted(states)} took part: a round is complete with all of 0, 1, ...")
    ordered = {i: states[i] for i in range(len(states))}
    if len({state["step"] for state in ordered.values()}) > 1:
        raise ValueError("the states differ in their step: only members of the same round can be merged")
    return ordered


def _owned(entry: Any, owners: Mapping[str, int], part: int, whole: bool) -> Any:
    """What of `entry` partition `part` owns; of tensors that nobody owns, all if `whole`."""
    if not isinstance(entry, Mapping):
        return entry
    return {
        key: each if key in owners else _owned(each, owners, part, whole)
        for key, each in entry.items()
        if (owners[key] == part if key in owners else whole or not isinstance(each, Tensor))
    }


def _joined(name: str, entries: list[Any], rest: str) -> Any:
    first = entries[0]
    if isinstance(first, Mapping):
        keys = dict.fromkeys(key for each in entries for key in each)
        return {key: _joined(str(key), [each[key] for each in entries if key in each], rest) for key in keys}
    if len(entries) == 1 or not isinstance(first, Tensor):
        return first
    if rest == "first":
        raise ValueError(f"{name} came from {len(entries)} members: each tensor is taken from its one owner")
    if not first.is_floating_point():
        return first
    return torch.stack([each.double() for each in entries]).mean(0).to(first.dtype)

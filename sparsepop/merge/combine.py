"""Joining the states of a round's members: every parameter and buffer from the one that owns it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparsepop.member import State
from sparsepop.merge.owners import RESTS, check_owners

Values = dict[int, Any]


def combine(states: Mapping[int, State], owners: Mapping[str, int], rest: str = "first") -> State:
    """One state out of those that the members had at a round's end, by the number of the partition each grew.

    Whatever stands under a parameter's name (its value, mask, optimizer buffers, what methods remember of it)
    comes from its owner, bit for bit, and nothing of the others' survives. What nobody owns is the `first`
    member's, or, of model and optimizer and where it is floating point, the `mean`. FLOPs are added up. The
    result shares tensors with `states`; their order does not matter.

    Raises ValueError when a partition is missing, or the states are of different steps or networks.
    """
    if rest not in RESTS:
        raise ValueError(f"unknown rest {rest!r}: choose one of {', '.join(RESTS)}")
    states = _checked(states)
    names = list(states[0]["model"])
    check_owners(dict(owners), list(states[0]["masks"]["tensors"]), names, len(states))
    merged = {
        key: _join({i: state[key] for i, state in states.items()}, owners, rest if key in _MEANT else "first")
        for key in states[0]
    }
    merged["masks"]["version"] = max(state["masks"]["version"] for state in states.values())
    merged["train_flops"] = sum(state["train_flops"] for state in states.values())
    return merged


_MEANT = ("model", "optimizer")


def _checked(states: Mapping[int, State]) -> dict[int, State]:
    if sorted(states) != list(range(len(states))) or not states:
        raise ValueError(f"partitions {sorted(states)} took part: a round is complete with all of 0, 1, ...")
    ordered = {i: states[i] for i in range(len(states))}
    for what, values in (
        ("step", [state["step"] for state in ordered.values()]),
        ("network", [list(state["model"]) for state in ordered.values()]),
        ("methods", [sorted(state["memory"]) for state in ordered.values()]),
    ):
        if any(value != values[0] for value in values):
            raise ValueError(
                f"the states differ in their {what}: only members of the same round can be merged"
            )
    return ordered


def _join(values: Values, owners: Mapping[str, int], rest: str) -> Any:
    first = next(iter(values.values()))
    if isinstance(first, Mapping):
        keys = dict.fromkeys(key for value in values.values() for key in value)
        return {
            key: _owned(values, owners[key], key)
            if key in owners
            else _join({i: value[key] for i, value in values.items() if key in value}, owners, rest)
            for key in keys
            if key not in owners or key in values[owners[key]]
        }
    if rest == "mean" and isinstance(first, Tensor) and first.is_floating_point():
        return torch.stack([value.double() for value in values.values()]).mean(0).to(first.dtype)
    return first


def _owned(values: Values, owner: int, key: str) -> Any:
    return values[owner][key]

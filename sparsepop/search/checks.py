"""What searches refuse, and in which words."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from sparsepop.space import check_space


def freeze_space(search: Any) -> None:
    """Check the `space` of a frozen search, and keep a copy that nobody else changes."""
    check_space(search.space)
    object.__setattr__(search, "space", dict(search.space))


def listed(values: Any) -> Sequence[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{values!r} is no list of values: put it in a tuple")
    return values


def check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: use a whole number of at least {least}")


def check_known(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r}: use one of {', '.join(known)}")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_exploits(quantile: Any, resample: Any) -> None:
    if not is_number(quantile) or not 0 < quantile <= 0.5:
        raise ValueError(f"quantile={quantile!r} is outside (0, 0.5]: top and bottom must not overlap")
    if not is_number(resample) or not 0 <= resample <= 1:
        raise ValueError(f"resample={resample!r} is no probability: use a number from 0 to 1")


def check_maker(name: str, value: Any) -> None:
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

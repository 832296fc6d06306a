"""Many small files at a time: in object stores the time goes into waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_A_TIME = 16
_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


def side_by_side(call: Callable[[_Given], _Result], arguments: Iterable[_Given]) -> Iterator[_Result]:
    """What `call` returns for each argument, in their order; several are under way at a time."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield from pool.map(call, arguments)

"""Member states on storage, and as arrays that the object store moves without pickling."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsepop.member import State
from sparsepop.storage import Storage


@dataclass(frozen=True)
class Saved:
    """What a member had at the end of a generation: its state, its hyperparameters, and the device-seconds and FLOPs it spent."""

    member: int
    generation: int
    hp: dict[str, Any]
    state: State
    seconds: float
    spent_flops: float


class DamagedState(ValueError):
    """A state file that cannot be read."""


class StateStore:
    """The states of all members, one file for each member and generation."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def save(self, saved: Saved) -> None:
        """Write one state, atomically."""
        buffer = io.BytesIO()
        torch.save(vars(saved), buffer)
        self.storage.write(_path(saved.member, saved.generation), buffer.getvalue())

    def load(self, member: int, generation: int) -> Saved:
        """Read one state; FileNotFoundError when it is not there, DamagedState when it cannot be read."""
        path = _path(member, generation)
        data = self.storage.read(path)
        try:
            return Saved(**torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
        except Exception as error:
            raise DamagedState(f"state {path} is damaged ({type(error).__name__}): delete it to use an older one") from error

    def generations(self, member: int) -> list[int]:
        """Generations of which a state of `member` is there, newest first."""
        names = self.storage.names(f"states/m{member:04d}")
        return sorted((int(name[1:5]) for name in names), reverse=True)

    def prune(self, needed: set[tuple[int, int]]) -> None:
        """Delete the states that are not `needed`, unless they are newer than all that is needed of their member."""
        newest = {member: max(g for m, g in needed if m == member) for member in {m for m, _ in needed}}
        for member in newest:
            for generation in self.generations(member):
                if (member, generation) not in needed and generation < newest[member]:
                    self.storage.delete(_path(member, generation))


def to_arrays(value: Any) -> Any:
    """Tensors as numpy arrays over the same memory, nested containers kept: what the object store ships without copying twice."""
    return _mapped(value, Tensor, lambda tensor: tensor.detach().cpu().numpy())


def from_arrays(value: Any) -> Any:
    """The inverse of `to_arrays`; the tensors share the arrays' (perhaps read-only) memory and must be copied, not written."""
    return _mapped(value, np.ndarray, _tensor)


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(each, kind, change) for key, each in value.items()}
    return value


def _path(member: int, generation: int) -> str:
    return f"states/m{member:04d}/g{generation:04d}.pt"

"""A member at the end of a generation as bytes for storage, and its state as arrays for the object store."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsepop.member import State
from sparsepop.population.messages import Post


@dataclass(frozen=True)
class Snapshot:
    """What a member had at the end of a generation: its state (with its lineage) and hyperparameters, how it
    did there (at the density that its score speaks of), and what it has spent so far (device-seconds,
    FLOPs)."""

    member: int
    generation: int
    step: int
    score: float
    density: float
    hp: dict[str, Any]
    state: State
    seconds: float
    spent_flops: float
    accuracy: float = math.nan

    @property
    def post(self) -> Post:
        """What the member says of itself to the others."""
        rest = (self.score, self.density, self.hp, self.step, self.accuracy)
        return Post(self.member, self.generation, *rest)


class DamagedState(ValueError):
    """Bytes that are no snapshot."""


def encode(snapshot: Snapshot) -> bytes:
    """The snapshot as bytes, its tensors as they are."""
    return to_bytes(vars(snapshot))


def decode(data: bytes) -> Snapshot:
    """The snapshot that `encode` wrote, on the CPU; DamagedState for other bytes. `data` runs no code."""
    with _damaged():
        return Snapshot(**from_bytes(data))


def to_bytes(values: Mapping[str, Any]) -> bytes:
    """Nested containers with tensors as bytes."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def from_bytes(data: bytes) -> dict[str, Any]:
    """What `to_bytes` wrote, on the CPU; DamagedState for other bytes. `data` runs no code."""
    with _damaged():
        _check_sums(data)
        values: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return values


def _check_sums(data: bytes) -> None:
    """DamagedState unless each file of the archive is what was written: torch stores their CRCs, and does not
    look at them when it reads.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if (name := archive.testzip()) is not None:
            raise DamagedState(f"{name} in it has another checksum than when it was written")


@contextmanager
def _damaged() -> Iterator[None]:
    try:
        yield
    except DamagedState:
        raise
    except Exception as error:  # whatever torch, pickle or zip make of broken bytes
        raise DamagedState(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def to_arrays(value: Any) -> Any:
    """Tensors as numpy arrays over the same memory, nested containers kept: what the object store ships
    without copying twice."""
    return _mapped(value, Tensor, lambda tensor: tensor.detach().cpu().numpy())


def from_arrays(value: Any) -> Any:
    """The inverse of `to_arrays`; the tensors share the arrays' (perhaps read-only) memory and must be
    copied, not written."""
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

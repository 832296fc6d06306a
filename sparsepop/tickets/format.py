"""The file of a ticket: a JSON header and raw arrays, nothing that could run.

SPTICKET  8 bytes
version   4 bytes (2 where weights are shared, else 1), and the header's length, 4 bytes; little endian, as
          all numbers
header    zlib-compressed JSON: id, network, provenance, a line for each array, and which weights are shared
arrays    masks (coded as in `codec`), alive values, then everything else, in the header's order
digest    SHA-256 of all before it, in every version: so what is newer is told from what is damaged
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsepop.tickets.codec import decode, encode, mask_bytes
from sparsepop.tickets.ticket import Provenance, Ticket, to_array

_MAGIC, _DIGEST = b"SPTICKET", 32
_PLAIN, _SHARED = 1, 2  # a newer version takes the next number
_START = struct.Struct("<8sII")


class DamagedTicket(ValueError):
    """A file that is no ticket, or not the one that its name says."""


class NewerTicket(DamagedTicket):
    """A sound ticket that only a newer sparsepop can read: nothing is wrong with the file."""


def to_bytes(ticket: Ticket) -> bytes:
    """The ticket as the bytes of a file."""
    weights = {name: to_array(value) for name, value in ticket.weights.items()}
    others = {name: to_array(value) for name, value in ticket.others.items()}
    header = zlib.compress(json.dumps(_header(ticket, weights, others)).encode(), 9)
    parts = [
        _START.pack(_MAGIC, _SHARED if ticket.shared else _PLAIN, len(header)),
        header,
        *(encode(to_array(ticket.masks[name]).ravel()) for name in weights),
        *(array.tobytes() for array in (*weights.values(), *others.values())),
    ]
    data = b"".join(parts)
    return data + hashlib.sha256(data).digest()


def from_bytes(data: bytes) -> Ticket:
    """The ticket that `to_bytes` wrote; NewerTicket where a newer sparsepop did, DamagedTicket for anything
    else.
    """
    header, body = _opened(data)
    try:
        ticket = _ticket(header, body)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DamagedTicket(f"its header makes no network ({type(error).__name__}: {error})") from error
    if ticket.id != header["id"]:
        raise DamagedTicket(f"it holds the network {ticket.id} and says {header['id']}")
    return ticket


def read_header(data: bytes) -> dict[str, Any]:
    """Id, network and provenance without the arrays, the digest verified; DamagedTicket as `from_bytes`."""
    return _opened(data)[0]


def owner_to_bytes(provenance: Provenance) -> bytes:
    """A provenance alone as the bytes of a file: zlib-compressed JSON and its SHA-256."""
    data = zlib.compress(json.dumps(dataclasses.asdict(_finite(provenance))).encode(), 9)
    return data + hashlib.sha256(data).digest()


def owner_from_bytes(data: bytes) -> Provenance:
    """The provenance that `owner_to_bytes` wrote; DamagedTicket for anything else."""
    _check_digest(data)
    return provenance_of(json.loads(zlib.decompress(data[:-_DIGEST])))


def _header(
    ticket: Ticket, weights: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    about = {"id": ticket.id, "model": ticket.model, "shape": ticket.shape, "classes": ticket.classes}
    return {
        **about,
        "provenance": dataclasses.asdict(_finite(ticket.provenance)),
        "prunable": [
            [name, array.dtype.str, list(ticket.masks[name].shape), array.size]
            for name, array in weights.items()
        ],
        "others": [[name, array.dtype.str, list(array.shape)] for name, array in others.items()],
        "shared": dict(ticket.shared),
    }


def _finite(provenance: Provenance) -> Provenance:
    # JSON has no NaN: a score that is not known is left out
    metrics = {name: value for name, value in provenance.metrics.items() if math.isfinite(value)}
    return dataclasses.replace(provenance, metrics=metrics)


def _opened(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header and the bytes of the arrays."""
    if len(data) < _START.size + _DIGEST or not data.startswith(_MAGIC):
        raise DamagedTicket("it is no ticket, or cut short")
    _check_digest(data)
    _, version, length = _START.unpack_from(data)
    if version > _SHARED:
        raise NewerTicket(f"it has version {version} and this sparsepop reads {_PLAIN} to {_SHARED}")
    if version < _PLAIN:
        raise DamagedTicket(f"no ticket has version {version}")
    body = _START.size + length
    header: dict[str, Any] = json.loads(zlib.decompress(data[_START.size : body]))
    return header, memoryview(data)[body:-_DIGEST]


def _check_digest(data: bytes) -> None:
    if hashlib.sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise DamagedTicket("its bytes are not those that were written")


def _ticket(header: Mapping[str, Any], body: memoryview) -> Ticket:
    reader = _Reader(body)
    masks: dict[str, Tensor] = {}
    for name, _, shape, alive in header["prunable"]:
        size = math.prod(shape)
        mask = decode(reader.take(mask_bytes(size, alive)), size, alive)
        masks[name] = torch.from_numpy(mask).view(torch.Size(shape))
    weights = {name: reader.array(dtype, [alive]) for name, dtype, _, alive in header["prunable"]}
    others = {name: reader.array(dtype, shape) for name, dtype, shape in header["others"]}
    return Ticket(
        header["model"],
        tuple(header["shape"]),
        header["classes"],
        masks,
        weights,
        others,
        provenance_of(header["provenance"]),
        header.get("shared", {}),
    )


def provenance_of(saved: Mapping[str, Any]) -> Provenance:
    """The provenance that a header holds as JSON."""
    lists = {"lineage": tuple(map(tuple, saved["lineage"])), "parents": tuple(saved["parents"])}
    return Provenance(**{**saved, **lists})


class _Reader:
    """Takes arrays off the front of a body."""

    def __init__(self, body: memoryview) -> None:
        self.body = body
        self.place = 0

    def take(self, count: int) -> bytes:
        self.place += count
        return bytes(self.body[self.place - count : self.place])

    def array(self, dtype: str, shape: list[int]) -> Tensor:
        kind = np.dtype(dtype)
        array = np.frombuffer(self.take(math.prod(shape) * kind.itemsize), kind)
        return torch.from_numpy(array.astype(kind.newbyteorder("="))).view(torch.Size(shape))

"""Masks as few bytes: nothing where all weights are alive, one bit a weight, or Elias-Fano where few are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def code_of(size: int, alive: int) -> str:
    """The shortest code for `alive` of `size` weights: `full`, `bits` or `elias-fano`."""
    if alive == size:
        return "full"
    return "elias-fano" if _elias_fano_bytes(size, alive) < -(-size // 8) else "bits"


def mask_bytes(size: int, alive: int) -> int:
    """How many bytes `encode` needs: at most size / 8, and within 0.6 bits per alive weight of the least
    that any code needs for a random mask when few are alive.
    """
    code = code_of(size, alive)
    return {"full": 0, "bits": -(-size // 8), "elias-fano": _elias_fano_bytes(size, alive)}[code]


def encode(mask: Bools) -> bytes:
    """A flat mask in the code that `code_of` names."""
    alive = int(mask.sum())
    code = code_of(mask.size, alive)
    if code == "full":
        return b""
    if code == "bits":
        return _pack(mask)
    low, high = _split(mask.size, alive)
    places = np.flatnonzero(mask)
    stops = np.zeros(high, np.bool_)
    stops[(places >> low) + np.arange(alive)] = True
    remainders = (places[:, None] >> np.arange(low)) & 1
    return _pack(remainders.astype(np.bool_).ravel()) + _pack(stops)


def decode(data: bytes, size: int, alive: int) -> Bools:
    """The flat mask of `size` weights that `encode` wrote."""
    code = code_of(size, alive)
    if code == "full":
        return np.ones(size, np.bool_)
    if code == "bits":
        return _unpack(data, size)
    low, high = _split(size, alive)
    cut = -(-alive * low // 8)
    remainders = _unpack(data[:cut], alive * low).reshape(alive, low)
    stops = np.flatnonzero(_unpack(data[cut:], high))
    places = ((stops - np.arange(alive)) << low) + remainders @ (1 << np.arange(low))
    mask = np.zeros(size, np.bool_)
    mask[places] = True
    return mask


def _split(size: int, alive: int) -> tuple[int, int]:
    """How many low bits of each place are written as they are, and the length of the unary rest.

    Elias 1974, "Efficient storage and retrieval by content and address of static files"; Fano 1971.
    """
    if alive == 0:
        return 0, 0
    low = (size // alive).bit_length() - 1
    return low, alive + ((size - 1) >> low)


def _elias_fano_bytes(size: int, alive: int) -> int:
    low, high = _split(size, alive)
    return -(-alive * low // 8) + -(-high // 8)


def _pack(bits: Bools) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()


def _unpack(data: bytes, count: int) -> Bools:
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count, bitorder="little").astype(np.bool_)

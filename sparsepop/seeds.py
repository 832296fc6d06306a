"""One way to turn several integers (seed, step, rank, ...) into a seed for a random generator."""

from __future__ import annotations

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(*ints: int) -> int:
    """A 63-bit hash of the integers (taken modulo 2**64) and of their order, equal on every machine.

    Neighbouring inputs give unrelated outputs: every integer goes through one round of SplitMix64
    (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
    """
    state = len(ints)
    for value in ints:
        state = _scramble((_scramble(state) ^ value) + _GOLDEN)
    return state >> 1


def _scramble(value: int) -> int:
    value &= _MASK
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)

"""Masks as bytes: they come back, and they are as small as they can be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepop.tickets.codec import code_of, decode, encode, mask_bytes


def mask_of(size: int, alive: int, seed: int = 0) -> np.ndarray:
    mask = np.zeros(size, np.bool_)
    mask[np.random.default_rng(seed).permutation(size)[:alive]] = True
    return mask


@given(st.integers(1, 3000), st.floats(0, 1), st.integers(0, 100))
def test_every_mask_comes_back_in_the_bytes_that_were_promised(size: int, share: float, seed: int) -> None:
    alive = round(share * size)
    mask = mask_of(size, alive, seed)
    data = encode(mask)
    assert len(data) == mask_bytes(size, alive) <= -(-size // 8)
    assert np.array_equal(decode(data, size, alive), mask)


@pytest.mark.parametrize("places", [[], [0], [999], [0, 999], range(10), range(990, 1000)])
def test_masks_at_the_edges(places: list[int]) -> None:
    mask = np.zeros(1000, np.bool_)
    mask[list(places)] = True
    assert np.array_equal(decode(encode(mask), 1000, len(places)), mask)


def test_codes() -> None:
    assert [code_of(1000, alive) for alive in (1000, 999, 500, 300, 100, 1, 0)] == [
        *("full", "bits", "bits", "bits"),
        *("elias-fano",) * 3,
    ]
    assert (mask_bytes(1000, 1000), mask_bytes(1000, 500), mask_bytes(1000, 0)) == (0, 125, 0)


@pytest.mark.parametrize("density", [0.1, 0.05, 0.01, 0.001, 0.0001])
def test_few_alive_weights_take_little_more_than_their_entropy(density: float) -> None:
    """log2 of the number of masks with as many alive weights is what any code needs on average."""
    size = 1_000_000
    alive = round(density * size)
    least = (math.lgamma(size + 1) - math.lgamma(alive + 1) - math.lgamma(size - alive + 1)) / math.log(2)
    assert least <= 8 * mask_bytes(size, alive) <= least + 0.6 * alive + 16

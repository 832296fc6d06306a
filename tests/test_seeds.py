"""mix: one well-spread 63-bit seed out of several integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sparsepop.seeds import mix

ints = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(ints, max_size=4))
def test_is_a_63_bit_number_and_stable(values: list[int]) -> None:
    assert 0 <= mix(*values) < 2**63
    assert mix(*values) == mix(*values)


@given(ints, ints)
def test_order_and_number_of_integers_matter(a: int, b: int) -> None:
    assert a == b or mix(a, b) != mix(b, a)
    assert mix(a) != mix(a, 0)


def test_neighbours_do_not_collide_even_in_their_low_32_bits() -> None:
    seeds = {mix(seed, step) & 0xFFFFFFFF for seed in range(20) for step in range(100)}
    assert len(seeds) == 2000


def test_values_are_the_same_in_every_release() -> None:
    assert mix(0) != mix()
    assert [mix(1, 2), mix(-1)] == [1517224669459602030, 4572384033612769361]

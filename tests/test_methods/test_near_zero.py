"""Shares of almost-zero weights."""

from __future__ import annotations

import pytest
import torch

from sparsepop.methods import NearZero
from tests.test_methods.small import assign, eight


def test_shares_count_weights_up_to_each_level() -> None:
    member = eight(NearZero((1e-5, 1e-3, 1.0)))
    assign(member, [0.0, 1e-6, -1e-5, 1e-4, -1e-3, 0.5, -1.0, 2.0], range(8))
    method = member.recipe.methods[0]
    expected = {"near_zero_1e-05": 3 / 8, "near_zero_0.001": 5 / 8, "near_zero_1": 7 / 8}
    assert method.measure(member) == expected
    assert method.measure_layers(member) == {"weight": expected}
    with torch.no_grad():
        member.masks.params["weight"].mul_(0.01)
    assert method.measure(member)["near_zero_1"] == 1.0


def test_levels_that_count_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="levels must be positive, got 0"):
        NearZero((1e-3, 0.0))

"""What is told of tickets together, held against the functions it comes from and against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparsepop.ensemble import barrier, line, lines, overlaps, reliability
from sparsepop.ensemble.quality import calibration_error
from tests.test_ensemble.made import SETTING, trained


def test_overlaps_are_symmetric_and_exact() -> None:
    tickets = [trained(seed, mask_seed=1) for seed in (0, 1)] + [trained(2)]
    found = overlaps(tickets)
    assert list(found.index) == list(found.columns) == ["m0", "m1", "m2"]
    assert np.allclose(found, found.T)
    assert np.allclose(np.diag(found), 1.0)
    assert found.iloc[0, 1] == 1.0  # the same mask by construction
    one, other = tickets[0].masks, tickets[2].masks
    both = sum(int((one[name] & other[name]).sum()) for name in one)
    either = sum(int((one[name] | other[name]).sum()) for name in one)
    assert found.iloc[0, 2] == both / either


def test_lines_join_neighbours() -> None:
    tickets = [trained(seed) for seed in (0, 1, 2)]
    found = lines(tickets, SETTING, points=3)
    assert found["pair"].nunique() == 2
    assert found["place"].tolist() == [0.0, 0.5, 1.0] * 2
    own = line(tickets[1], tickets[2], SETTING, points=3)
    assert found["loss"].tolist()[3:] == [point.loss for point in own]
    assert barrier(own) >= 0.0


def test_bins_of_confidence_are_what_counting_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(500, 4, generator=generator), torch.randint(4, (500,), generator=generator)
    found = reliability({"network": (logits, labels)})
    confidence, answer = logits.double().softmax(1).max(1)
    expected = []
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            right = (answer == labels)[inside].double().mean()
            expected.append([float(confidence[inside].mean()), float(right), float(inside.double().mean())])
    assert np.allclose(found[["confidence", "accuracy", "share"]], expected)
    gaps = (found["accuracy"] - found["confidence"]).abs() * found["share"]
    assert gaps.sum() == pytest.approx(calibration_error(logits, labels), abs=1e-12)

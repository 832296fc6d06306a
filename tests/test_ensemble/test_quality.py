"""Accuracy, likelihood, calibration and disagreement against hand-made numbers and a second computation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsepop.ensemble import assess, disagreement, fit_temperature
from sparsepop.ensemble.quality import calibration_error


def drawn(seed: int, scale: float = 1.0, count: int = 4000) -> tuple[Tensor, Tensor]:
    """Logits, and labels drawn from the probabilities that logits / scale stand for."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(count, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    return scale * logits, labels


def two_bins() -> tuple[Tensor, Tensor]:
    """Four answers with confidence 0.8 of which one is right, six with 0.6 of which three are."""
    confidence = torch.tensor([0.8] * 4 + [0.6] * 6, dtype=torch.float64)
    logits = torch.stack([confidence, 1 - confidence], 1).log()
    return logits, torch.tensor([0, 1, 1, 1, 0, 0, 0, 1, 1, 1])


def test_calibration_error_by_hand() -> None:
    assert calibration_error(*two_bins()) == pytest.approx(0.4 * (0.8 - 0.25) + 0.6 * (0.6 - 0.5))


@given(st.integers(0, 1000), st.integers(1, 30))
def test_calibration_error_agrees_with_a_loop_over_bins(seed: int, bins: int) -> None:
    logits, labels = drawn(seed, 1.7, 200)
    confidence, answer = logits.double().softmax(1).max(1)
    total = 0.0
    for place in range(bins):
        inside = (confidence > place / bins) & (confidence <= (place + 1) / bins)
        if inside.any():
            right = (answer[inside] == labels[inside]).double().mean()
            total += float(inside.double().mean() * (right - confidence[inside].mean()).abs())
    assert calibration_error(logits, labels, bins) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_the_temperature_undoes_a_scale(scale: float) -> None:
    temperature = fit_temperature(*drawn(0, scale))
    assert temperature == pytest.approx(scale, rel=0.08)
    assert temperature == pytest.approx(scale * fit_temperature(*drawn(0)), rel=1e-9)


def test_no_other_temperature_is_better() -> None:
    logits, labels = drawn(3, 2.5, 500)
    best = fit_temperature(logits, labels)
    losses = [
        float(F.cross_entropy(logits.double() / (best * factor), labels)) for factor in (0.99, 1.0, 1.01)
    ]
    assert losses[1] == min(losses)


@pytest.mark.parametrize("scale", [1e-3, 5.0, 1e4, -1e-3, -5.0, -1e4, 0.0])
def test_always_right_or_always_wrong_has_no_best_temperature(scale: float) -> None:
    """Any lower one is better for the first, any higher one for the second, and none differs for zeros."""
    logits, labels = scale * torch.eye(4).repeat(3, 1), torch.arange(4).repeat(3)
    assert math.isnan(fit_temperature(logits, labels))


def test_without_a_best_temperature_nothing_is_scaled() -> None:
    right = 5 * torch.eye(4).repeat(3, 1), torch.arange(4).repeat(3)
    found = assess(two_bins(), fit_on=right)
    assert found.nll == pytest.approx(float(F.cross_entropy(*two_bins())))
    assert math.isfinite(found.calibration_error)
    for name in ("temperature", "scaled_nll", "scaled_calibration_error"):
        assert math.isnan(getattr(found, name)), name


def test_an_assessment() -> None:
    logits, labels = drawn(1, 3.0)
    found = assess((logits, labels), fit_on=drawn(2, 3.0))
    assert found.accuracy == float((logits.argmax(1) == labels).double().mean())
    assert found.nll == pytest.approx(float(F.cross_entropy(logits.double(), labels)))
    assert found.temperature == fit_temperature(*drawn(2, 3.0))
    assert found.scaled_nll < found.nll
    assert found.scaled_calibration_error < 0.03 < 0.1 < found.calibration_error


def test_nothing_to_judge_is_no_number() -> None:
    none = (torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))
    assert all(math.isnan(value) for value in vars(assess(none, none)).values())
    found = assess(drawn(1), fit_on=none)
    assert found.accuracy > 0
    assert math.isnan(found.temperature)
    assert math.isnan(found.scaled_nll)


def test_without_other_data_no_temperature_is_fitted() -> None:
    found = assess(drawn(1), fit_on=None)
    assert math.isfinite(found.nll)
    for name in ("temperature", "scaled_nll", "scaled_calibration_error"):
        assert math.isnan(getattr(found, name)), name


def test_disagreement_by_hand() -> None:
    one, two, three = (
        F.one_hot(torch.tensor(a), 3).float() for a in ([0, 1, 2, 0], [0, 1, 1, 1], [0, 1, 2, 0])
    )
    assert disagreement([one, two]) == 0.5
    assert disagreement([one, two, three]) == pytest.approx((0.5 + 0.0 + 0.5) / 3)
    assert disagreement([one]) == 0.0

"""How good predictions are: accuracy, likelihood, calibration, and how much predictors disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsepop.outputs import accuracy

BINS = 15
_LOG_RANGE, _HALVINGS = 8.0, 60

Outputs = tuple[Tensor, Tensor]
"""Logits (N, classes) and labels (N)."""


@dataclass(frozen=True)
class Quality:
    """accuracy (0..1); nll: mean negative log-likelihood (nats); calibration_error: ECE; scaled_*: the same
    after the logits were divided by `temperature`, which was fitted on other data. NaN where there is none,
    be it that those data have no best temperature (`fit_temperature`).
    """

    accuracy: float
    nll: float
    calibration_error: float
    temperature: float
    scaled_nll: float
    scaled_calibration_error: float


def assess(found: Outputs, fit_on: Outputs | None) -> Quality:
    """The quality of the outputs `found` (for example on the test split), with a temperature fitted on
    `fit_on` (the validation split, never the same); None where there is no other.
    """
    logits, labels = found[0].double(), found[1]
    if not len(labels):
        return Quality(*[math.nan] * 6)
    temperature = math.nan if fit_on is None else fit_temperature(*fit_on)
    return Quality(
        accuracy(logits, labels),
        _nll(logits, labels),
        calibration_error(logits, labels),
        temperature,
        _nll(logits / temperature, labels),
        calibration_error(logits / temperature, labels),
    )


def calibration_error(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017, "On calibration of modern neural networks", equation 3):
    |accuracy - confidence| over equally wide bins of confidence (lo, hi], weighted by their share of samples.
    """
    found = bins_of(logits, labels, bins)
    return sum(share * abs(right - confidence) for confidence, right, share in found if share > 0)


def bins_of(logits: Tensor, labels: Tensor, bins: int = BINS) -> list[tuple[float, float, float]]:
    """For each of equally wide bins of confidence (lo, hi]: mean confidence, accuracy, and the share of all
    samples that it has; NaN, NaN, 0 for an empty one.
    """
    confidence, answer = logits.double().softmax(1).max(1)
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    rows = torch.stack([confidence, (answer == labels).double(), torch.ones_like(confidence)])
    sums = torch.zeros(3, bins, dtype=torch.float64, device=logits.device).index_add_(1, place, rows)
    found = torch.stack([sums[0] / sums[2], sums[1] / sums[2], sums[2] / len(labels)], 1)
    return [(confidence, right, share) for confidence, right, share in found.tolist()]


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature by which logits must be divided for the least negative log-likelihood (Guo et al. 2017,
    section 4.2), within [e^-8, e^8]. NaN where no temperature there is the best: without data, and where the
    loss falls all the way to either end, as it does for answers that are all right (any lower temperature is
    better) or no better than chance (any higher one).

    The loss is convex in b = 1 / T with the derivative E_p[logit] - logit_label, whose root is bisected.
    """
    if not len(labels):
        return math.nan
    logits = logits.double()
    true = logits.gather(1, labels[:, None]).mean()

    def rises(log: float) -> bool:
        """Whether the loss rises with b at b = e^log."""
        return bool(((math.exp(log) * logits).softmax(1) * logits).sum(1).mean() > true)

    low, high = -_LOG_RANGE, _LOG_RANGE
    if rises(low) or not rises(high):
        return math.nan
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if rises(middle) else (middle, high)
    return math.exp(-0.5 * (low + high))


def disagreement(logits: Sequence[Tensor]) -> float:
    """The share of samples on which two of several predictors (each N, classes) answer differently, averaged
    over all pairs; 0 for a single one.
    """
    answers = [each.argmax(1) for each in logits]
    pairs = [float((one != other).double().mean()) for one, other in combinations(answers, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.0


def _nll(logits: Tensor, labels: Tensor) -> float:
    return float(F.cross_entropy(logits, labels))

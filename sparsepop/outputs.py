"""What a network answers on a whole split."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.inference_mode()
def outputs(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) in at least float32 and labels (N) of all batches, in evaluation mode; empty when
    there are none.
    """
    training = model.training
    model.eval()
    pairs = [(_wide(model(images)), labels) for images, labels in batches]
    model.train(training)
    if not pairs:
        return torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64)
    return torch.cat([logits for logits, _ in pairs]), torch.cat([labels for _, labels in pairs])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of right answers; NaN when there are none at all."""
    return float((logits.argmax(1) == labels).double().mean()) if len(labels) else math.nan


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits

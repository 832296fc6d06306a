"""What a network answers on a whole split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from sparsepop.member import Member
    from sparsepop.methods.base import Batches

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy (nats) and accuracy (0..1) over a split; NaN over nothing."""

    loss: float
    accuracy: float


def own_part(member: Member, data: Batches, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a split that this rank evaluates."""
    return data.batches(split, EVALUATION_BATCH, rank=member.ranks.rank, world=member.ranks.world)


@torch.inference_mode()
def evaluate(member: Member, batches: Iterable[tuple[Tensor, Tensor]]) -> Score:
    """Loss and accuracy over the `batches` of all ranks together, in evaluation mode; syncs the host once."""
    totals = torch.zeros(2, dtype=torch.float64, device=member.device)
    count = 0
    with evaluating(member.model):
        for images, labels in batches:
            with member.autocast():
                logits = wide(member.model(member.prepare(images)))
            loss = F.cross_entropy(logits, labels, reduction="sum")
            totals += torch.stack([loss, (logits.argmax(1) == labels).sum()])
            count += len(labels)
    counted = torch.cat([totals, torch.full_like(totals[:1], count)])
    loss, correct, everything = member.ranks.total(counted).tolist()
    return Score(loss / everything, correct / everything) if everything else Score(math.nan, math.nan)


@torch.inference_mode()
def outputs(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) in at least float32 and labels (N) of all batches, in evaluation mode; empty when
    there are none.
    """
    with evaluating(model):
        pairs = [(wide(model(images)), labels) for images, labels in batches]
    if not pairs:
        return torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64)
    return torch.cat([logits for logits, _ in pairs]), torch.cat([labels for _, labels in pairs])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of right answers; NaN when there are none at all."""
    return float((logits.argmax(1) == labels).double().mean()) if len(labels) else math.nan


def wide(logits: Tensor) -> Tensor:
    """`logits` in at least float32: in bfloat16, cross-entropy would round away what label smoothing adds."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` in evaluation mode; afterwards in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)

"""Votes: several tickets answer, and the mean of their probabilities counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsepop.ensemble.quality import Outputs
from sparsepop.ensemble.setting import Setting
from sparsepop.tickets import Ticket


@dataclass(frozen=True)
class Vote:
    """outputs: the vote's log-probabilities (N, classes) and the labels (N); each: what every ticket said."""

    outputs: Outputs
    each: tuple[Tensor, ...]


def vote(tickets: Sequence[Ticket], setting: Setting, split: str) -> Vote:
    """Let `tickets` vote on a split: the mean of their softmax probabilities (as in deep ensembles,
    Lakshminarayanan et al. 2017). They may be of any networks and densities. ValueError without tickets.
    """
    if not tickets:
        raise ValueError("no ticket to vote: give at least one")
    found = [setting.outputs(ticket, split) for ticket in tickets]
    each = tuple(logits for logits, _ in found)
    sums = torch.stack([logits.double().log_softmax(1) for logits in each]).logsumexp(0)
    return Vote((sums - math.log(len(each)), found[0][1]), each)

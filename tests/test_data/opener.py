"""What each of several processes does that open one data set at the same time."""

from __future__ import annotations

from typing import Any

import torch

from sparsepop.data import open_data


def total(folder: str, root: str, limit: int, answers: Any) -> None:
    """Puts the sum of the test split on the queue."""
    torch.set_num_threads(1)
    data = open_data(folder, root=root, limit_bytes=limit)
    answers.put(sum(float(x.double().sum()) for x, _ in data.batches("test", 10)))

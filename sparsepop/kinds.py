"""Kinds of modules: a new kind of layer or norm is added here, and is counted, pruned and merged then."""

from __future__ import annotations

from torch import nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose `weight` may be pruned."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Norms with running statistics."""

NORMS = (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)

"""Optimizers as values: what a recipe says about learning, and how a torch optimizer is built from it.

A method may write into a parameter how it learns: `no_decay` (True: no weight decay; False: decayed even
where norms and biases are spared), `decay` (its own weight decay), `lr_factor` (a number or a schedule
that its learning rate is multiplied by), `no_clip` (its gradient is neither counted nor clipped).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real

import torch
from torch import nn

from sparsepop.schedule import Schedule, as_schedule


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum (Nesterov's by choice). `decay_norms=False` spares biases and
    norms weight decay.
    """

    lr: float | Schedule = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_norms: bool = True

    def __post_init__(self) -> None:
        _check(self.lr, self.weight_decay)
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True needs momentum above 0, got 0: give it one or leave nesterov out")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        groups = _groups(params, self.weight_decay, self.decay_norms)
        first = as_schedule(self.lr)(0)
        optimizer = torch.optim.SGD(
            groups, lr=first, momentum=self.momentum, nesterov=self.nesterov, fused=True
        )
        optimizer.register_step_pre_hook(_complete)
        scale_learning_rate(optimizer, first, 0)
        return optimizer


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    lr: float | Schedule = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    decay_norms: bool = True

    def __post_init__(self) -> None:
        _check(self.lr, self.weight_decay)
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {self.betas}")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        groups = _groups(params, self.weight_decay, self.decay_norms)
        first = as_schedule(self.lr)(0)
        optimizer = torch.optim.AdamW(groups, lr=first, betas=self.betas, fused=True)
        scale_learning_rate(optimizer, first, 0)
        return optimizer


def _check(lr: float | Schedule, weight_decay: float) -> None:
    if not callable(lr) and not (isinstance(lr, Real) and 0 < lr < math.inf):
        raise ValueError(
            f"the learning rate must be positive, a number or a schedule of the step, got {lr!r}"
        )
    if not (isinstance(weight_decay, Real) and 0 <= weight_decay < math.inf):
        raise ValueError(f"weight decay must be a number, and not negative, got {weight_decay!r}")


def scale_learning_rate(optimizer: torch.optim.Optimizer, lr: float, step: int) -> None:
    """Give every parameter the learning rate of `step`: `lr` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * as_schedule(group.get("lr_factor", 1.0))(step)


def clippable(params: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those whose gradients share the norm that is bounded."""
    return [p for p in params if not getattr(p, "no_clip", False)]


def _complete(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
    """Momentum of zero for parameters that had no gradient in the first step: torch's fused SGD takes
    momentum of all that learn together, or of none.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    if not 0 < len(optimizer.state) < len(params) or all(g["momentum"] == 0 for g in optimizer.param_groups):
        return
    for param in params:
        if param.grad is not None and optimizer.state[param].get("momentum_buffer") is None:
            optimizer.state[param]["momentum_buffer"] = torch.zeros_like(param)


def _groups(
    params: Iterable[nn.Parameter], weight_decay: float, decay_norms: bool
) -> list[dict[str, object]]:
    groups: dict[tuple[float, float | Schedule], list[nn.Parameter]] = {
        (weight_decay, 1.0): [],
        (0.0, 1.0): [],
    }
    for param in params:
        # what a method says of its parameter goes first: a vector of thresholds is neither bias nor norm
        spared = getattr(param, "no_decay", param.ndim < 2 and not decay_norms)
        decay = 0.0 if spared else getattr(param, "decay", weight_decay)
        groups.setdefault((decay, getattr(param, "lr_factor", 1.0)), []).append(param)
    return [
        {"params": members, "weight_decay": decay} | ({} if factor == 1.0 else {"lr_factor": factor})
        for (decay, factor), members in groups.items()
        if members
    ]

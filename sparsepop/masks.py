"""Masks: which weights are alive. The only module that writes zeros into weights, gradients and optimizer
state.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsepop.budgets import allocate
from sparsepop.kinds import LAYERS


def prunable_names(model: nn.Module) -> list[str]:
    """Names of the weights that sparse training may prune: those of linear and convolution layers, never
    biases or norms, nor weights that are computed from other parameters (weight norm).
    """
    return [
        f"{name}.weight" if name else "weight"
        for name, part in model.named_modules()
        if isinstance(part, LAYERS) and part._parameters.get("weight") is not None
    ]


def users(model: nn.Module, params: Iterable[nn.Parameter]) -> list[str]:
    """Names of the weights of all layers that use one of the `params`: also of those that borrow one, or are
    tied to it.
    """
    known = {id(param) for param in params}
    return [
        f"{name}.weight" if name else "weight"
        for name, part in model.named_modules()
        if isinstance(part, LAYERS) and id(part.weight) in known
    ]


def top_mask(score: Tensor, keep: int, eligible: Tensor | None = None) -> Tensor:
    """True at the `keep` largest entries of `score` (any shape), exactly so: of equals, the first in memory
    order win.

    `score` counts as 0 where it is NaN. With `eligible` (boolean, same shape) only those entries are ranked;
    the caller vouches for at least `keep` of them. No host sync, no full sort. Raises ValueError when `keep`
    is out of range.
    """
    flat = score.reshape(-1)
    if not 0 <= keep <= flat.numel():
        raise ValueError(f"cannot keep {keep} of {flat.numel()} weights")
    if keep == 0 or keep == flat.numel():
        return torch.full_like(score, keep > 0, dtype=torch.bool)
    flat = torch.nan_to_num(flat, nan=0.0)
    if eligible is not None:
        flat.masked_fill_(~eligible.reshape(-1), -math.inf)
    threshold = torch.topk(flat, keep, sorted=False).values.min()
    above, tied = flat > threshold, flat == threshold
    room = keep - above.count_nonzero()
    return (above | (tied & (tied.cumsum(0, dtype=torch.int32) <= room))).view(score.shape)


def top_masks(scores: Mapping[str, Tensor], keep: int, eligible: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`top_mask` over all tensors together: one budget for the whole network."""
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    ranked = torch.cat([eligible[name].reshape(-1) for name in scores])
    parts = top_mask(flat, keep, ranked).split([score.numel() for score in scores.values()])
    return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def spare_largest(sizes: Mapping[str, Tensor], alive: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`sizes` with each layer's largest alive weight, or its largest of all where none is alive, beyond any
    rank, so that no layer is ever emptied."""
    spared = {}
    for name, size in sizes.items():
        if not size.numel():  # of a layer that is empty in all tickets of a soup
            spared[name] = size
            continue
        flat, candidates = size.reshape(-1), (alive[name] | ~alive[name].any()).reshape(-1)
        largest = flat.masked_fill(~candidates, -1.0).argmax().view(1)
        spared[name] = flat.index_fill(0, largest, math.inf).view_as(size)
    return spared


def random_mask(shape: Iterable[int], keep: int, generator: torch.Generator) -> Tensor:
    """A mask on the CPU with exactly `keep` alive weights, each such mask equally likely."""
    shape = tuple(shape)
    mask = torch.zeros(math.prod(shape), dtype=torch.bool)
    mask[torch.randperm(mask.numel(), generator=generator)[:keep]] = True
    return mask.view(shape)


class Masks:
    """The boolean mask of every prunable parameter of one model, all alive at first, and what keeps pruned
    weights at zero.

    A pruned weight is zero, and so are its optimizer state and, once `mask_gradients` has run, its gradient;
    then no step of SGD or Adam(W) can move it, so nothing has to be masked after a step.

    `total` is the number of weights that densities are shares of, where it is not just those of `params`:
    a network whose layers share tensors holds fewer. `repeats` names weights that are another one's up to a
    factor, and whose; their alive entries count once, with the other's.
    """

    def __init__(
        self,
        params: Mapping[str, nn.Parameter],
        total: int | None = None,
        repeats: Mapping[str, str] | None = None,
    ) -> None:
        self.params = dict(params)
        self.total = sum(p.numel() for p in self.params.values()) if total is None else total
        self.repeats = dict(repeats or {})
        self.tensors = {name: torch.ones_like(p, dtype=torch.bool) for name, p in self.params.items()}
        self.counts = {name: p.numel() for name, p in self.params.items()}
        self.enforced = True
        self.version = 0

    @property
    def owned(self) -> dict[str, nn.Parameter]:
        """The parameters that repeat no other."""
        return {name: param for name, param in self.params.items() if name not in self.repeats}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(p.shape) for name, p in self.owned.items()}

    @property
    def alive(self) -> int:
        return sum(count for name, count in self.counts.items() if name not in self.repeats)

    @property
    def density(self) -> float:
        return self.alive / self.total

    @property
    def all_alive(self) -> bool:
        """Whether no weight is pruned."""
        return not any(map(self.is_sparse, self.params))

    def allocate(self, density: float, distribution: str = "erk") -> dict[str, int]:
        """Whole numbers of weights to keep, by layer, that make up `density`; see `budgets.allocate`."""
        return allocate(self.shapes, density, distribution, self.total)

    def allocate_among(self, names: Iterable[str], density: float) -> dict[str, int]:
        """Whole numbers of weights to keep in the layers `names` alone, the same share of each, as all layers
        would have at `density`: all weights where it asks for more than there are, for tensors are shared.
        """
        shapes = self.shapes
        share = min(1.0, density * self.total / sum(map(math.prod, shapes.values())))
        return allocate({name: shapes[name] for name in names}, share, "uniform")

    def set(self, new: Mapping[str, Tensor], optimizer: torch.optim.Optimizer | None = None) -> None:
        """Take `new` as the masks of the layers it names; dropped and grown weights become zero, and so does
        their optimizer state.

        Raises ValueError for an unknown layer or a mask of another shape.
        """
        for name, mask in new.items():
            self._check(name, mask)
            mask = mask.to(self.tensors[name].device)
            if self.enforced:
                _clear(self.params[name], self.tensors[name] & mask, mask, optimizer)
            self.tensors[name].copy_(mask)
        self._count(new)

    def mask_gradients(self) -> None:
        """Zero the gradients of pruned weights; nothing to do where a layer is dense."""
        if not self.enforced:
            return
        pairs = [
            (p.grad, self.tensors[n])
            for n, p in self.params.items()
            if p.grad is not None and self.is_sparse(n)
        ]
        if pairs:
            # as bytes: torch's product with booleans takes three times as long
            torch._foreach_mul_([grad for grad, _ in pairs], [mask.view(torch.uint8) for _, mask in pairs])

    def is_sparse(self, name: str) -> bool:
        return self.counts[name] < self.params[name].numel()

    def digest(self) -> str:
        """A short hash of all masks: equal on two ranks if and only if their masks are."""
        sha = hashlib.sha256()
        for name in sorted(self.tensors):
            sha.update(name.encode())
            sha.update(self.tensors[name].cpu().numpy().tobytes())
        return sha.hexdigest()[:16]

    def state_dict(self) -> dict[str, Any]:
        return {"enforced": self.enforced, "version": self.version, "tensors": dict(self.tensors)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over masks saved by `state_dict`; weights are left as they are."""
        tensors = state["tensors"]
        if set(tensors) != set(self.tensors):
            raise ValueError(
                f"the saved masks are of other layers: {sorted(set(tensors) ^ set(self.tensors))}"
            )
        for name, mask in tensors.items():
            self._check(name, mask)
            self.tensors[name].copy_(mask)
        self.enforced = state["enforced"]
        self._count(tensors)
        self.version = state["version"]

    def _check(self, name: str, mask: Tensor) -> None:
        if name not in self.params:
            raise ValueError(f"no prunable layer is called {name!r}: there are {', '.join(self.params)}")
        if mask.shape != self.params[name].shape:
            raise ValueError(
                f"the mask of {name} has shape {tuple(mask.shape)}, "
                f"its weight {tuple(self.params[name].shape)}"
            )

    def _count(self, names: Iterable[str]) -> None:
        # one transfer for all layers: this is the host sync of an update
        names = list(names)
        self.version += 1
        counts = torch.stack([self.tensors[name].sum() for name in names]).tolist() if names else []
        self.counts.update(zip(names, counts, strict=True))


@torch.no_grad()
def _clear(param: nn.Parameter, kept: Tensor, alive: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    param.masked_fill_(~kept, 0.0)
    for key, value in (optimizer.state.get(param, {}) if optimizer is not None else {}).items():
        if torch.is_tensor(value) and value.shape == param.shape:
            value.masked_fill_(~kept, 0.0)
            if key == "exp_avg_sq":
                _typical_second_moment(value, kept, alive)


def _typical_second_moment(second: Tensor, kept: Tensor, alive: Tensor) -> None:
    # Adam corrects its bias by a step count that all weights share: with a second moment of 0 a grown
    # weight's first step would be far too long, so it starts from the mean over the layer's surviving
    # weights.
    mean = second.sum() / kept.sum().clamp(min=1)
    second.copy_(torch.where(alive & ~kept, mean, second))

"""The processes that train one member together, and all that they tell each other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Value = TypeVar("Value")
NORM_MODES = ("synchronised", "local")
_SYNC_OF_BUFFERS = next(  # newer torch has another name for it, and warns of the old one
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(nn.parallel.DistributedDataParallel).parameters
)


class RanksDiffer(RuntimeError):
    """Processes that should hold the same member hold different ones."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among the `world` processes that train a member data-parallel.

    Alone (the default) it needs nothing; otherwise torch.distributed's default group is there, and `control`
    is a gloo group of the same processes for what is not on the device.
    """

    rank: int = 0
    world: int = 1
    control: Any = None

    @classmethod
    def joined(cls) -> Ranks:
        """The place in torch.distributed's default group; every process of it must ask at the same time."""
        control = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
        return cls(dist.get_rank(), dist.get_world_size(), control)

    @property
    def leads(self) -> bool:
        """Whether this is the process that talks to the outside."""
        return self.rank == 0

    def share(self, make: Callable[[], Value]) -> Value:
        """What `make` returns in the leading process, in all of them; elsewhere it is not called."""
        if self.world == 1:
            return make()
        box = [make() if self.leads else None]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]  # type: ignore[return-value]

    def all(self, value: Value) -> list[Value]:
        """The `value` of every process, in order of their ranks, in all of them."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value, group=self.control)
        return values

    def total(self, numbers: Tensor) -> Tensor:
        """`numbers` summed over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(numbers)
        return numbers

    def check_equal(self, digest: str, what: str) -> None:
        """Raise RanksDiffer, in all processes, unless all have the same `digest` of `what`."""
        digests = self.all(digest)
        if odd := [rank for rank, each in enumerate(digests) if each != digests[0]]:
            raise RanksDiffer(
                f"{what} of ranks 0 and {odd[0]} differ: a method draws random numbers, or decides from a "
                "batch, in a way that is not equal on all ranks (see Member.generator)"
            )

    def wrap(self, model: nn.Module, norms: str = "synchronised") -> nn.Module:
        """`model` for the forward passes of training: its backward pass leaves the mean gradient of all
        processes. `norms`: statistics of the whole batch, or of each process's part (then the leader's
        running statistics are the member's, see `share_buffers`). ValueError for norms that cannot be
        synchronised, see `plain_norms`.
        """
        if self.world == 1:
            return model
        if norms == "synchronised":
            for norm in plain_norms(model):
                norm.forward = MethodType(_synchronised, norm)  # type: ignore[method-assign]
        options: dict[str, Any] = {"gradient_as_bucket_view": True, _SYNC_OF_BUFFERS: False}
        return nn.parallel.DistributedDataParallel(model, **options)

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the leader's buffers, running statistics among them."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def plain_norms(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorms of `model` that compute what torch's do, and can be synchronised. ValueError where one
    computes something of its own (an activation, as timm's), which would be lost.
    """
    # torch's SyncBatchNorm synchronises itself
    norms = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, _BatchNorm) and not isinstance(part, nn.SyncBatchNorm)
    }
    for name, norm in norms.items():
        if type(norm).forward is not _BatchNorm.forward:
            raise ValueError(
                f"{name} is a {type(norm).__name__}, a BatchNorm with its own forward pass, which cannot be "
                "synchronised: use Recipe(norms='local') or one worker"
            )
    return list(norms.values())


@contextmanager
def unsynchronised(model: nn.Module) -> Iterator[None]:
    """BatchNorms count their own process's batch alone meanwhile, whatever `Ranks.wrap` made of them: for
    batches that all processes see whole, which synchronised ones would count once for each.
    """
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm) and "forward" in vars(part)]
    synchronised = [vars(norm).pop("forward") for norm in norms]
    try:
        yield
    finally:
        for norm, forward in zip(norms, synchronised, strict=True):
            norm.forward = forward  # type: ignore[method-assign]


class _Total(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor) -> Tensor:
        numbers = numbers.clone()
        dist.all_reduce(numbers)
        return numbers

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone()
        dist.all_reduce(grad)
        return grad


def _synchronised(self: _BatchNorm, x: Tensor) -> Tensor:
    """BatchNorm with the statistics of all processes' batches. torch's own has no version for the CPU.

    The variance takes a second pass over the centred input: E[x^2] - E[x]^2 would cancel in float32.
    """
    if not self.training:
        return type(self).forward(self, x)
    dims = [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    count = torch.full((1,), wide.numel() // wide.shape[1], dtype=wide.dtype, device=wide.device)
    sums = _Total.apply(torch.cat([wide.sum(dims), count]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = wide - mean.view(shape)
    variance = _Total.apply(centred.square().sum(dims)) / count
    _track(self, mean.detach(), variance.detach() * count / (count - 1))
    out = centred * (variance + self.eps).rsqrt().view(shape)
    if self.affine:
        out = out * self.weight.view(shape) + self.bias.view(shape)
    return out.to(x.dtype)


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = 1.0 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), weight)

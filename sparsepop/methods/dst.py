"""DST: thresholds that are trained with the weights decide which weights are alive."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from sparsepop.methods.base import Batches, Method
from sparsepop.methods.harden import harden
from sparsepop.methods.penalties import check_strength
from sparsepop.methods.toward import Toward
from sparsepop.methods.watch import STATISTICS, flips, statistics
from sparsepop.nn.masked import (
    GRANULARITIES,
    add_threshold,
    remove_threshold,
    threshold_layers,
    threshold_shape,
)
from sparsepop.nn.threshold import pruned
from sparsepop.schedule import Schedule, as_schedule, extremes

if TYPE_CHECKING:
    from sparsepop.member import Member

_STEEPEST = 10.0
COLUMNS = (*STATISTICS, "resets", "recovered", "gone")


@dataclass(frozen=True)
class Thresholds(Method):
    """Dynamic sparse training with trainable thresholds (Liu et al. 2020, "Dynamic Sparse Training: Find
    Efficient Sparse Network From Scratch With Trainable Masked Layers").

    A weight is alive while it is larger than its threshold in size; masks follow from weights and thresholds
    in every forward pass, pruned weights keep their values and train on through the long-tailed estimator
    (`nn.threshold`). `alpha` weighs the sum of exp(-t) over all thresholds in the loss: a number, a schedule,
    or a controller (`Toward`). `granularity`: one threshold for each layer (scalar), each output unit
    (vector, as published) or each weight (matrix); the same alpha means something else for each. Whoever
    takes over a state keeps that state's thresholds. Once a step, a layer of which no more than the share
    `floor` is alive starts over with all its thresholds at 0; floor=0 spares all but empty layers, None even
    those. `decay=False` spares thresholds the weight decay that the published code gives them.

    The density is an outcome of alpha; a `Cut` after it makes it exact. Without one, `finish` leaves the
    plain network that the masks make.

    Deviations: the floor is looked at after each step, not in each forward pass of training and evaluation;
    exp(-t) goes on as a straight line below t = -10, where it would overflow in the end; networks keep their
    own initialisation, so published alphas need not give published densities.
    """

    alpha: float | Schedule | Toward
    granularity: str = "vector"
    floor: float | None = 0.01
    decay: bool = True

    soft: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            known = ", ".join(GRANULARITIES)
            raise ValueError(f"unknown granularity {self.granularity!r}: choose one of {known}")
        if self.floor is not None and not 0.0 <= self.floor < 1.0:
            raise ValueError(f"floor must lie in [0, 1), or be None for no resets, got {self.floor}")
        if not isinstance(self.alpha, Toward):
            alpha = as_schedule(self.alpha)
            for step in extremes(alpha):
                check_strength("alpha", alpha(step))

    # --- modules

    def surgery(self, model: nn.Module, names: Sequence[str]) -> None:
        for name in names:
            layer = layer_of(model, name)
            self._give(layer, threshold_shape(layer.weight, self.granularity))

    def adapt(self, member: Member, state: Mapping[str, Any]) -> None:
        before = set(member.model.parameters())
        for name in member.masks.params:
            layer = layer_of(member.model, name)
            saved = state["model"].get(threshold_name(name))
            if saved is None:
                remove_threshold(layer)
            elif getattr(layer, "threshold", None) is None or layer.threshold.shape != saved.shape:
                self._give(layer, saved.shape)
        if before != set(member.model.parameters()):
            member.rewire()

    def _give(self, layer: Any, shape: torch.Size) -> None:
        threshold = nn.Parameter(layer.weight.new_zeros(shape))
        threshold.kind = "threshold"  # type: ignore[attr-defined]
        threshold.no_decay = not self.decay  # type: ignore[attr-defined]
        add_threshold(layer, threshold)

    # --- training

    def start(self, member: Member) -> None:
        member.masks.enforced = False
        memory, count = member.memory_of(self), len(member.masks.params)
        memory["resets"] = torch.zeros(count, dtype=torch.int64, device=member.device)
        memory["told"] = [0] * count

    def penalty(self, member: Member) -> Tensor | None:
        if member.masks.enforced:
            return None
        thresholds = torch.cat([threshold.reshape(-1) for _, threshold in _pairs(member)])
        return self._alpha(member) * regulariser(thresholds)

    @torch.no_grad()
    def after_step(self, member: Member) -> None:
        if member.masks.enforced:
            return
        pairs = list(_pairs(member))
        alive = [weight.numel() - pruned(weight, threshold).sum() for weight, threshold in pairs]
        if self.floor is not None:
            self._reset_collapsed(member, pairs, alive)
        if isinstance(self.alpha, Toward):
            density = torch.stack(alive).sum() / member.masks.total
            self.alpha.follow(self._control(member, self.alpha), density, member.step)

    def _reset_collapsed(
        self, member: Member, pairs: Sequence[tuple[Tensor, Tensor]], alive: Sequence[Tensor]
    ) -> None:
        assert self.floor is not None
        collapsed = []
        for (weight, threshold), count in zip(pairs, alive, strict=True):
            collapsed.append(count <= most_collapsed(self.floor, weight.numel()))
            threshold.masked_fill_(collapsed[-1], 0.0)
        member.memory_of(self)["resets"] += torch.stack(collapsed)

    def _alpha(self, member: Member) -> float | Tensor:
        if isinstance(self.alpha, Toward):
            return self.alpha.coefficient(self._control(member, self.alpha))
        return as_schedule(self.alpha)(member.step)

    def _control(self, member: Member, toward: Toward) -> dict[str, Tensor]:
        memory = member.memory_of(self)
        if "control" not in memory:
            memory["control"] = toward.first(member.device)
        control: dict[str, Tensor] = memory["control"]
        return control

    # --- reports

    def measure(self, member: Member) -> Mapping[str, float]:
        """`alpha`, the number of `resets` so far, and how many weights came back and went since the last
        report; after the soft phase the resets alone.
        """
        self._tell_resets(member)
        resets = float(sum(member.memory_of(self)["told"]))
        if member.masks.enforced:
            return {"resets": resets}
        flipped = member.memory_of(self)["flips"] = self._observe(member)
        recovered, gone = (float(sum(each)) for each in zip(*flipped, strict=True))
        return {"alpha": float(self._alpha(member)), "resets": resets, "recovered": recovered, "gone": gone}

    def measure_layers(self, member: Member) -> Mapping[str, Mapping[str, float]]:
        """For each layer: thresholds, output units without a weight, resets so far, weights that came back
        and went since the last report; after the soft phase what held at its end.
        """
        memory = member.memory_of(self)
        measured = memory["last"] if member.masks.enforced else self._statistics(member)
        flipped = memory.get("flips", [(0, 0)] * len(measured))
        rows = zip(member.masks.params, measured, memory["told"], flipped, strict=True)
        return {
            name: dict(zip(COLUMNS, (*numbers, float(resets), float(came), float(gone)), strict=True))
            for name, numbers, resets, (came, gone) in rows
        }

    def _observe(self, member: Member) -> list[tuple[int, int]]:
        """Take the masks of now; how many weights of each layer came back and went since they were taken."""
        masks = member.masks
        new = {name: ~pruned(w, t) for name, (w, t) in zip(masks.params, _pairs(member), strict=True)}
        found = flips(masks.tensors, new)
        masks.set(new)
        return found

    def _statistics(self, member: Member) -> list[list[float]]:
        return statistics([threshold for _, threshold in _pairs(member)], member.masks.tensors.values())

    def _tell_resets(self, member: Member) -> None:
        memory = member.memory_of(self)
        counts = memory["resets"].tolist()
        for name, count, told in zip(member.masks.params, counts, memory["told"], strict=True):
            if count > told:
                member.note("reset", f"the thresholds of {name} were reset", times=float(count - told))
        memory["told"] = counts

    # --- the end

    def harden(self, member: Member) -> None:
        memory = member.memory_of(self)
        self._observe(member)
        memory.pop("flips", None)
        memory["last"] = self._statistics(member)
        for layer in list(threshold_layers(member.model)):
            remove_threshold(layer)

    def finish(self, member: Member, data: Batches) -> None:
        harden(member)


def regulariser(thresholds: Tensor) -> Tensor:
    """The sum of exp(-t), continued as a straight line below t = -10."""
    rising = -thresholds
    return (rising.clamp(max=_STEEPEST).exp() * (1.0 + (rising - _STEEPEST).relu())).sum()


def most_collapsed(floor: float, size: int) -> int:
    """The largest number of `size` weights that is no more than the share `floor` of them."""
    return math.floor(floor * size + 1e-6)


def layer_of(model: nn.Module, name: str) -> Any:
    """The layer whose weight is called `name`."""
    return model.get_submodule(name.rpartition(".")[0])


def threshold_name(name: str) -> str:
    """The name of the threshold beside the weight called `name`."""
    return name.removesuffix("weight") + "threshold"


def _pairs(member: Member) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    """Weight and threshold of each layer, in the order of the masks."""
    for name, weight in member.masks.params.items():
        yield weight, layer_of(member.model, name).threshold

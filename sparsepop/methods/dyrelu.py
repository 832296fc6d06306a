"""Activations that depend on the input early in training and are plain ReLUs afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsepop.methods.base import Method
from sparsepop.nn import Act
from sparsepop.nn.lines import larger_line, mean_over_places
from sparsepop.schedule import Schedule, as_schedule, last_change

if TYPE_CHECKING:
    from sparsepop.member import Member

BLENDS = ("coefficients", "outputs")


class DyReLU(Act):
    """DyReLU-B with two pieces (Chen et al. 2020, "Dynamic ReLU", section 3): the larger of two lines, whose
    slopes and intercepts follow, for each of the `channels`, from the input's mean over places.

    At `beta` 1 it is that, at 0 a ReLU bit for bit, between them a blend of both: of their `coefficients`
    (EAST's code) or of their `outputs`. 1.25 channels^2 + 4.25 channels parameters at `reduction` 4.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        blend: str = "coefficients",
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden, device=device)
        self.expand = nn.Linear(hidden, 4 * channels, device=device)
        self.blend = blend
        self.beta = 1.0
        for param in self.parameters():
            param.kind = "dyrelu"  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) in, the same shape out."""
        if self.beta == 0.0:
            return F.relu(x)
        y = larger_line(x, *self._lines(x))
        if self.blend == "outputs" and self.beta != 1.0:
            return self.beta * y + (1.0 - self.beta) * F.relu(x)
        return y

    def _lines(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Two slopes and two intercepts, each (N, channels)."""
        # in the weights' own precision: bfloat16 would move slopes by up to a percent
        with torch.autocast(x.device.type, enabled=False):
            mean = mean_over_places(x, self.squeeze.weight.dtype)
            theta = 2.0 * torch.sigmoid(self.expand(F.relu(self.squeeze(mean)))) - 1.0
            share = self.beta if self.blend == "coefficients" else 1.0
            first, second, up, down = (share * theta).view(*x.shape[:2], 4).unbind(2)
            return 1.0 + first, second, 0.5 * up, 0.5 * down


@dataclass(frozen=True)
class PhaseDyReLU(Method):
    """Put a DyReLU into every activation slot and fade it into a ReLU (EAST, Li et al. 2025): where `beta`
    ends, at 0, the units and their parameters are dropped from model, optimizer and state.

    The units' parameters are dense, outside of all masks and counts of prunable weights; the ledger counts
    them as `dyrelu` while they live. Each slot owns its unit, also where blocks share weights.

    Deviations: beta follows the step, not the epoch; parameters train to the end of the phase and are then
    gone, where the paper's code keeps them under weight decay.
    """

    beta: Schedule
    reduction: int = 4
    blend: str = "coefficients"

    def __post_init__(self) -> None:
        end = last_change(as_schedule(self.beta))
        values = [as_schedule(self.beta)(step) for step in (0, end // 2, end)]
        if end < 1 or values[-1] != 0.0 or not all(0.0 <= value <= 1.0 for value in values):
            raise ValueError(
                f"beta must lie in [0, 1] and end at 0, got {self.beta}: use Linear(1.0, 0.0, end)"
            )
        if self.reduction < 1:
            raise ValueError(f"the reduction must be at least 1, got {self.reduction}: the paper's is 4")
        if self.blend not in BLENDS:
            raise ValueError(f"unknown blend {self.blend!r}: choose one of {', '.join(BLENDS)}")

    def surgery(self, model: nn.Module, names: Sequence[str]) -> None:
        device = next(model.parameters()).device
        for parent, name, channels in list(_slots(model)):
            unit = DyReLU(channels, self.reduction, self.blend, device)
            slot = getattr(parent, name)
            unit.channels, unit.inplace = slot.channels, slot.inplace
            setattr(parent, name, unit)

    def adapt(self, member: Member, state: Mapping[str, Any]) -> None:
        # another member's phase may have been shorter or longer than this one's: its state says
        if not any(name.endswith(".squeeze.weight") for name in state["model"]):
            self._drop(member)
        self._set_beta(member, state["step"])
        if as_schedule(self.beta)(state["step"]) == 0.0:
            # they go after the next step; until then no rank may wait for gradients of theirs
            for unit in _units(member.model):
                unit.requires_grad_(False)
            member.rewire()

    def start(self, member: Member) -> None:
        self._set_beta(member, member.step)

    def after_step(self, member: Member) -> None:
        if member.step >= self.settled_at():
            self._end(member)
        elif as_schedule(self.beta)(member.step) != as_schedule(self.beta)(member.step - 1):
            self._set_beta(member, member.step)

    def measure(self, member: Member) -> Mapping[str, float]:
        """`beta` of the units; 0 where none are left, be it in a state from a shorter phase."""
        return {"beta": next((unit.beta for unit in _units(member.model)), 0.0)}

    def plain_at(self, step: int) -> bool:
        # without its units the network would be another one
        return step >= self.settled_at()

    def settled_at(self) -> int:
        return last_change(as_schedule(self.beta))

    def _set_beta(self, member: Member, step: int) -> None:
        beta = as_schedule(self.beta)(step)
        for unit in _units(member.model):
            unit.beta = beta

    def _end(self, member: Member) -> None:
        if dropped := self._drop(member):
            member.note("phase", "activations are plain ReLUs from here on", parameters=dropped)

    def _drop(self, member: Member) -> int:
        """Put plain slots back; returns how many parameters went."""
        units = _units(member.model)
        if not units:
            return 0
        for part in list(member.model.modules()):
            for name, child in part.named_children():
                if isinstance(child, DyReLU):
                    setattr(part, name, Act(child.channels, child.inplace).train(child.training))
        member.rewire()
        return sum(param.numel() for unit in units for param in unit.parameters())


def _units(model: nn.Module) -> list[DyReLU]:
    return [part for part in model.modules() if isinstance(part, DyReLU)]


def _slots(model: nn.Module) -> Iterator[tuple[nn.Module, str, int]]:
    """Every activation slot: its parent, its name there, and its channels: those it says, else those of the
    layer or norm registered before it. ValueError where there is none, or one that cannot be a slot.
    """
    if unfit := [name for name, part in model.named_modules() if type(part) is nn.ReLU]:
        raise ValueError(
            f"the ReLU {unfit[0]} cannot be replaced: it is not used, has no channels, or several numbers of "
            "them; give every place an nn.ReLU of its own"
        )
    if not any(isinstance(part, Act) for part in model.modules()):
        raise ValueError("no activation can be replaced: use nn.ReLU modules, not functions, in the network")
    parents = {child: (part, name) for part in model.modules() for name, child in part.named_children()}
    channels = 0
    for part in model.modules():
        for size in ("num_features", "out_channels", "out_features"):
            channels = int(getattr(part, size, channels))
        if isinstance(part, Act):
            yield (*parents[part], part.channels or channels)

"""Cheap tickets: what a member remembers of the networks that it was at the end of each cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparsepop.bits import pack_bits, unpack_bits

if TYPE_CHECKING:
    from sparsepop.member import Member
    from sparsepop.outputs import Score


@dataclass(frozen=True)
class CheapTicket:
    """A network after `step` steps: its state, dead weights as zeros, and its masks; what training it took,
    and, once it was judged, what it scored. Averages know neither.
    """

    step: int
    state: dict[str, Tensor]
    masks: dict[str, Tensor]
    costs: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def alive(self) -> int:
        return sum(int(mask.sum()) for mask in self.masks.values())


def remember(memory: dict[str, Any], member: Member) -> None:
    """Put a copy of the network into `memory`: alive weights, masks at one bit a weight, all else as it is.
    At 5% density four of these are smaller than one dense copy.
    """
    masks = member.masks
    memory.setdefault("costs", {})[str(member.step)] = {"train_flops": member.train_flops}
    state = {name: value.detach() for name, value in member.model.state_dict().items()}
    memory.setdefault("tickets", {})[str(member.step)] = {
        "weights": {name: state[name][mask] for name, mask in masks.tensors.items()},
        "masks": {name: pack_bits(mask) for name, mask in masks.tensors.items()},
        "others": {name: value.clone() for name, value in state.items() if name not in masks.tensors},
    }


def renew(memory: dict[str, Any], member: Member, step: int) -> None:
    """Let the ticket of `step` have `member`'s statistics, and whatever else is neither weight nor mask."""
    ticket, state = memory["tickets"][str(step)], member.model.state_dict()
    others = {name: state[name].detach().clone() for name in ticket["others"]}
    # new objects: states share what they hold with their donors
    memory["tickets"] = {**memory["tickets"], str(step): {**ticket, "others": others}}


def remember_scores(memory: dict[str, Any], scores: Mapping[int, Score]) -> None:
    """Put what the tickets of these steps scored on validation beside them."""
    memory["metrics"] = {
        str(step): {"validation_accuracy": score.accuracy, "validation_loss": score.loss}
        for step, score in scores.items()
    }


def recall(memory: dict[str, Any], member: Member, wanted: Callable[[int], bool]) -> Iterator[CheapTicket]:
    """The tickets in `memory` of the steps that are `wanted`, oldest first, each unpacked only when it is
    asked for.
    """
    for step in sorted(map(int, memory.get("tickets", {}))):
        if wanted(step):
            ticket = _unpacked(step, memory["tickets"][str(step)], member)
            known = {name: memory.get(name, {}).get(str(step), {}) for name in ("costs", "metrics")}
            yield replace(ticket, **known)


def _unpacked(step: int, packed: dict[str, dict[str, Tensor]], member: Member) -> CheapTicket:
    # by the names of then: layers may have got weights of their own since
    shapes = member.masks.shapes
    masks = {name: unpack_bits(bits, shapes[name]) for name, bits in packed["masks"].items()}
    weights = {}
    for name, mask in masks.items():
        values = packed["weights"][name]
        weights[name] = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
        weights[name][mask] = values
    return CheapTicket(step, {**packed["others"], **weights}, masks)

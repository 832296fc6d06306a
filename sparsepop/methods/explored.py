"""How much of the network a member has ever tried: the exploration rate of in-time over-parameterisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsepop.methods.base import Method

if TYPE_CHECKING:
    from sparsepop.member import Member


@dataclass(frozen=True)
class Explored(Method):
    """Report R_s, the share of prunable weights that were ever alive (ITOP, Liu et al. 2021, section 3).
    A weight that several blocks share is one. Stands after the methods that change masks; costs one boolean
    per weight.
    """

    def start(self, member: Member) -> None:
        self._remember(member)

    def after_backward(self, member: Member) -> None:
        # a weight grown for one single step is pruned again before the step's end
        self.after_step(member)

    def after_step(self, member: Member) -> None:
        if member.memory_of(self).get("version") != member.masks.version:
            self._remember(member)

    def measure(self, member: Member) -> Mapping[str, float]:
        ever = member.memory_of(self)["ever"]
        total = sum(mask.numel() for mask in ever.values())
        return {"explored": sum(int(mask.sum()) for mask in ever.values()) / total}

    def _remember(self, member: Member) -> None:
        memory = member.memory_of(self)
        ever = memory.setdefault("ever", {name: mask.clone() for name, mask in member.masks.tensors.items()})
        for name, mask in member.masks.tensors.items():
            ever[name].logical_or_(mask)
        memory["version"] = member.masks.version

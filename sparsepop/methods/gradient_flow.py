"""Whether gradients reach every stage of the network."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sparsepop.methods.base import Method

if TYPE_CHECKING:
    from sparsepop.member import Member


@dataclass(frozen=True)
class GradientFlow(Method):
    """Report the gradient's norm in each stage (a module directly in the network: conv1, layer1, ..., fc) and
    in each layer, over alive prunable weights, after clipping, of the last step before the report. No step
    costs anything.

    A stage whose norm becomes 0 or not finite is noted as an event `collapse` with its first such layer. NaN
    stands for no gradient yet.
    """

    def measure(self, member: Member) -> Mapping[str, float]:
        layers = norms(member)
        stages: defaultdict[str, list[str]] = defaultdict(list)
        for name in member.masks.params:
            stages[name.split(".")[0]].append(name)
        flow = {
            stage: math.hypot(*(layers.get(name, 0.0) for name in names)) if layers else math.nan
            for stage, names in stages.items()
        }
        self._watch(member, stages, flow, layers)
        return {f"gradient_{stage}": norm for stage, norm in flow.items()}

    def measure_layers(self, member: Member) -> Mapping[str, Mapping[str, float]]:
        return {name: {"gradient": norm} for name, norm in norms(member).items()}

    def _watch(
        self,
        member: Member,
        stages: Mapping[str, list[str]],
        flow: Mapping[str, float],
        layers: Mapping[str, float],
    ) -> None:
        memory = member.memory_of(self)
        known = memory.get("silent", [])
        memory["silent"] = [stage for stage, norm in flow.items() if layers and not 0.0 < norm < math.inf]
        for stage in memory["silent"]:
            if stage not in known:
                layer = next(n for n in stages[stage] if not 0.0 < layers.get(n, 0.0) < math.inf)
                message = f"no usable gradient in {stage}, first in {layer}"
                member.note("collapse", message, gradient=flow[stage])


def norms(member: Member) -> dict[str, float]:
    """The gradient's norm by layer; layers without a gradient are left out."""
    grads = {name: param.grad for name, param in member.masks.params.items() if param.grad is not None}
    if not grads:
        return {}
    found = torch.stack(torch._foreach_norm(list(grads.values()))).tolist()
    return dict(zip(grads, found, strict=True))

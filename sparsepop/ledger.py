"""What a network costs: multiply-adds by layer, FLOPs of inference and training, and every learnable number
by kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Costs:
    """Multiply-adds of one sample's forward pass through the dense network: by prunable weight, and of all
    other layers together.
    """

    macs: Mapping[str, int]
    other_macs: int

    def forward_flops(self, densities: Mapping[str, float]) -> float:
        """FLOPs of one sample's forward pass (2 per multiply-add) when each layer has the given density;
        absent ones are dense.
        """
        return 2.0 * (
            self.other_macs + sum(macs * densities.get(name, 1.0) for name, macs in self.macs.items())
        )

    @property
    def dense_flops(self) -> float:
        return self.forward_flops({})


@torch.no_grad()
def measure_costs(
    model: nn.Module, shape: tuple[int, int, int], prunable: Mapping[str, nn.Parameter]
) -> Costs:
    """Count multiply-adds of convolutions and linear layers by running one blank image of `shape` (C, H, W)
    through `model`.

    A weight that is used several times counts at every use. Norms, activations and pooling are left out, as
    in the published tables of RigL (Evci et al. 2020, appendix H).
    """
    names = {id(param): name for name, param in prunable.items()}
    macs: Counter[str] = Counter()

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        places = output.numel() // output.shape[0] // weight.shape[0]
        macs[names.get(id(weight), "")] += weight.numel() * places

    hooks = [part.register_forward_hook(count) for part in model.modules() if isinstance(part, LAYERS)]
    training = model.training
    try:
        reference = next(model.parameters())
        model.eval()(torch.zeros(1, *shape, device=reference.device, dtype=reference.dtype))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    other = macs.pop("", 0)
    return Costs(dict(macs), other)


def learnables(model: nn.Module, prunable: Iterable[nn.Parameter]) -> dict[str, int]:
    """Every learnable number that is not a prunable weight, counted by kind: `norm`, `bias`, `dense` (weights
    never pruned), or what a method wrote into the parameter's attribute `kind` (thresholds, gains, ...).

    A prunable weight's attribute `gains` says how many learned factors are multiplied into it.
    """
    prunable = list(prunable)
    skip = {id(param) for param in prunable}
    counts: Counter[str] = Counter()
    if gains := sum(int(getattr(param, "gains", 0)) for param in prunable):
        counts["gain"] = gains
    for part in model.modules():
        for name, param in part.named_parameters(recurse=False):
            if id(param) not in skip:
                skip.add(id(param))
                counts[_kind(part, name, param)] += param.numel()
    return dict(counts)


def state_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that the given tensors hold."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _kind(part: nn.Module, name: str, param: nn.Parameter) -> str:
    if hasattr(param, "kind"):
        return str(param.kind)
    if isinstance(part, NORMS):
        return "norm"
    return "bias" if name == "bias" else "dense"

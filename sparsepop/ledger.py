"""What a network costs: multiply-adds by layer, FLOPs of inference and training, and every learnable number
by kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sparsepop.kinds import LAYERS, NORMS


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


@dataclass(frozen=True)
class Multiplies:
    """Multiply-adds of one sample by prunable weight and by all else, and which of these weights went into
    an operation as they are."""

    macs: Mapping[str, int]
    other: int
    direct: frozenset[str]


def measure_costs(
    model: nn.Module, shape: tuple[int, int, int], prunable: Mapping[str, nn.Parameter]
) -> Costs:
    """Count multiply-adds by running one blank image of `shape` (C, H, W) through `model`.

    A weight that is used several times counts at every use. Matrix products without a prunable weight
    (attention, recurrent layers) are costs of other layers. Norms, activations and pooling are left out, as
    in the published tables of RigL (Evci et al. 2020, appendix H).
    """
    counted = count_multiplies(model, shape, prunable)
    return Costs(counted.macs, counted.other)


@torch.no_grad()
def count_multiplies(
    model: nn.Module, shape: tuple[int, int, int], prunable: Mapping[str, nn.Parameter]
) -> Multiplies:
    """What `measure_costs` counts, by watching layers, and torch's operations outside of them."""
    names = {id(param): name for name, param in prunable.items()}
    tally = _Tally(prunable)

    def enter(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        tally.inside += 1

    def leave(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        tally.inside -= 1
        weight = layer.weight
        assert isinstance(weight, Tensor)
        places = output.numel() // weight.shape[0]  # of one image, wherever its axis may be
        tally.macs[names.get(id(weight), "")] += weight.numel() * places

    layers = [part for part in model.modules() if isinstance(part, LAYERS)]
    hooks = [part.register_forward_pre_hook(enter) for part in layers]
    hooks += [part.register_forward_hook(leave) for part in layers]
    training = model.training
    try:
        reference = next(model.parameters())
        model.eval()
        with _plain_operations(model), tally:
            model(torch.zeros(1, *shape, device=reference.device, dtype=reference.dtype))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    other = tally.macs.pop("", 0)
    return Multiplies(dict(tally.macs), other, frozenset(tally.direct))


class _Tally(TorchDispatchMode):
    """Counts the multiply-adds of torch's operations, but those `inside` a layer, whose hooks count them."""

    def __init__(self, prunable: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        # views of a weight share its storage, whatever device it is on
        self.names = {param.untyped_storage()._cdata: name for name, param in prunable.items()}
        self.formulas = FlopCounterMode(display=False).flop_registry
        self.macs: Counter[str] = Counter()
        self.direct: set[str] = set()
        self.inside = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = self.formulas.get(func._overloadpacket)
        if formula is not None:
            storages = [each.untyped_storage()._cdata for each in args if isinstance(each, Tensor)]
            name = next((self.names[each] for each in storages if each in self.names), "")
            self.direct.add(name)
            if not self.inside:
                self.macs[name] += formula(*args, **(kwargs or {}), out_val=result) // 2
        return result


@contextmanager
def _plain_operations(model: nn.Module) -> Iterator[None]:
    """Attention and recurrence as the matrix products that they are, not as one operation."""
    fast = torch.backends.mha.get_fastpath_enabled()
    recurrent = any(isinstance(part, nn.RNNBase) for part in model.modules())
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if recurrent:
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


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

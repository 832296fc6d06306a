"""Blocks of a stage that share one set of weights, each use with a gain of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsepop.masks import Masks
from sparsepop.methods.base import Batches, Method

if TYPE_CHECKING:
    from sparsepop.member import Member

Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class ShareWeights(Method):
    """In every stage the blocks from number `ratio` on (counting from 0) own no weights: each layer of theirs
    uses the tensor of the same layer of block ratio - 1, times a learnable gain (EAST, Li et al. 2025).

    BatchNorms and activations stay each block's own; shortcuts are not shared. Masks are on the tensors that
    exist, and densities stay shares of the full network's weights, so that the same number of weights is
    alive in fewer tensors. Gains start from U(0, 1), as in the paper's code; no weight decay pulls at them,
    for it would silence the blocks (there it does). `finish` gives every layer its own product of tensor and
    gain: the plain network with the same outputs, whose repeated weights still count once; a ticket of it
    holds each weight once (`sharing_of`).

    Stands before methods that give layers parameters of their own. ValueError where it does not, for a
    network without stages, and where `keep_dense` names one of two weights that are shared.
    """

    ratio: int = 2

    def __post_init__(self) -> None:
        if self.ratio < 2:
            raise ValueError(
                f"ratio must be at least 2, got {self.ratio}: the first block of a stage has other shapes"
            )

    def surgery(self, model: nn.Module, names: Sequence[str]) -> None:
        found = list(borrowings(model, self.ratio))
        if not found and (changed := [part for part in model.modules() if _is_changed(part)]):
            kind = type(changed[0]).__name__
            raise ValueError(f"no layer of kind {kind} can be shared: put ShareWeights first")
        for name, layer, source in found:
            if own := {each for each, _ in layer.named_parameters(recurse=False)} - {"weight", "bias"}:
                raise ValueError(f"{name} has its own {min(own)} already: put ShareWeights first")
            owner = next(n for n, part in model.named_modules() if part is source)
            if (f"{name}.weight" in names) != (f"{owner}.weight" in names):
                raise ValueError(f"{name} shares the weight of {owner}: keep_dense must name both or none")
            _borrow(layer, source)

    def adapt(self, member: Member, state: Mapping[str, Any]) -> None:
        if any(f"{name}.weight" in state["model"] for name, _ in borrowers(member.model)):
            self._part(member)

    def measure(self, member: Member) -> Mapping[str, float]:
        """`executed`: alive weights, counted at every use."""
        masks = member.masks
        repeats = Counter(id(layer.weight) for _, layer in borrowers(member.model))
        uses = {name: 1 + repeats[id(param)] for name, param in masks.params.items()}
        return {"executed": float(sum(count * uses[name] for name, count in masks.counts.items()))}

    def finish(self, member: Member, data: Batches) -> None:
        # the products alone would not say, bit for bit, what they were products of
        owners, gains = self._part(member)
        member.memory_of(self).update(owners=owners, gains=gains)

    def _part(self, member: Member) -> tuple[dict[str, str], dict[str, Tensor]]:
        """Give every layer a weight and a mask of its own; returns whose each was, and the gains."""
        old = member.masks
        names = {id(param): name for name, param in member.model.named_parameters()}
        owners, gains = {}, {}
        for name, layer in list(borrowers(member.model)):
            owners[f"{name}.weight"] = names[id(layer.weight)]
            gains[f"{name}.gain"] = layer.gain.detach()
            _own(layer)
        self._repeat(member, old, {name: owner for name, owner in owners.items() if owner in old.params})
        return owners, gains

    def _repeat(self, member: Member, old: Masks, masters: Mapping[str, str]) -> None:
        if not masters:
            return
        wanted = [n for n, _ in member.model.named_parameters() if n in old.params or n in masters]
        member.masks = Masks({n: member.model.get_parameter(n) for n in wanted}, old.total, masters)
        member.masks.enforced = old.enforced
        member.masks.set({n: old.tensors[masters.get(n, n)] for n in wanted})
        member.rewire()


def sharing_of(member: Member) -> tuple[Mapping[str, str], Mapping[str, Tensor]]:
    """What a finished member's weights were products of: by the name of each weight that of the one that it
    repeats, and the gains by their names in the network that shared them; both empty where none was shared.
    """
    methods = [method for method in member.recipe.methods if isinstance(method, ShareWeights)]
    found = member.memory_of(methods[0]) if methods else {}
    return found.get("owners", {}), found.get("gains", {})


class Borrowed:
    """Mixed into a layer whose weight is another layer's; the gain is its own."""

    gain: nn.Parameter

    @property
    def weight(self) -> Tensor:
        """The very parameter that the other layer owns."""
        found: Tensor = self.__dict__["source"].weight
        return found


class BorrowedLinear(Borrowed, nn.Linear):  # type: ignore[override]
    """y = gain W x + b."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, ..., inputs) -> (N, ..., outputs)."""
        return F.linear(x, self.weight * self.gain, self.bias)


class BorrowedConv2d(Borrowed, nn.Conv2d):  # type: ignore[override]
    """A convolution with gain W."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        return self._conv_forward(x, self.weight * self.gain, self.bias)


_BORROWED: dict[type[Layer], type[Layer]] = {nn.Linear: BorrowedLinear, nn.Conv2d: BorrowedConv2d}


def borrowings(model: nn.Module, ratio: int) -> Iterator[tuple[str, Any, Any]]:
    """The layers that own no weight: name, layer, and the layer whose weight they use. Stages are the
    sequences of blocks directly in `model`.
    """
    stages = [
        (name, list(part.children()))
        for name, part in model.named_children()
        if isinstance(part, nn.Sequential) and all(len(list(block.children())) for block in part)
    ]
    if not stages:
        raise ValueError("sharing needs a network of stages of blocks, as residual ones are: leave it out")
    for stage, blocks in stages:
        for index in range(ratio, len(blocks)):
            for name, layer in blocks[index].named_children():
                source = getattr(blocks[ratio - 1], name, None)
                if type(layer) in _BORROWED and type(layer) is type(source):
                    yield f"{stage}.{index}.{name}", layer, source


def _is_changed(part: nn.Module) -> bool:
    return isinstance(part, Layer) and type(part) not in _BORROWED


def borrowers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers of `model` that own no weight now."""
    for name, part in model.named_modules():
        if isinstance(part, BorrowedLinear | BorrowedConv2d):
            yield name, part


def _borrow(layer: Layer, source: Layer) -> None:
    weight = layer.weight
    del layer.weight
    layer.__class__ = _BORROWED[type(layer)]
    layer.__dict__["source"] = source  # beside the modules: a weight has one name only
    gain = nn.Parameter(torch.rand(1, device=weight.device, dtype=weight.dtype))
    gain.no_decay, gain.kind = True, "gain"  # type: ignore[attr-defined]
    layer.gain = gain


@torch.no_grad()
def _own(layer: Any) -> None:
    product = nn.Parameter(layer.weight * layer.gain)
    product.gains = layer.gain.numel()  # type: ignore[attr-defined]
    del layer.gain, layer.__dict__["source"]
    layer.__class__ = next(plain for plain, borrowed in _BORROWED.items() if type(layer) is borrowed)
    layer.weight = product

"""What members of a round send each other: their own partition up, the merged network down, no byte more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparsepop.bits import pack_bits, unpack_bits
from sparsepop.member import Member, State, Task
from sparsepop.merge.combine import part_of
from sparsepop.merge.owners import owners_of
from sparsepop.methods.partition_grow import growth_of
from sparsepop.recipe import Recipe

_BITS, _SHAPE, _ALIVE = "$bits", "$shape", "$alive"


def parcel(member: Member, rest: str = "first") -> State:
    """What `member` gives to the merge at a round's end, packed: 4 bytes for each weight of its partition,
    what goes with its layers, and a bit a weight for what it was before.
    """
    growth = growth_of(member.recipe)
    owners = owners_of(member.model, growth.partition.groups(member.masks.shapes))
    return pack(part_of(_without_buffers(member), owners, growth.own, rest))


def old_parcel(
    recipe: Recipe,
    task: Task,
    common: State,
    step: int,
    rest: str = "first",
    device: str | torch.device = "cpu",
) -> State:
    """What a member whose round came to nothing gives to the merge after `step`: its partition as it was in
    `common`, the state that all began the round with.
    """
    state = {**common, "step": step, "reported": step, "train_flops": 0.0}
    return parcel(Member.restore(recipe, 0, task, state, device), rest)


def merged_parcel(member: Member) -> State:
    """The merged `member` as everybody receives it: 4 bytes for each alive weight, a bit for each weight,
    everything else in full.
    """
    return pack(_without_buffers(member))


def pack(state: State) -> State:
    """`state` without what can be told from its masks: alive weights alone, booleans as bits, none where all
    are true.
    """
    masks: Mapping[str, Tensor] = state["masks"]["tensors"]
    model = {name: _values(tensor, masks.get(name)) for name, tensor in state["model"].items()}
    packed: State = _packed({**state, "model": model})
    return packed


def unpack(packed: State) -> State:
    """The state that `pack` packed."""
    state: State = _unpacked(packed)
    masks = state["masks"]["tensors"]
    state["model"] = {name: _spread(each, masks.get(name)) for name, each in state["model"].items()}
    return state


def weight_of(packed: Any) -> int:
    """The bytes of all tensors in nested containers."""
    if isinstance(packed, Mapping):
        return sum(weight_of(each) for each in packed.values())
    return packed.numel() * packed.element_size() if isinstance(packed, Tensor) else 0


def is_finite(packed: Any) -> bool:
    """Whether all numbers in nested containers are: not where training has diverged."""
    if isinstance(packed, Mapping):
        return all(map(is_finite, packed.values()))
    return not isinstance(packed, Tensor) or bool(packed.isfinite().all())


def _without_buffers(member: Member) -> State:
    """The state, without optimizer buffers where the next round throws them away."""
    state = member.state()
    if not growth_of(member.recipe).fresh:
        return state
    return {**state, "optimizer": {**state["optimizer"], "buffers": {}}}


def _values(tensor: Tensor, mask: Tensor | None) -> Any:
    if mask is None or bool(mask.all()):
        return tensor
    return {_ALIVE: tensor[mask]}


def _spread(entry: Any, mask: Tensor | None) -> Any:
    if mask is None or not isinstance(entry, Mapping):
        return entry
    values: Tensor = entry[_ALIVE]
    full = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    full[mask] = values
    return full


def _packed(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return {key: _packed(each) for key, each in entry.items()}
    if isinstance(entry, Tensor) and entry.dtype == torch.bool:
        shape = {_SHAPE: list(entry.shape)}
        return shape if bool(entry.all()) else {**shape, _BITS: pack_bits(entry)}
    return entry


def _unpacked(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    if _SHAPE not in entry:
        return {key: _unpacked(each) for key, each in entry.items()}
    if _BITS not in entry:
        return torch.ones(entry[_SHAPE], dtype=torch.bool)
    return unpack_bits(entry[_BITS], entry[_SHAPE])

"""What a round of parallel grow-and-prune sends between machines, in bytes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sparsepop.member import State


def bytes_up(state: State, owners: Mapping[str, int], part: int, rest: str = "first") -> int:
    """What the member that grew partition `part` must give to the merge: the parameters and buffers it owns,
    and its share in those that nobody owns.
    """
    sends_rest = rest == "mean" or part == 0
    model: Mapping[str, Tensor] = state["model"]
    return sum(
        tensor.numel() * tensor.element_size()
        for name, tensor in model.items()
        if owners.get(name, part if sends_rest else -1) == part
    )


def bytes_down(state: State) -> int:
    """What every member needs of the merged state: alive weights, one bit of mask for each prunable weight,
    everything else in full. Optimizer buffers stay where they are: they start anew.
    """
    masks: Mapping[str, Tensor] = state["masks"]["tensors"]
    model: Mapping[str, Tensor] = state["model"]
    full = sum(t.numel() * t.element_size() for name, t in model.items() if name not in masks)
    alive = sum(int(mask.sum()) * model[name].element_size() for name, mask in masks.items())
    return full + alive + -(-sum(mask.numel() for mask in masks.values()) // 8)

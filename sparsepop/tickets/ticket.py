"""A ticket: a finished sparse network, what it is, and where it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Provenance:
    """Where a ticket comes from; all of it may be unknown.

    kind: how it came about (`member`, `early` from one in mid-training, or how several were superposed);
    lineage: (member, from step, to step) of the weights, oldest first, none where a population merged those
    of several; parents: the tickets it was made of; recipe: as JSON; ledger: what it costs (`Report`'s alive,
    train_flops, inference_flops, ...); metrics: what it scored; time: ISO 8601; located: the data as the
    experiment opened it, a folder's whole path where `data` is the last part of it (empty in older tickets).
    """

    kind: str = "member"
    experiment: str = ""
    data: str = ""
    member: int | None = None
    step: int | None = None
    lineage: tuple[tuple[int, int, int], ...] = ()
    parents: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    ledger: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    time: str = ""
    located: str = ""

    @property
    def owner(self) -> str:
        """16 hexadecimal digits of who came to the network, when, and how: equal however often it is told,
        whatever that cost and scored.
        """
        who = [self.kind, self.experiment, self.data, self.member, self.step, list(self.parents)]
        return hashlib.sha256(json.dumps(who).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Ticket:
    """The network `model` for images of `shape` (C, H, W) in `classes` classes, on the CPU.

    masks: boolean, by the name of the prunable weight; weights: the alive values of each of these, flat, in
    memory order; others: everything else in the network's state dict. shared: weights that are another one's
    times a gain, each with the name of that other (`ShareWeights`); only the other is held, the gain is among
    the `others`. Two tickets are the same when their networks are: `id` depends on nothing else, so not on
    the provenance. Raises ValueError where masks and weights do not fit together.
    """

    model: str
    shape: tuple[int, int, int]
    classes: int
    masks: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    others: Mapping[str, Tensor]
    provenance: Provenance = field(default_factory=Provenance)
    shared: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.masks.keys() != self.weights.keys():
            odd = sorted(self.masks.keys() ^ self.weights.keys())[0]
            raise ValueError(f"{odd} has only one of mask and weights: give both")
        for name, count in self.counts.items():
            if self.weights[name].shape != (count,):
                raise ValueError(
                    f"{name} has {count} alive weights and {tuple(self.weights[name].shape)} values"
                )

    @cached_property
    def counts(self) -> dict[str, int]:
        """Alive weights by layer, of those that are held."""
        return {name: int(mask.sum()) for name, mask in self.masks.items()}

    @property
    def alive(self) -> int:
        """Alive weights; one that several layers use counts once, as in reports."""
        return sum(self.counts.values())

    @property
    def total(self) -> int:
        """Prunable weights of the full network, in which no layer shares any."""
        return sum(mask.numel() for mask in self.plain_masks().values())

    @property
    def density(self) -> float:
        return self.alive / self.total

    @property
    def finite(self) -> bool:
        """Whether all its numbers are: not where training has diverged."""
        return all(bool(value.isfinite().all()) for value in (*self.weights.values(), *self.others.values()))

    @cached_property
    def id(self) -> str:
        """32 hexadecimal digits, equal for equal networks whatever file format holds them."""
        about: list[Any] = [self.model, list(self.shape), self.classes]
        if self.shared:  # ids from before there was sharing stay what they are
            about.append(sorted(self.shared.items()))
        sha = hashlib.sha256(json.dumps(about).encode())
        for kind, tensors in (("mask", self.masks), ("weight", self.weights), ("other", self.others)):
            for name in sorted(tensors):
                array = to_array(tensors[name])
                sha.update(json.dumps([kind, name, array.dtype.str, list(array.shape)]).encode())
                sha.update((np.packbits(array) if kind == "mask" else array).tobytes())
        return sha.hexdigest()[:32]

    def state(self) -> dict[str, Tensor]:
        """The plain network's state dict, dead weights as zeros; copies."""
        held = self.held()
        gains = {name: held.pop(f"{name.removesuffix('weight')}gain") for name in self.shared}
        return held | {name: held[owner] * gains[name] for name, owner in self.shared.items()}

    def held(self) -> dict[str, Tensor]:
        """What the ticket holds as a state dict, dead weights as zeros: that of the network that shares its
        weights, where it does; copies.
        """
        others = {name: value.clone() for name, value in self.others.items()}
        return others | {name: self.dense(name) for name in self.masks}

    def plain_masks(self) -> dict[str, Tensor]:
        """The masks of the plain network: a shared weight's at every use."""
        uses = {name: self.masks[owner] for name, owner in self.shared.items() if owner in self.masks}
        return {**self.masks, **uses}

    def dense(self, name: str) -> Tensor:
        """One prunable weight, dead entries as zeros; a copy."""
        mask = self.masks[name]
        weight = torch.zeros(mask.shape, dtype=self.weights[name].dtype)
        weight[mask] = self.weights[name]
        return weight


def to_array(tensor: Tensor) -> np.ndarray:
    """A tensor as a numpy array in little-endian order; ValueError for a type that numpy does not know."""
    try:
        array = tensor.detach().cpu().contiguous().numpy()
    except TypeError as error:
        raise ValueError(f"a ticket cannot hold {tensor.dtype}: train in float32 or float64") from error
    return array.astype(array.dtype.newbyteorder("<"), copy=False)

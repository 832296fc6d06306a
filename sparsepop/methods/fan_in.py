"""A floor under the number of alive inputs of every output unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sparsepop.masks import prunable_names, top_mask
from sparsepop.methods.base import Method
from sparsepop.methods.scores import Score, gradient, noise

if TYPE_CHECKING:
    from sparsepop.member import Member


@dataclass(frozen=True)
class MinFanIn(Method):
    """Give every output unit of `layers` (default: the classifier, the model's last layer) at least `least`
    alive weights, by moving weights within the layer: no count changes. Stands after the methods that change
    masks.

    At extreme sparsity whole classes lose their last weight otherwise: of the 51,200 classifier weights of a
    ResNet-34 for 100 classes some 140 are left at 99.99%. New weights go where the gradient is largest, or
    anywhere while there is none; the smallest of units with more than `least` make room. No paper has it. A
    layer's dense gradient is booked where it is used. A `Superpose` at the end ranks its average without
    regard to it. ValueError where a layer has too few weights alive for all of its units, the classifier is
    kept dense and no `layers` are named, or masks are only observed to the end.
    """

    least: int = 1
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.least < 1:
            raise ValueError(
                f"the smallest fan-in must be at least 1, got {self.least}: leave it out for none"
            )

    def start(self, member: Member) -> None:
        recipe = member.recipe
        if recipe.masks_hold_from >= recipe.steps:
            raise ValueError(f"MinFanIn needs masks that hold at {recipe.without_masks(recipe.steps - 1)}")
        if self._due(member):
            self._repair(member, noise(member, "fan-in"))

    def after_backward(self, member: Member) -> None:
        if self._due(member):
            member.count_dense_gradients(self._repair(member, gradient))

    def after_step(self, member: Member) -> None:
        if self._due(member):
            self._repair(member, noise(member, "fan-in"))

    def _due(self, member: Member) -> bool:
        # masks that are only observed are a soft method's, which takes them anew at the next report
        masks = member.masks
        return masks.enforced and member.memory_of(self).get("version") != masks.version

    def _repair(self, member: Member, score: Score) -> list[str]:
        """Returns the layers in which a weight was grown."""
        masks, grown = member.masks, []
        new = {}
        for name in self.layers or [_classifier(member)]:
            if name not in masks.params:
                raise ValueError(
                    f"no prunable layer is called {name!r}: use one of {', '.join(masks.params)}"
                )
            param = masks.params[name]
            self._check(name, param, masks.counts[name])
            new[name] = spread_out(param, masks.tensors[name], score(param), self.least)
            if not torch.equal(new[name], masks.tensors[name]):
                grown.append(name)
        masks.set(new, member.optimizer)
        member.memory_of(self)["version"] = masks.version
        return grown

    def _check(self, name: str, param: nn.Parameter, alive: int) -> None:
        units, inputs = len(param), param[0].numel()
        if alive < self.least * units or inputs < self.least:
            raise ValueError(
                f"{name} has {alive} weights alive, {inputs} inputs and {units} units, too few for a fan-in "
                f"of {self.least}: raise the density or choose other layers"
            )


def _classifier(member: Member) -> str:
    dense = set(member.recipe.keep_dense) & set(prunable_names(member.model))
    known = member.masks.params.keys() | dense
    names = [name for name, _ in member.model.named_parameters() if name in known]
    if names[-1] in dense:
        raise ValueError(
            f"the classifier {names[-1]} is kept dense, so each of its units has all its weights: name the "
            "`layers` that shall have a smallest fan-in, or leave MinFanIn out"
        )
    return names[-1]


@torch.no_grad()
def spread_out(weight: Tensor, mask: Tensor, score: Tensor, least: int) -> Tensor:
    """`mask` (outputs, ...) with as many alive, at least `least` in each row: short rows take their dead
    weights of the largest `score`, the smallest weights of the others go.
    """
    rows = mask.flatten(1)
    short = (least - rows.sum(1, keepdim=True)).clamp(min=0)
    grown = _rank(score.flatten(1).masked_fill(rows, -1.0)) < short
    spare = rows & (_rank(weight.abs().flatten(1).masked_fill(~rows, -1.0)) >= least)
    left = int(spare.sum()) - int(grown.sum())
    kept = top_mask(weight.abs().flatten(1), left, spare)
    return ((rows & ~spare) | kept | grown).view_as(mask)


def _rank(score: Tensor) -> Tensor:
    """The place of each entry in its row, 0 for the largest."""
    return score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)

"""Coefficients of a penalty: one learnable number beside each penalised weight.

They are parameters of the weights' shapes, registered on the layer that holds the weight (`conv1.weight` has
`conv1.weight_coefficient`), so whatever moves, copies, saves or reduces the weight does the same with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparsepop.schedule import Schedule

if TYPE_CHECKING:
    from sparsepop.member import Member

SUFFIX = "_coefficient"
Penalised = Iterator[tuple[nn.Module, str, nn.Parameter]]


def penalised(model: nn.Module, names: Iterable[str], biases: bool) -> Penalised:
    """(layer, attribute, parameter) of the weights called `names` and, with `biases`, of their layers'
    biases; each parameter once.
    """
    seen: set[int] = set()
    for name in names:
        owner, _, attribute = name.rpartition(".")
        layer = model.get_submodule(owner)
        for each in (attribute, "bias") if biases else (attribute,):
            param = getattr(layer, each, None)
            if isinstance(param, nn.Parameter) and id(param) not in seen:
                seen.add(id(param))
                yield layer, each, param


def parameters(model: nn.Module, names: Iterable[str], biases: bool) -> list[nn.Parameter]:
    """The penalised parameters alone."""
    return [param for _, _, param in penalised(model, names, biases)]


def attach(
    model: nn.Module,
    names: Sequence[str],
    biases: bool,
    initial: float,
    decay: float | None,
    lr_factor: float | Schedule,
) -> None:
    """Put coefficients of value `initial` beside the penalised parameters; ValueError where there are some.

    They are weight-decayed whatever their shape, at the rate `decay` (None: the optimizer's).
    """
    for layer, attribute, param in list(penalised(model, names, biases)):
        if hasattr(layer, attribute + SUFFIX):
            raise ValueError(f"{attribute} already has coefficients: use one method of this kind in a recipe")
        coefficient = nn.Parameter(torch.full_like(param, initial, requires_grad=False))
        layer.register_parameter(attribute + SUFFIX, mark(coefficient, decay, lr_factor))


def mark(coefficient: nn.Parameter, decay: float | None, lr_factor: float | Schedule) -> nn.Parameter:
    """Say how a coefficient learns and what the ledger calls it; returns it."""
    settings: dict[str, Any] = {"kind": "coefficient", "no_decay": False, "no_clip": True}
    settings |= {"lr_factor": lr_factor} | ({} if decay is None else {"decay": decay})
    for name, value in settings.items():
        setattr(coefficient, name, value)
    return coefficient


def pairs(model: nn.Module, names: Iterable[str]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Penalised parameters and, in the same order, their coefficients; empty once they are detached."""
    found = [
        (param, coefficient)
        for layer, attribute, param in penalised(model, names, biases=True)
        if (coefficient := getattr(layer, attribute + SUFFIX, None)) is not None
    ]
    return [param for param, _ in found], [coefficient for _, coefficient in found]


def detach(model: nn.Module) -> bool:
    """Take all coefficients out of `model`; returns whether there were any."""
    found = [
        (part, name)
        for part in model.modules()
        for name, _ in list(part.named_parameters(recurse=False))
        if name.endswith(SUFFIX)
    ]
    for part, name in found:
        delattr(part, name)
    return bool(found)


def follow(member: Member, state: Mapping[str, Any], attach_again: Callable[[], None]) -> None:
    """Give `member` coefficients where `state` was taken with them, and take them away where without."""
    ours, theirs = (
        any(name.endswith(SUFFIX) for name in names) for names in (member.model.state_dict(), state["model"])
    )
    if theirs and not ours:
        attach_again()
    elif ours and not theirs:
        detach(member.model)
    if ours != theirs:
        member.rewire()


@torch.no_grad()
def keep_above(floor: float, coefficients: Iterable[Tensor]) -> None:
    """Set what is closer to 0 than `floor` to it, on its own side of 0."""
    for coefficient in coefficients:
        torch.copysign(coefficient.abs().clamp_(min=floor), coefficient, out=coefficient)

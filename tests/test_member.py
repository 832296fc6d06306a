"""Members whose parameters change while they train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparsepop.member import Member
from sparsepop.methods import Method, static
from sparsepop.recipe import Recipe
from tests.cases import CASES, TASK, run

UNTIL = 3


class Shifted(nn.Linear):
    """A linear layer with one learnable number more."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, device=layer.weight.device)
        self.load_state_dict(layer.state_dict())
        self.shift = nn.Parameter(torch.zeros(1, device=layer.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.shift


@dataclass(frozen=True)
class Passing(Method):
    """Gives the last layer a parameter that is gone after `UNTIL` steps."""

    def surgery(self, model: nn.Module, names: Sequence[str]) -> None:
        model[-1] = Shifted(model[-1])  # type: ignore[operator,index]

    def adapt(self, member: Member, state: Mapping[str, Any]) -> None:
        if state["step"] >= UNTIL:
            self.plain(member)

    def after_step(self, member: Member) -> None:
        if member.step == UNTIL:
            self.plain(member)

    def plain(self, member: Member) -> None:
        last = member.model[-1]  # type: ignore[index]
        del last.shift
        last.__class__ = nn.Linear
        member.rewire()


def recipe() -> Recipe:
    return replace(CASES["static"].recipe, model="lenet-300-100", methods=(*static(0.1), Passing()))


def test_parameters_that_go_are_forgotten_and_the_others_keep_their_momentum() -> None:
    member = run(Member.build(recipe(), 1, TASK), UNTIL - 1)
    shift = member.model[-1].shift  # type: ignore[index]
    assert member.optimizer.state[shift]["momentum_buffer"] != 0
    run(member, 1)
    held = [p for group in member.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in member.model.parameters()}
    assert all(id(p) != id(shift) for p in [*held, *member.optimizer.state])
    assert all("momentum_buffer" in member.optimizer.state[p] for p in held)


def test_a_state_goes_into_the_modules_that_it_was_taken_from() -> None:
    for steps in (UNTIL - 1, UNTIL + 1):
        donor = run(Member.build(recipe(), 1, TASK), steps)
        receiver = Member.restore(recipe(), 1, TASK, donor.state())
        run(donor, 3)
        run(receiver, 3)
        twins = zip(donor.model.state_dict().values(), receiver.model.state_dict().values(), strict=True)
        assert all(torch.equal(one, other) for one, other in twins)

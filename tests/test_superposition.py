"""One state out of several members': averages, exact counts, and what stays that of the best."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from sparsepop.member import Member, State
from sparsepop.merge import superpose_states
from sparsepop.methods import Explored, ShareWeights, rigl
from sparsepop.optim import SGD, AdamW
from sparsepop.overlaps import density_of
from sparsepop.recipe import Recipe
from tests.cases import BATCH, STEPS, TASK, Toy, run
from tests.test_contract import shipped

RECIPE = Recipe("wrn-10-1", STEPS, (*rigl(0.1, STEPS, interval=2), Explored()), SGD(0.1, momentum=0.9), BATCH)
SCORES = (0.1, 0.2, 0.3)


def trained(recipe: Recipe = RECIPE, seeds: tuple[int, ...] = (1, 2, 3), steps: int = 6) -> list[State]:
    """Members that part at their first step."""
    common = deepcopy(Member.build(recipe, 0, TASK).state())
    members = [Member.restore(recipe, seed, TASK, common) for seed in seeds]
    return [deepcopy(run(member, steps).state()) for member in members]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_average_is_pruned_back_to_the_exact_count(scope: str) -> None:
    states = trained()
    before = deepcopy(states)
    member, told = superpose_states(RECIPE, TASK, states, SCORES, Toy(), scope=scope, batches=2)
    counts = {name: int(mask.sum()) for name, mask in states[-1]["masks"]["tensors"].items()}
    assert member.masks.alive == sum(counts.values())
    if scope == "layer":
        assert member.masks.counts == counts
    union = {
        name: torch.stack([state["masks"]["tensors"][name] for state in states]).any(0) for name in counts
    }
    assert told.union_density == pytest.approx(density_of(union))
    for name, mask in member.masks.tensors.items():
        assert not (mask & ~union[name]).any()
        mean = torch.stack([state["model"][name] for state in states]).mean(0)
        torch.testing.assert_close(member.model.state_dict()[name], mean * mask)
        momenta = [state["optimizer"]["buffers"][name]["momentum_buffer"] for state in states]
        kept = member.state()["optimizer"]["buffers"][name]["momentum_buffer"]
        torch.testing.assert_close(kept, torch.stack(momenta).mean(0) * mask)
    assert told.numbers()["networks"] == 3.0
    assert told.numbers()["members"] == pytest.approx(0.2)
    assert sum(told.sources.values()) == pytest.approx(1.0)
    assert told.flops > 0
    for state, old in zip(states, before, strict=True):
        assert all(torch.equal(value, old["model"][name]) for name, value in state["model"].items())


def test_what_has_no_average_is_that_of_the_last() -> None:
    states = trained()
    member, _ = superpose_states(RECIPE, TASK, states, SCORES, Toy())
    assert shipped(member.state()["memory"]) == shipped(states[-1]["memory"]) != shipped(states[0]["memory"])
    assert (member.step, member.reported) == (states[-1]["step"], states[-1]["reported"])


def test_densities_are_shares_of_the_full_network() -> None:
    methods = (ShareWeights(), *rigl(0.1, STEPS, interval=2))
    recipe = replace(RECIPE, model="residual-mlp", methods=methods)
    (state,) = trained(recipe, seeds=(1,), steps=2)
    member, told = superpose_states(recipe, TASK, [state, state], SCORES[:2], Toy())
    assert told.union_density == member.masks.density == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("average", ["caa", "cima"])
def test_equal_members_are_what_each_of_them_is(average: str) -> None:
    (state,) = trained(seeds=(1,))
    member, told = superpose_states(RECIPE, TASK, [state] * 3, SCORES, Toy(), average=average)
    assert all(torch.equal(value, state["model"][n]) for n, value in member.model.state_dict().items())
    assert all(torch.equal(mask, state["masks"]["tensors"][n]) for n, mask in member.masks.tensors.items())
    assert told.overlap == 1.0
    assert told.union_density == pytest.approx(member.masks.density)
    assert told.sources["from_3"] == 1.0


def test_a_moving_average_gives_the_last_its_share() -> None:
    states = trained(seeds=(1, 2))
    given = {"average": "cima", "factor": 0.75}
    member, _ = superpose_states(RECIPE, TASK, states, SCORES[:2], Toy(), **given)  # type: ignore[arg-type]
    for name, mask in member.masks.tensors.items():
        wanted = 0.25 * states[0]["model"][name] + 0.75 * states[1]["model"][name]
        torch.testing.assert_close(member.model.state_dict()[name], wanted * mask)


def test_members_with_other_buffers_begin_without() -> None:
    adam = replace(RECIPE, optimizer=AdamW(1e-3))
    states = [*trained(adam, (1,)), *trained(seeds=(2,))]
    member, _ = superpose_states(RECIPE, TASK, states, SCORES[:2], Toy())
    assert not any(member.state()["optimizer"]["buffers"].values())


def test_other_networks_have_no_average() -> None:
    other = replace(RECIPE, model="wrn-10-2")
    with pytest.raises((ValueError, RuntimeError)):
        superpose_states(RECIPE, TASK, [*trained(other, (1,)), *trained(seeds=(2,))], SCORES[:2], Toy())


def test_a_collapse_is_told() -> None:
    _, told = superpose_states(RECIPE, TASK, trained(), (0.9, 0.9, 0.9), Toy())
    assert told.collapsed
    assert told.numbers()["collapsed"] == 1.0

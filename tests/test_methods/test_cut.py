"""The cut to an exact density, after soft methods, hard ones and none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsepop.averaging import fresh_statistics, recalibrate_member
from sparsepop.budgets import allocate
from sparsepop.masks import Masks
from sparsepop.member import Member
from sparsepop.methods import Cut, Halo, Method, Static, Thresholds
from sparsepop.methods.cut import exact_masks
from sparsepop.methods.harden import harden
from sparsepop.optim import SGD, AdamW
from sparsepop.outputs import evaluate, own_part
from sparsepop.recipe import Recipe
from sparsepop.search.merged import FRESH
from sparsepop.train import train
from tests.cases import BATCH, TASK, Toy, run
from tests.test_methods.small import NAME, alive, eight, push, weights


@dataclass(frozen=True)
class Below(Method):
    """A soft method: the mask that it observes is of the weights larger than `size`."""

    size: float
    soft: ClassVar[bool] = True

    def start(self, member: Member) -> None:
        member.masks.enforced = False

    def harden(self, member: Member) -> None:
        masks = member.masks
        masks.set({name: param.detach() > self.size for name, param in masks.params.items()})
        member.memory_of(self)["hardened"] = member.memory_of(self).get("hardened", 0) + 1


def masked(layers: Mapping[str, tuple[list[float], list[int]]]) -> Masks:
    """Masks over vectors of weights, alive where 1, that are only observed."""
    masks = Masks({name: nn.Parameter(torch.tensor(values)) for name, (values, _) in layers.items()})
    masks.enforced = False
    masks.set({name: torch.tensor(bits).bool() for name, (_, bits) in layers.items()})
    return masks


def bits(found: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: mask.int().tolist() for name, mask in found.items()}


# --- which weights


def test_the_largest_of_those_alive_stay() -> None:
    masks = masked({"a": ([9.0, -3.0, 1.0, 2.0], [0, 1, 1, 1]), "b": ([5.0, -6.0, 0.5, 4.0], [1, 1, 1, 0])})
    assert bits(exact_masks(masks, 0.375, "global")) == {"a": [0, 1, 0, 0], "b": [1, 1, 0, 0]}


def test_the_largest_pruned_come_back_where_too_few_are_alive() -> None:
    masks = masked({"a": ([9.0, -3.0, 1.0, 2.0], [0, 0, 1, 0]), "b": ([5.0, -6.0, 0.5, 4.0], [0, 0, 1, 0])})
    assert bits(exact_masks(masks, 0.5, "global")) == {"a": [1, 0, 1, 0], "b": [0, 1, 1, 0]}


def test_every_layer_keeps_its_largest_and_an_empty_one_gets_it_back() -> None:
    masks = masked({"a": ([0.1, -0.3, 0.2, 0.0], [1, 0, 1, 0]), "b": ([5.0, -6.0, 7.0, 4.0], [1, 1, 1, 1])})
    assert bits(exact_masks(masks, 0.25, "global")) == {"a": [0, 0, 1, 0], "b": [0, 0, 1, 0]}
    masks = masked({"a": ([0.1, -0.3, 0.2, 0.0], [0, 0, 0, 0]), "b": ([5.0, -6.0, 7.0, 4.0], [0, 1, 0, 1])})
    assert bits(exact_masks(masks, 0.375, "global")) == {"a": [0, 1, 0, 0], "b": [0, 1, 0, 1]}
    assert bits(exact_masks(masks, 0.5, "global")) == {"a": [0, 1, 0, 0], "b": [0, 1, 1, 1]}


@pytest.mark.parametrize("scope", ["uniform", "er", "erk"])
def test_a_distribution_gives_each_layer_its_count(scope: str) -> None:
    torch.manual_seed(0)
    masks = Masks({"a": nn.Parameter(torch.randn(6, 5)), "b": nn.Parameter(torch.randn(10, 8))})
    masks.enforced = False
    masks.set({"a": masks.params["a"].abs() > 1.5, "b": masks.params["b"].abs() > 0.1})
    found = exact_masks(masks, 0.3, scope)
    wanted = allocate(masks.shapes, 0.3, scope)
    assert {name: int(mask.sum()) for name, mask in found.items()} == wanted
    for name, mask in found.items():
        size = masks.params[name].abs()
        assert not (found[name] & ~masks.tensors[name]).any() or (mask | ~masks.tensors[name]).all()
        kept_alive, left = size[mask & masks.tensors[name]], size[masks.tensors[name] & ~mask]
        assert left.numel() == 0 or kept_alive.min() > left.max()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**30),
    density=st.floats(0.05, 1.0),
    share=st.floats(0.0, 1.0),
    scope=st.sampled_from(["global", "erk", "uniform"]),
)
def test_counts_are_exact_and_alive_weights_go_first(
    seed: int, density: float, share: float, scope: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (5, 7), "b": (3, 4, 2, 2), "c": (30, 2)}
    # few values, so that there are ties
    params = {
        n: nn.Parameter(torch.randint(-3, 4, s, generator=generator).float()) for n, s in shapes.items()
    }
    masks = Masks(params)
    masks.enforced = False
    masks.set({name: torch.rand(shape, generator=generator) < share for name, shape in shapes.items()})
    found = exact_masks(masks, density, scope)
    assert sum(int(mask.sum()) for mask in found.values()) == round(density * masks.total)
    assert all(mask.any() for mask in found.values())
    if scope == "global":
        emptied = sum(count == 0 for count in masks.counts.values())
        back = sum(int((mask & ~masks.tensors[name]).sum()) for name, mask in found.items())
        assert back == max(emptied, round(density * masks.total) - masks.alive)


# --- when, and what happens to the member


def test_before_the_cut_nothing_is_pruned_and_after_it_masks_stay() -> None:
    member = eight(Cut(0.25, 2))
    push(member, [0.0] * 8)
    assert alive(member) == list(range(8))
    push(member, [0.0] * 8)
    assert alive(member) == [6, 7]
    push(member, [-9.0] * 8)
    assert alive(member) == [6, 7]
    assert weights(member)[:6].tolist() == [0.0] * 6


def test_a_soft_phase_ends_once_and_pruned_weights_may_come_back_with_their_values() -> None:
    member = eight(Below(7.5), Cut(0.375, 2), optimizer=SGD(0.1, momentum=0.0))
    assert not member.masks.enforced
    push(member, [0.0] * 8)
    assert weights(member).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    push(member, [0.0] * 8)
    assert member.masks.enforced
    assert alive(member) == [5, 6, 7]
    assert weights(member).tolist() == [0.0] * 5 + [6.0, 7.0, 8.0]
    push(member, [1.0] * 8)
    assert weights(member).tolist() == pytest.approx([0.0] * 5 + [5.9, 6.9, 7.9])
    for method in reversed(member.recipe.methods):
        method.finish(member, Toy())
    assert member.memory_of(member.recipe.methods[0]) == {"hardened": 1}


def test_the_report_tells_what_the_cut_found() -> None:
    member = eight(Below(7.5), Cut(0.375, 1))
    push(member, [0.0] * 8)
    (note,) = member.take_notes()
    assert (note.kind, note.step, dict(note.numbers)) == ("cut", 1, {"found": 0.125, "density": 0.375})


def test_momentum_stays_where_weights_do() -> None:
    member = eight(Below(3.5), Cut(0.5, 2), optimizer=AdamW(1e-3))
    push(member, [1.0] * 8)
    push(member, [1.0] * 8)
    for key in ("exp_avg", "exp_avg_sq"):
        buffer = member.optimizer.state[member.masks.params[NAME]][key].flatten()
        assert not buffer[:4].any()
        assert buffer[4:].all()
    assert member.optimizer.state[member.masks.params[NAME]]["step"] == 2


def test_hardening_without_a_cut_keeps_the_observed_masks() -> None:
    member = eight(Below(2.5))
    harden(member)
    assert alive(member) == [2, 3, 4, 5, 6, 7]
    assert weights(member)[:2].tolist() == [0.0, 0.0]
    harden(member)
    assert member.memory_of(member.recipe.methods[0]) == {"hardened": 1}


@pytest.mark.parametrize("soft", [(), (Thresholds(1e-4),)])
def test_a_report_where_it_cuts_scores_what_is_left_with_its_own_statistics(soft: tuple[Method, ...]) -> None:
    recipe = Recipe("wrn-10-1", 80, (*soft, Cut(0.05, 2)), batch=BATCH)
    member, plain = (Member.build(recipe, 0, TASK) for _ in range(2))
    (at_cut,) = train(member, Toy(), every=2, until=2)
    (later,) = train(member, Toy(), every=40, until=40)
    run(plain, 2)
    stale = evaluate(plain, own_part(plain, Toy(), "validation"))
    with fresh_statistics(plain, Toy()):
        fresh = evaluate(plain, own_part(plain, Toy(), "validation"))
    assert at_cut.validation == fresh != stale
    run(plain, 38)
    assert later.validation == evaluate(plain, own_part(plain, Toy(), "validation"))


def test_a_cut_at_the_last_step_is_the_final_density() -> None:
    recipe = Recipe("lenet-300-100", 4, (Static(0.5), Cut(0.05, 4)), batch=BATCH)
    *_, report = train(Member.build(recipe, 1, TASK), Toy(), every=2)
    assert report.alive == round(0.05 * report.prunable)
    assert report.test is not None


@pytest.mark.parametrize("soft", [(), (Thresholds(1e-4),)])
def test_a_network_that_is_cut_at_the_end_has_statistics_of_its_own(soft: tuple[Method, ...]) -> None:
    recipe = Recipe("wrn-10-1", 2, (*soft, Cut(0.05, 2)), batch=BATCH)
    member, plain = (Member.build(recipe, 0, TASK) for _ in range(2))
    (report,) = train(member, Toy(), every=2)
    run(plain, 2)
    recalibrate_member(plain, Toy(), FRESH)
    assert report.test == evaluate(plain, own_part(plain, Toy(), "test"))
    assert report.train_flops == plain.train_flops


def test_weights_grown_by_a_cut_after_hard_masks_start_at_zero() -> None:
    recipe = Recipe("lenet-300-100", 4, (Static(0.1), Cut(0.2, 2)), batch=BATCH)
    member = run(Member.build(recipe, 1, TASK), 1)
    before = {name: mask.clone() for name, mask in member.masks.tensors.items()}
    run(member, 1)
    for name, mask in member.masks.tensors.items():
        assert not (before[name] & ~mask).any()
        assert not member.masks.params[name][mask & ~before[name]].any()
    assert member.masks.alive == round(0.2 * member.masks.total)


@pytest.mark.parametrize("soft", [(), (Thresholds(0.05),), (Halo(1e-5, 1e-3),)], ids=["dense", "dst", "halo"])
def test_who_takes_over_a_state_from_before_its_cut_cuts_at_the_next_step(soft: tuple[Method, ...]) -> None:
    early, late = (Recipe("lenet-300-100", 12, (*soft, Cut(0.1, at)), batch=BATCH) for at in (5, 8))
    member = Member.restore(early, 2, TASK, run(Member.build(late, 1, TASK), 6).state())
    run(member, 1)
    assert [note.kind for note in member.take_notes()] == ["cut"]
    assert member.masks.enforced
    assert member.masks.alive == round(0.1 * member.masks.total)


def test_who_takes_over_a_state_that_is_cut_does_not_cut_again() -> None:
    early, late = (Recipe("lenet-300-100", 12, (Cut(0.1, at),), batch=BATCH) for at in (5, 8))
    donor = run(Member.build(early, 1, TASK), 6)
    donor.take_notes()
    member = Member.restore(late, 2, TASK, donor.state())
    assert not run(member, 6).take_notes()
    assert member.masks.alive == round(0.1 * member.masks.total)


# --- values


def test_bad_values_are_refused_before_training() -> None:
    with pytest.raises(ValueError, match="a cut comes after a step, got at=0"):
        Cut(0.1, 0)
    with pytest.raises(ValueError, match=r"density must lie in \(0, 1\], got 0.0"):
        Cut(0.0, 5)
    with pytest.raises(ValueError, match="unknown scope 'layers'"):
        Cut(0.1, 5, "layers")
    with pytest.raises(ValueError, match="Cut settles at step 5, after the last step 4"):
        Recipe("lenet-300-100", 4, (Cut(0.1, 5),))
    with pytest.raises(ValueError, match="layers"):
        Member.build(Recipe("wrn-10-1", 9, (Cut(1e-5, 5),)), 0, TASK)

"""Drop and grow: RigL and SET on eight weights by hand, exact counts, and what a grown weight starts with."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsepop.member import Member
from sparsepop.methods import DropGrow, Static, rigl, sparse_evolution
from sparsepop.methods.drop_grow import drop_and_grow
from sparsepop.optim import SGD, AdamW
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Every, Linear
from tests.cases import BATCH, TASK, Toy, run
from tests.test_methods.small import NAME, alive, assign, eight, push, weights

WEIGHTS = [0.1, -0.2, 0.3, -0.4, 0.0, 0.0, 0.0, 0.0]
ALIVE = [0, 1, 2, 3]
GRADIENT = [5.0, 0.0, 9.0, 9.0, 2.0, -8.0, 3.0, 7.0]

ALWAYS = Every(1)
OPTIMIZERS = {"sgd": SGD(0.1, weight_decay=5e-4), "adamw": AdamW(0.01)}


# --- RigL by hand (Evci et al. 2020, algorithm 1)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.0, [0, 1, 2, 3]),
        (0.24, [0, 1, 2, 3]),  # int(0.96) weights
        (0.25, [1, 2, 3, 5]),  # drops 0, grows 5
        (0.5, [2, 3, 5, 7]),  # drops 0 and 1, grows 5 and 7
        (0.75, [2, 3, 5, 7]),  # drops 0, 1 and 2; 2 has the largest gradient and comes back, before 5 and 7
    ],
)
def test_rigl_on_eight_weights(fraction: float, expected: list[int]) -> None:
    member = eight(DropGrow(0.5, fraction, ALWAYS))
    assign(member, WEIGHTS, ALIVE)
    push(member, GRADIENT)
    assert alive(member) == expected


def test_the_sign_of_neither_weight_nor_gradient_counts() -> None:
    member = eight(DropGrow(0.5, 0.5, ALWAYS))
    assign(member, [-w for w in WEIGHTS], ALIVE)
    push(member, [-g for g in GRADIENT])
    assert alive(member) == [2, 3, 5, 7]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_grown_are_the_top_k_gradients_among_the_dead(count: int) -> None:
    gradient = [0.0] * 4 + [1.0, 4.0, 2.0, 3.0]
    member = eight(DropGrow(0.5, count / 4, ALWAYS))
    assign(member, WEIGHTS, ALIVE)
    push(member, gradient)
    best = sorted(range(8), key=lambda i: -gradient[i])[:count]
    assert set(alive(member)) == set(ALIVE[count:]) | set(best)


def test_the_number_of_drops_is_rounded_down_from_the_survivors() -> None:
    mask = torch.arange(100) < 30
    new = drop_and_grow(torch.arange(100.0, 0, -1), mask, torch.arange(100.0), 30, 30, 0.119)
    assert int((mask & ~new).sum()) == 3


def test_a_layer_of_few_weights_explores_where_their_number_is_rounded_up() -> None:
    """The ITOP family's code: ceil(a n), of 4 and of 30."""
    gradient = [0.0] * 4 + [1.0, 4.0, 2.0, 3.0]
    for fraction, up, gone in ((0.1, False, 0), (0.1, True, 1), (0.5, True, 2), (0.0, True, 0)):
        member = eight(DropGrow(0.5, fraction, ALWAYS, up=up))
        assign(member, WEIGHTS, ALIVE)
        push(member, gradient)
        assert set(ALIVE) - set(alive(member)) == set(ALIVE[:gone])
    mask = torch.arange(100) < 30
    new = drop_and_grow(torch.ones(100), mask, torch.arange(100.0), 30, 30, 0.1, up=True)
    assert int((mask & ~new).sum()) == 3


def test_near_dense_layers_replace_as_many_as_there_is_room_for() -> None:
    member = eight(DropGrow(7 / 8, 0.9, ALWAYS))
    assign(member, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.0], range(7))
    push(member, [0.0] * 7 + [1.0])
    assert alive(member) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_gradients_that_are_all_zero_leave_the_count_as_it_is(optimizer: SGD | AdamW) -> None:
    member = eight(DropGrow(0.5, 0.5, ALWAYS), optimizer=optimizer)
    for _ in range(5):
        push(member, [0.0] * 8)
        assert len(alive(member)) == member.masks.alive == 4


def test_no_gradient_counts_as_zero() -> None:
    member = eight(DropGrow(0.5, 0.5, ALWAYS))
    member.masks.params[NAME].grad = None
    member.recipe.methods[0].after_backward(member)
    assert len(alive(member)) == 4


# --- what an update does to weights and optimizer


def buffers(member: Member) -> dict[str, Tensor]:
    state = member.optimizer.state[member.masks.params[NAME]]
    flat = {key: value.flatten().clone() for key, value in state.items() if value.numel() == 8}
    return {**flat, "weight": weights(member).clone()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_only_new_and_dropped_weights_are_touched(optimizer: SGD | AdamW) -> None:
    member = eight(DropGrow(0.5, 0.5, Every(100, begin=3)), optimizer=optimizer)
    assign(member, WEIGHTS, ALIVE)
    for _ in range(3):
        push(member, [1e-3, 1e-3, -1e-3, 1e-3, 1, 1, 1, 1])
    before = buffers(member)
    # drops 0 and 1; grows 1 again, which it never left, and 6
    member.masks.params[NAME].grad = torch.tensor([[0.0, 9.0, 1.0, 1.0, 0.0, 0.0, 8.0, 0.0]])
    member.recipe.methods[0].after_backward(member)
    assert alive(member) == [1, 2, 3, 6]
    stayed, gone = torch.tensor([1, 2, 3]), torch.tensor([0, 4, 5, 7])
    for key, after in buffers(member).items():
        assert torch.equal(after[stayed], before[key][stayed])
        assert before[key][stayed].all()
        assert not after[gone].any()
        assert (after[6] == 0) == (key != "exp_avg_sq")


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_step_of_an_update_is_taken_on_the_new_masks(optimizer: SGD | AdamW) -> None:
    member = eight(DropGrow(0.5, 0.5, Every(100)), optimizer=optimizer)
    assign(member, WEIGHTS, ALIVE)
    push(member, GRADIENT)
    moved = weights(member) - torch.tensor(WEIGHTS)
    assert bool((moved[[5, 7]] * torch.tensor([-8.0, 7.0]) < 0).all())
    assert torch.equal(weights(member)[[0, 1, 4, 6]], torch.zeros(4))


# --- SET (Mocanu et al. 2018)


def grown_by_set(seed: int, gradient: list[float]) -> set[int]:
    member = eight(DropGrow(0.5, 0.5, ALWAYS, "random"), seed=seed)
    assign(member, WEIGHTS, ALIVE)
    push(member, gradient)
    assert {2, 3} <= set(alive(member))
    return set(alive(member)) - {2, 3}


def test_set_does_not_look_at_gradients() -> None:
    for seed in range(20):
        assert grown_by_set(seed, GRADIENT) == grown_by_set(seed, [0.0] * 8)


def test_set_grows_uniformly() -> None:
    hits = torch.zeros(8, dtype=torch.float64)
    for seed in range(900):
        hits[list(grown_by_set(seed, GRADIENT))] += 1
    candidates = hits[[0, 1, 4, 5, 6, 7]]
    assert float(candidates.sum()) == 1800
    # five degrees of freedom: 99.9% of chi-square draws lie below 20.5
    assert float(((candidates - 300) ** 2 / 300).sum()) < 20.5


def test_set_draws_anew_at_every_step() -> None:
    member = eight(DropGrow(0.5, 0.5, ALWAYS, "random"))
    seen = set()
    for _ in range(10):
        assign(member, WEIGHTS, ALIVE)
        push(member, GRADIENT)
        seen.add(tuple(alive(member)))
    assert len(seen) > 3


# --- counts


@st.composite
def updates(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, int, float]:
    size = draw(st.integers(1, 30))
    few = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])
    weight, score = (torch.tensor(draw(st.lists(few, min_size=size, max_size=size))) for _ in range(2))
    mask = torch.tensor(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    target = draw(st.integers(0, size))
    return weight * mask, mask, score.abs(), target, draw(st.floats(0, 0.999))


@given(updates())
def test_counts_are_exact_and_the_right_ones_stay(update: tuple[Tensor, Tensor, Tensor, int, float]) -> None:
    weight, mask, score, target, fraction = update
    count = int(mask.sum())
    new = drop_and_grow(weight, mask, score, count, target, fraction)
    assert int(new.sum()) == target
    survivors = min(count, target)
    survivors -= min(int(fraction * survivors), len(mask) - survivors)
    kept = sorted(mask.nonzero().flatten().tolist(), key=lambda i: -abs(float(weight[i])))[:survivors]
    assert new[kept].all()
    rest = [i for i in range(len(mask)) if i not in kept]
    grown = sorted(rest, key=lambda i: -float(score[i]))[: target - survivors]
    assert set(new.nonzero().flatten().tolist()) == {*kept, *grown}


@pytest.mark.parametrize("grow", ["gradient", "random"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_layer_keeps_its_count(grow: str, optimizer: SGD | AdamW) -> None:
    recipe = Recipe("wrn-10-1", 12, (DropGrow(0.1, 0.4, Every(2), grow),), optimizer, batch=BATCH)
    member = Member.build(recipe, 0, TASK)
    before, digest = dict(member.masks.counts), member.masks.digest()
    run(member, 12)
    assert member.masks.counts == before
    assert member.masks.digest() != digest


def test_a_method_beside_another_keeps_whatever_counts_there_are() -> None:
    recipe = Recipe("wrn-10-1", 12, (Static(0.6), DropGrow(None, 0.3, Every(2))), batch=BATCH)
    member = Member.build(recipe, 0, TASK)
    before, digest = dict(member.masks.counts), member.masks.digest()
    assert not member.masks.is_sparse("conv1.weight")
    run(member, 12)
    assert member.masks.counts == before
    assert member.masks.digest() != digest
    assert recipe.density == 0.6


def test_a_falling_density_drops_the_weakest_and_a_rising_one_grows_the_steepest() -> None:
    falling = eight(DropGrow(Linear(0.5, 0.25, 1), 0.0, Every(100, begin=50)))
    assign(falling, WEIGHTS, ALIVE)
    push(falling, [0.0] * 8)
    assert alive(falling) == [2, 3]
    rising = eight(DropGrow(Linear(0.5, 0.75, 2), 0.0, Every(2, begin=2)))
    assign(rising, WEIGHTS, ALIVE)
    rising.step = 2
    push(rising, GRADIENT)
    assert alive(rising) == [0, 1, 2, 3, 5, 7]


# --- timetable and annealing


def due_steps(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    member = Member.build(recipe, 0, TASK)
    seen: list[int] = []
    plain = member.masks.set

    def spied(*args: Any) -> None:
        seen.append(member.step)
        plain(*args)

    monkeypatch.setattr(member.masks, "set", spied)
    run(member, recipe.steps, Toy())
    return seen


@pytest.mark.parametrize("make", [rigl, sparse_evolution])
def test_updates_come_at_step_0_and_every_interval_up_to_three_quarters(
    make: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = rigl(0.1, 40, interval=7) if make is rigl else sparse_evolution(0.1, 40, interval=7)
    recipe = Recipe("lenet-300-100", 40, methods, batch=BATCH)
    seen = due_steps(recipe, monkeypatch)
    assert seen == [0, 7, 14, 21, 28]
    assert len(seen) == 30 // 7 + 1


def test_the_drop_fraction_is_annealed() -> None:
    count, replaced = 4000, {}
    for step in (0, 25, 50, 75, 100):
        fraction = Cosine(0.3, 0.0, 100)(step)
        mask = torch.arange(20_000) < count
        new = drop_and_grow(mask * 1.0, mask, torch.arange(20_000.0), count, count, fraction)
        replaced[step] = int((mask & ~new).sum())
    quarter = 0.15 * (1 + math.sqrt(0.5))
    assert replaced == {0: 1200, 25: int(quarter * count), 50: 600, 75: int((0.3 - quarter) * count), 100: 0}


# --- FLOPs


def test_rigl_books_one_dense_weight_gradient_per_update() -> None:
    """(3 f_S dT + f_D - f_S) for dT steps and samples of a batch (Evci et al. 2020, appendix H)."""
    recipe = Recipe("wrn-10-1", 12, (DropGrow(0.1, 0.3, Every(4)),), batch=BATCH)
    sparse = replace(recipe, methods=(DropGrow(0.1, 0.3, Every(4), "random"),))
    mine, random = (run(Member.build(each, 0, TASK), 12) for each in (recipe, sparse))
    thrifty, full = mine.forward_flops, mine.costs.dense_flops
    assert mine.train_flops == pytest.approx(BATCH * (12 * 3 * thrifty + 3 * (full - thrifty)))
    assert random.train_flops == pytest.approx(BATCH * 12 * 3 * thrifty)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0.0}, r"density.*got 0\.0"),
        ({"density": Linear(0.5, 0.0, 9)}, r"density.*got 0\.0"),
        ({"density": Linear(1.5, 0.5, 9)}, r"density.*got 1\.5"),
        ({"density": 0.5, "fraction": 1.0}, r"\[0, 1\), got 1\.0"),
        ({"density": 0.5, "fraction": Cosine(-0.1, 0.0, 9)}, r"got -0\.1"),
        ({"density": 0.5, "fraction": Cosine(0.5, -0.1, 9)}, r"got -0\.1"),
        ({"density": 0.5, "grow": "momentum"}, r"'momentum'.*gradient, random"),
        ({"density": 0.5, "distribution": "x"}, "'x'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DropGrow(**settings)  # type: ignore[arg-type]

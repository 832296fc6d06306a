"""A density that cycles: when it is met, what is pruned and grown, and how often masks change (EAST)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsepop.member import Member
from sparsepop.methods import DropGrow, ShareWeights, static
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cyclic, Every
from tests.cases import BATCH, TASK, Toy, go, run

LOW, LENGTH = 0.05, 10
Update = tuple[int, dict[str, Tensor], dict[str, Tensor]]  # step, masks before, masks set


def cycling(interval: int, cycles: int = 2, grow: str = "gradient") -> DropGrow:
    cyclic = Cyclic(LOW, LENGTH, cycles)
    return DropGrow(cyclic, 0.0, Every(interval, interval, cyclic.end - 1), grow)


def member(*methods: Any, model: str = "lenet-300-100", steps: int = 30) -> Member:
    return Member.build(Recipe(model, steps, methods, batch=BATCH), 0, TASK)


@pytest.mark.parametrize("interval", [1, 3, 4, 5, 7, 100])
def test_extremes_are_touched_whatever_the_interval(interval: int) -> None:
    living = member(cycling(interval))
    alive = [living.masks.alive / living.masks.total for _ in go(living, Toy(), 30)]
    low, high = (round(x * LOW * 88_600) / 88_600 for x in (1, 3))
    # the peak's masks are those of the step after it; the ends of cycles hold at once
    assert [alive[step] for step in (0, 10, 20)] == [low] * 3
    assert set(alive[20:]) == {low}
    assert [alive[step] for step in (6, 16)] == [high] * 2
    assert max(alive) == high
    assert min(alive) == low


def sets(living: Member, monkeypatch: pytest.MonkeyPatch) -> list[Update]:
    """What each update sees and sets."""
    seen: list[Update] = []
    plain = living.masks.set

    def spied(new: Any, *rest: Any) -> None:
        seen.append((living.step, {n: m.clone() for n, m in living.masks.tensors.items()}, new))
        plain(new, *rest)

    monkeypatch.setattr(living.masks, "set", spied)
    run(living, living.recipe.steps)
    return seen


@pytest.mark.parametrize("interval", [1, 3, 4, 5, 100])
def test_as_many_updates_as_the_timetable_has(interval: int, monkeypatch: pytest.MonkeyPatch) -> None:
    living = member(cycling(interval))
    steps = [step for step, _, _ in sets(living, monkeypatch)]
    on_grid = {step for step in range(interval, 20, interval)} | {5, 15}
    assert sorted(steps) == sorted(
        [*on_grid, 10, 20]
    )  # the last two after their steps, from nothing but values
    assert len(steps) == (19 // interval) + sum(peak % interval > 0 for peak in (5, 15)) + 2


def test_pruning_keeps_the_largest_and_growing_adds_the_steepest(monkeypatch: pytest.MonkeyPatch) -> None:
    living = member(cycling(3, cycles=1), steps=12)
    weights: list[dict[str, tuple[Tensor, Tensor]]] = []
    plain = DropGrow._update

    def spied(method: DropGrow, of: Member, *rest: Any) -> None:
        params = of.masks.params
        weights.append(
            {
                n: (p.detach().abs().clone(), torch.zeros(()) if p.grad is None else p.grad.abs().clone())
                for n, p in params.items()
            }
        )
        plain(method, of, *rest)
        for name, mask in of.masks.tensors.items():
            new = mask & (weights[-1][name][0] == 0)
            assert not params[name][new].any()

    monkeypatch.setattr(DropGrow, "_update", spied)
    directions = []
    for (_, before, new), values in zip(sets(living, monkeypatch), weights, strict=True):
        grows = sum(int(m.sum()) for m in new.values()) > sum(int(before[n].sum()) for n in new)
        directions.append(grows)
        for name, mask in new.items():
            size, slope = values[name]
            old = before[name]
            if grows:
                assert not (old & ~mask).any()
                if (added := mask & ~old).any() and not mask.all():
                    assert slope[added].min() >= slope[~mask].max()
            else:
                assert not (mask & ~old).any()
                if (gone := old & ~mask).any():
                    assert size[mask].min() >= size[gone].max()
    # 3 and the peak at 5 rise; 6, 9 and the end at 10 fall
    assert directions == [True, True, False, False, False]


def test_only_growth_books_dense_gradients() -> None:
    living, flops = member(cycling(3, cycles=1), steps=12), []
    for _ in go(living, Toy(), 12):
        flops.append((living.train_flops, living.forward_flops))
    extra = [round((b[0] - a[0]) / BATCH) for a, b in pairwise(flops)]
    dense = living.costs.dense_flops
    for step, spent in enumerate(extra):
        now, before = flops[step + 1][1], flops[step][1]
        if step == 9:  # pruned twice, before the step and after it
            now = 2 * round(Cyclic(LOW, LENGTH)(9) * 88_600)
        assert spent == pytest.approx(3 * now + (dense - before if step in (3, 5) else 0))


def test_shared_weights_cycle_between_shares_of_the_full_network() -> None:
    living = member(ShareWeights(), cycling(4), model="resnet-32-w4")
    total = living.masks.total
    alive = [living.masks.alive for _ in go(living, Toy(), 21)]
    assert [alive[step] for step in (0, 6, 10, 16, 20)] == [round(m * LOW * total) for m in (1, 3, 1, 3, 1)]
    assert sum(p.numel() for p in living.masks.params.values()) < total


def test_a_peak_that_the_layers_cannot_hold_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"density.*got 1\.5"):
        DropGrow(Cyclic(0.5, 10))
    high = DropGrow(Cyclic(0.3, 10), 0.0)
    with pytest.raises(ValueError, match="are not shared: use at most"):
        member(ShareWeights(), high, model="resnet-32-w4")


def test_a_cyclic_density_beside_another_method_promises_its_own() -> None:
    recipe = Recipe("lenet-300-100", 30, (*static(0.2), cycling(4)), batch=BATCH)
    assert [recipe.density_at(step) for step in (0, 10, 20, 30)] == [LOW] * 4
    assert recipe.density_at(6) == pytest.approx(3 * LOW)


@pytest.mark.parametrize("grow", ["gradient", "random"])
def test_who_takes_over_a_mid_cycle_after_its_own_cycles_is_at_the_low_a_step_later(grow: str) -> None:
    donor = run(member(cycling(1, cycles=3, grow=grow)), 26)  # the third cycle's peak
    assert donor.masks.alive == round(3 * LOW * 88_600)
    own = Recipe("lenet-300-100", 30, (cycling(1, grow=grow),), batch=BATCH)
    receiver = run(Member.restore(own, 1, TASK, donor.state()), 1)
    assert receiver.masks.alive == round(LOW * 88_600)
    settled = receiver.masks.version
    assert run(receiver, 3).masks.version == settled

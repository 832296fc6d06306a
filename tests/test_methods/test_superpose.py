"""Sup-tickets' facts: what the tickets are, what becomes of them, and that training never notices."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsepop.member import Member
from sparsepop.methods import (
    Cut,
    DropGrow,
    Explored,
    Method,
    PhaseDyReLU,
    Superpose,
    Thresholds,
    dense,
    east,
    gap,
    gmp,
    granet,
    parallel_gap,
    rigl,
    rigl_itop,
    sparse_evolution,
    static,
    sup_tickets,
)
from sparsepop.methods.cheap import remember
from sparsepop.optim import SGD
from sparsepop.outputs import evaluate, own_part
from sparsepop.overlaps import overlap
from sparsepop.recipe import Recipe
from sparsepop.schedule import Linear, Milestones, Phases, Triangular, TwoPhases
from sparsepop.train import Report, train
from tests.cases import BATCH, TASK, Toy, go, run
from tests.test_methods.small import NAME, alive, assign, eight, weights

PHASES = TwoPhases(before=6, length=4, cycles=3)
RATE = Triangular(0.01, 0.05, PHASES, Milestones(0.1, (3, 5)))
Methods = tuple[Method, ...]


def recipe_of(methods: Methods, model: str = "lenet-300-100", **changes: Any) -> Recipe:
    settings: dict[str, Any] = {"optimizer": SGD(RATE), "batch": BATCH, **changes}
    return Recipe(model, PHASES.end, methods, **settings)


def superpose_of(member: Member) -> Superpose:
    (found,) = (method for method in member.recipe.methods if isinstance(method, Superpose))
    return found


def tickets(member: Member) -> list[dict[str, Tensor]]:
    return [each.state for each in superpose_of(member).tickets(member)]


def finished(recipe: Recipe, seed: int = 0) -> tuple[Member, Report]:
    member = Member.build(recipe, seed, TASK)
    *_, last = train(member, Toy(), every=PHASES.end)
    return member, last


def told(report: Report, kind: str) -> list[dict[str, float]]:
    return [dict(note.numbers) for note in report.notes if note.kind == kind]


# --- the tuple


def test_the_parts_and_their_timetable() -> None:
    first, jump, last = sup_tickets(rigl(0.1, 6, interval=2), PHASES)
    assert isinstance(first, DropGrow)
    assert isinstance(jump, DropGrow)
    assert [step for step in range(30) if first.every(step)] == [0, 2, 4]
    assert [step for step in range(30) if jump.every(step)] == [6, 10, 14]
    assert (jump.density, jump.fraction, jump.grow) == (None, 0.5, "gradient")
    assert last == Superpose(PHASES, "caa", 0.5, "end", "global")


def test_the_base_changes_no_connection_during_the_cycles() -> None:
    itop, explored, _, _ = sup_tickets(rigl_itop(0.1, 6, interval=2), PHASES)
    assert isinstance(itop, DropGrow)
    assert isinstance(explored, Explored)
    assert [step for step in range(30) if itop.every(step)] == [2, 4]


@pytest.mark.parametrize("grow", ["gradient", "random"])
def test_exploring_can_be_left_out(grow: str) -> None:
    """Bit for bit, with no dense gradient booked."""
    methods = sup_tickets(rigl(0.1, 6, interval=2), PHASES, explore=0.0, grow=grow)
    base, jump, last = methods
    assert isinstance(jump, DropGrow)
    plain, member = (Member.build(recipe_of(each), 0, TASK) for each in ((base, last), methods))
    for _ in zip(go(plain, Toy(), PHASES.end), go(member, Toy(), PHASES.end), strict=True):
        assert plain.masks.version == member.masks.version
    assert all(torch.equal(value, state_of(plain)[name]) for name, value in state_of(member).items())
    assert member.train_flops == plain.train_flops


def test_tickets_stay_known_when_exploring_begins() -> None:
    """Who takes over a state of a member that explores nothing finds its tickets."""
    donor, member = (
        Member.build(recipe_of(sup_tickets(static(0.1), PHASES, explore=explore)), 0, TASK)
        for explore in (0.0, 0.5)
    )
    run(donor, 12)
    member.load(donor.state())
    assert [each.step for each in superpose_of(member).tickets(member)] == [6, 10]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (
            lambda: sup_tickets(gmp(0.1, 40), PHASES),
            "Magnitude reaches its density at step 30.*by step 6, or",
        ),
        (
            lambda: sup_tickets(parallel_gap(0.1, Phases.regular(5, 2), 0), PHASES),
            "PartitionGrow .*have it settle by step 6, or begin the cycles later",
        ),
        (lambda: sup_tickets(static(0.1), PHASES, explore=-0.5), r"\[0, 1\), got -0\.5"),
        (lambda: sup_tickets(static(0.1), PHASES, explore=math.nan), r"\[0, 1\), got nan"),
        (lambda: Superpose(PHASES, "mean"), "'mean'.*caa, cima"),
        (lambda: Superpose(PHASES, factor=0.0), r"factor.*0\.0"),
        (lambda: Superpose(PHASES, prune="never"), "'never'.*end, each"),
        (lambda: Superpose(PHASES, scope="erk"), "'erk'.*global, layer"),
        (
            lambda: replace(recipe_of(sup_tickets(dense(), PHASES)), steps=17),
            "step 18, after the last step 17",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(make: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()  # type: ignore[operator]


def test_the_cycles_end_with_the_run() -> None:
    """What is trained after the last one would be no part of the network that results."""
    longer = replace(recipe_of(sup_tickets(static(0.1), PHASES)), steps=30)
    with pytest.raises(ValueError, match=r"ends at step 18 and training at step 30.*split\(steps"):
        Member.build(longer, 0, TASK)
    without = replace(longer, methods=sup_tickets(static(0.1), TwoPhases(6, 4, 0)))
    assert Member.build(without, 0, TASK).step == 0


@dataclass(frozen=True)
class Watching(Method):
    soft = True


def test_methods_that_only_observe_masks_are_refused() -> None:
    with pytest.raises(
        ValueError, match=f"Superpose needs masks that hold at step {PHASES.before}, and Watch"
    ):
        recipe_of((Watching(), Superpose(PHASES)))


def test_superposing_may_follow_a_soft_phase() -> None:
    soft = (Thresholds(0.05), Cut(0.1, PHASES.before), Superpose(PHASES))
    member = Member.build(recipe_of(soft), 0, TASK)
    *_, report = train(member, Toy(), every=PHASES.end)
    (merged,) = (note for note in report.notes if note.kind == "superpose")
    assert merged.numbers["tickets"] == PHASES.cycles + 1
    assert member.masks.alive == round(0.1 * member.masks.total)
    assert all((member.masks.params[name][~mask] == 0).all() for name, mask in member.masks.tensors.items())


# --- tickets and the average


def test_tickets_are_the_networks_at_the_ends() -> None:
    member = Member.build(recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES), "wrn-10-1"), 0, TASK)
    seen = {
        step: {name: value.clone() for name, value in member.model.state_dict().items()}
        for step in go(member, Toy(), PHASES.end)
    }
    for step, state in zip((6, 10, 14, 18), tickets(member), strict=True):
        assert state.keys() == seen[step].keys()
        assert all(torch.equal(value, seen[step][name]) for name, value in state.items())


def test_a_ticket_of_a_network_that_was_just_pruned_has_statistics_of_its_own() -> None:
    """The first one is taken where the last phase of grow-and-prune ends, and is judged as a report there."""
    recipe = recipe_of(sup_tickets(gap(0.1, 6, parts=2, length=3), PHASES), "wrn-10-1")
    reports = list(train(member := Member.build(recipe, 0, TASK), Toy(), every=6))
    judged = {int(each["step"]): each["accuracy"] for each in told(reports[-1], "ticket")}
    assert judged[6] == reports[0].validation.accuracy
    first = next(iter(superpose_of(member).tickets(member)))
    assert first.step == 6
    member.model.load_state_dict(first.state)
    assert evaluate(member, own_part(member, Toy(), "validation")).accuracy == judged[6]
    assert "outdated" not in member.memory_of(superpose_of(member))


def test_the_unpruned_average_is_the_mean_of_all_tickets() -> None:
    member = run(Member.build(recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES)), 0, TASK), PHASES.end)
    mean = superpose_of(member).average_of(member, None)
    for name, value in mean.state.items():
        wanted = torch.stack([state[name].double() for state in tickets(member)]).mean(0)
        torch.testing.assert_close(value.double(), wanted, rtol=0, atol=1e-6)
    alive = sum(int(mask.sum()) for mask in mean.masks.values())
    assert member.masks.alive < alive <= 4 * member.masks.alive


BASES = {
    "static": static(0.1),
    "set": sparse_evolution(0.1, 6, interval=2),
    "rigl": rigl(0.1, 6, interval=2),
    "granet": granet(0.1, 6, interval=1),
    "gmp": gmp(0.1, 6, interval=1),
    "gap": gap(0.1, 6, parts=2, length=1),
    "east": east(0.1, 6, cycles=1, cyclic=0.5, cyclic_interval=1, interval=2),
}
MODELS = {"east": "resnet-20-w4"}  # LeNet has no blocks that could share weights


@pytest.mark.parametrize("prune", ["end", "each"])
@pytest.mark.parametrize("base", BASES)
def test_exactly_the_promised_count_is_left(base: str, prune: str) -> None:
    methods = sup_tickets(BASES[base], PHASES, prune=prune)
    member, report = finished(recipe_of(methods, MODELS.get(base, "lenet-300-100")))
    wanted = round(0.1 * member.masks.total)
    assert (member.masks.alive, report.alive) == (wanted, wanted)
    assert member.recipe.density == 0.1
    for name, param in member.masks.params.items():
        assert not param.detach()[~member.masks.tensors[name]].any()


def test_global_pruning_keeps_the_largest_of_the_average() -> None:
    member = run(Member.build(recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES)), 0, TASK), PHASES.end)
    mean = superpose_of(member).average_of(member, None)
    superpose_of(member).finish(member, Toy())
    sizes = {name: mean.state[name].abs() for name in member.masks.params}
    kept = torch.cat([sizes[name][mask] for name, mask in member.masks.tensors.items()])
    dropped = torch.cat([sizes[name][~mask] for name, mask in member.masks.tensors.items()])
    assert float(kept.min()) >= float(dropped.max())
    for name, mask in member.masks.tensors.items():
        assert torch.equal(member.masks.params[name].detach(), mean.state[name] * mask)


def test_layer_pruning_keeps_the_counts_of_the_network_in_training() -> None:
    recipe = recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES, scope="layer"))
    member = run(Member.build(recipe, 0, TASK), PHASES.end)
    before = dict(member.masks.counts)
    superpose_of(member).finish(member, Toy())
    assert member.masks.counts == before
    globally, _ = finished(recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES)))
    assert globally.masks.counts != before


def test_pruning_after_each_merge_is_the_procedure_of_the_code() -> None:
    """By hand: merge, keep the K largest, merge the next into what is left."""
    recipe = recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES, prune="each"))
    member = run(Member.build(recipe, 0, TASK), PHASES.end)
    names, keep = list(member.masks.params), member.masks.alive
    first, *others = [torch.cat([state[n].flatten() for n in names]) for state in tickets(member)]
    for place, other in enumerate(others):
        first = first + (other - first) / (place + 2)
        limit = first.abs().topk(keep).values.min()
        first = first * (first.abs() >= limit)
    found = superpose_of(member).average_of(member, "each").state
    torch.testing.assert_close(torch.cat([found[n].flatten() for n in names]), first, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [0.3, 0.5, 1.0])
def test_cima_is_a_moving_average(factor: float) -> None:
    """Its weights by hand: (1-g)^3, g(1-g)^2, g(1-g), g."""
    recipe = recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES, average="cima", factor=factor))
    member = run(Member.build(recipe, 0, TASK), PHASES.end)
    old = 1.0 - factor
    shares = [old**3, factor * old**2, factor * old, factor]
    assert sum(shares) == pytest.approx(1.0)
    for name, value in superpose_of(member).average_of(member, None).state.items():
        each = [share * state[name].double() for share, state in zip(shares, tickets(member), strict=True)]
        torch.testing.assert_close(value.double(), torch.stack(each).sum(0), rtol=0, atol=1e-6)


def test_cima_is_pruned_at_the_end_or_after_each_merge() -> None:
    recipe = recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES, average="cima", factor=0.3))
    member = run(Member.build(recipe, 0, TASK), PHASES.end)
    mean, pruned = (superpose_of(member).average_of(member, prune) for prune in (None, "end"))
    assert pruned.alive == member.masks.alive < mean.alive
    for name, mask in pruned.masks.items():
        assert torch.equal(pruned.state[name], mean.state[name] * mask)
    each = superpose_of(member).average_of(member, "each")
    assert any(not torch.equal(each.state[name], pruned.state[name]) for name in pruned.masks)


# --- exploring


def test_a_jump_conserves_counts_and_starts_from_zero() -> None:
    (jump,) = (method for method in sup_tickets(static(0.5), PHASES) if isinstance(method, DropGrow))
    member = eight(jump)
    assign(member, [0.4, -0.3, 0.2, -0.1, 9.0, 9.0, 9.0, 9.0], range(4))
    member.step = PHASES.before
    member.masks.params[NAME].grad = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, 3.0, 2.0, 0.5]])
    jump.after_backward(member)
    assert alive(member) == [0, 1, 5, 6]
    assert weights(member).equal(torch.tensor([0.4, -0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))


def test_every_jump_changes_at_most_two_shares_of_each_layer() -> None:
    member = Member.build(recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES)), 0, TASK)
    masks = {
        step: {name: mask.clone() for name, mask in member.masks.tensors.items()}
        for step in go(member, Toy(), PHASES.end)
    }
    for step in range(6, 18):
        for name, before in masks[step].items():
            changed = int((before ^ masks[step + 1][name]).sum())
            assert int(masks[step + 1][name].sum()) == int(before.sum())
            if step in (6, 10, 14):
                assert 0 < changed <= 2 * -(-int(before.sum()) // 2)
            else:
                assert changed == 0


# --- training does not notice


def state_of(member: Member) -> dict[str, Tensor]:
    buffers = member.state()["optimizer"]["buffers"]
    moments = {f"{name}/{key}": value for name, each in buffers.items() for key, value in each.items()}
    return {**member.model.state_dict(), **member.masks.tensors, **moments}


@pytest.mark.parametrize("prune", ["end", "each"])
def test_merging_touches_neither_the_network_nor_its_masks(prune: str) -> None:
    methods = sup_tickets(rigl(0.1, 6, interval=2), PHASES, prune=prune)
    plain = Member.build(recipe_of(methods[:-1], "wrn-10-1"), 0, TASK)
    member = Member.build(recipe_of(methods, "wrn-10-1"), 0, TASK)
    for _ in zip(go(plain, Toy(), PHASES.end), go(member, Toy(), PHASES.end), strict=True):
        before = {name: value.clone() for name, value in state_of(member).items()}
        if member.step >= PHASES.before:
            superpose_of(member).average_of(member, prune)
        for name, value in state_of(member).items():
            assert torch.equal(value, before[name])
            assert torch.equal(value, state_of(plain)[name])


def test_a_run_without_cycles_is_the_base_run() -> None:
    phases = TwoPhases(PHASES.end, 4, 0)
    base = rigl(0.1, PHASES.end, interval=4)
    plain, _ = finished(recipe_of(base, "wrn-10-1"))
    member, report = finished(recipe_of(sup_tickets(base, phases), "wrn-10-1"))
    assert all(torch.equal(v, plain.model.state_dict()[n]) for n, v in member.model.state_dict().items())
    assert member.masks.digest() == plain.masks.digest()
    assert report.notes == ()


@pytest.mark.parametrize("prune", ["end", "each"])
def test_cycles_that_do_nothing_leave_the_first_ticket(prune: str) -> None:
    still = SGD(Triangular(0.0, 0.0, PHASES, 0.1), momentum=0.0)
    methods = sup_tickets(rigl(0.1, 6, interval=2), PHASES, explore=0.0, prune=prune)
    member = Member.build(recipe_of(methods, optimizer=still), 0, TASK)
    run(member, PHASES.before)
    before, digest = {n: v.clone() for n, v in member.model.state_dict().items()}, member.masks.digest()
    list(train(member, Toy(), every=4))
    assert member.step == PHASES.end
    assert all(torch.equal(value, before[name]) for name, value in member.model.state_dict().items())
    assert member.masks.digest() == digest


def test_a_run_cut_anywhere_in_the_cycles_ends_the_same() -> None:
    recipe = recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES, average="cima"))
    whole, saved = Member.build(recipe, 3, TASK), {}
    for report in train(whole, Toy(), every=1):
        buffer = io.BytesIO()
        torch.save(whole.state(), buffer)
        saved[report.step] = buffer.getvalue()
    for cut in range(PHASES.before, PHASES.end):
        state = torch.load(io.BytesIO(saved[cut]), weights_only=True)
        member = Member.restore(recipe, 3, TASK, state)
        *_, last = train(member, Toy(), every=5)
        assert last.notes == report.notes
        assert all(torch.equal(v, whole.model.state_dict()[n]) for n, v in member.model.state_dict().items())
        assert member.masks.digest() == whole.masks.digest()


# --- modules that come and go


def test_modules_must_have_settled_before_the_first_ticket() -> None:
    with pytest.raises(ValueError, match=r"from step 6 on, and PhaseDyReLU still changes .* settle by then"):
        recipe_of((PhaseDyReLU(Linear(1.0, 0.0, 8)), *static(0.1), Superpose(PHASES)))
    assert recipe_of((PhaseDyReLU(Linear(1.0, 0.0, 6)), *static(0.1), Superpose(PHASES))).steps == PHASES.end


def test_networks_that_are_not_yet_sparse_are_not_averaged() -> None:
    """A round of parallel grow-and-prune ends dense: its first step of fine-tuning prunes."""
    for rounds, accepted in ((Phases.regular(2, 3), False), (Phases.regular(2, 2), True)):
        methods = (*parallel_gap(0.1, rounds, 0, parts=2), Superpose(PHASES))
        if accepted:
            assert recipe_of(methods).steps == PHASES.end
            continue
        with pytest.raises(ValueError, match=r"from step 6 on, and PartitionGrow .* only at step 7: have it"):
            recipe_of(methods)


def test_networks_with_modules_that_are_gone_do_not_count() -> None:
    def recipe(phase: int, phases: TwoPhases) -> Recipe:
        methods = (PhaseDyReLU(Linear(1.0, 0.0, phase)), *static(0.1), Superpose(phases))
        return recipe_of(methods, optimizer=SGD(0.05))

    donor = Member.build(recipe(9, TwoPhases(10, 4, 2)), 0, TASK)
    run(donor, 7)
    # as a state of phases that overlap would remember it
    memory = donor.memory_of(superpose_of(donor))
    remember(memory, donor)
    memory["tickets"]["6"] = memory["tickets"].pop("7")
    member = Member.restore(recipe(6, PHASES), 1, TASK, donor.state())
    *_, last = train(member, Toy(), every=PHASES.end)
    assert [row["step"] for row in told(last, "ticket")] == [10, 14, 18]
    assert "none of step 6," in last.notes[-1].message


# --- states taken over from other cycles


def taken_over(mine: TwoPhases, donors: TwoPhases, step: int) -> tuple[Member, Report]:
    """A member with phases `mine` that has gone on from a state at `step` of one with `donors`."""

    def recipe(phases: TwoPhases) -> Recipe:
        lr = Triangular(0.01, 0.05, phases, 0.1)
        return Recipe(
            "lenet-300-100", 32, sup_tickets(rigl(0.1, 8, interval=2), phases), SGD(lr), batch=BATCH
        )

    donor = run(Member.build(recipe(donors), 0, TASK), step)
    member = Member.restore(recipe(mine), 1, TASK, donor.state())
    *_, last = train(member, Toy(), every=32)
    return member, last


def test_only_tickets_of_the_members_own_ends_count() -> None:
    member, report = taken_over(TwoPhases(16, 8, 2), TwoPhases(8, 4, 6), 20)
    assert [row["step"] for row in told(report, "ticket")] == [16, 24, 32]
    (row,) = told(report, "superpose")
    assert row["tickets"] == 3
    assert [note.message for note in report.notes if note.kind == "superpose"] == [
        "3 tickets became one network"
    ]
    assert member.masks.alive == round(0.1 * member.masks.total)


@pytest.mark.parametrize(
    ("mine", "donors", "step", "steps", "message"),
    [
        (TwoPhases(16, 8, 2), TwoPhases(17, 5, 3), 20, [24, 32], "none of step 16,"),
        (TwoPhases(16, 8, 1), TwoPhases(17, 5, 3), 20, [24], "none of step 16,"),
        (TwoPhases(16, 8, 1), TwoPhases(17, 5, 3), 25, [], "nothing to superpose; none of step 16, 24,"),
    ],
)
def test_tickets_that_are_missing_are_named(
    mine: TwoPhases, donors: TwoPhases, step: int, steps: list[int], message: str
) -> None:
    member, report = taken_over(mine, donors, step)
    found = told(report, "ticket")
    assert [row["step"] for row in found] == steps
    assert [row["ticket"] for row in found] == [(each - 16) / 8 for each in steps]
    assert [message in note.message for note in report.notes if note.kind == "superpose"] == [True]
    assert member.masks.alive == round(0.1 * member.masks.total)


# --- what is told


def test_every_ticket_and_every_stage_is_told() -> None:
    member, report = finished(recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES), "wrn-10-1"))
    each, (all_,) = told(report, "ticket"), told(report, "superpose")
    assert [(row["ticket"], row["step"]) for row in each] == [(0, 6), (1, 10), (2, 14), (3, 18)]
    assert {row["alive"] for row in each} == {member.masks.alive}
    assert all_["tickets"] == 4
    assert all_["best_ticket"] == max(row["accuracy"] for row in each)
    assert all_["mean_ticket"] == pytest.approx(sum(row["accuracy"] for row in each) / 4)
    assert all_["recalibrated"] == report.validation.accuracy
    assert member.masks.density < all_["union_density"] <= 4 * member.masks.density
    assert 1 / 3 <= all_["overlap"] < 1
    assert sum(value for name, value in all_.items() if name.startswith("from_")) == pytest.approx(1.0)


@pytest.mark.parametrize("prune", ["end", "each"])
def test_the_average_is_judged_after_each_ticket(prune: str) -> None:
    """Yin et al. 2022: accuracy against the number of tickets; by hand, each mean with its BatchNorm's."""
    recipe = recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES, prune=prune), "wrn-10-1")
    member, report = finished(recipe)
    rows, (all_,) = told(report, "average"), told(report, "superpose")
    assert [row["tickets"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["unpruned"] == rows[0]["pruned"] == told(report, "ticket")[0]["accuracy"]
    assert {name: rows[-1][name] for name in ("unpruned", "pruned")} == {
        name: all_[name] for name in ("unpruned", "pruned")
    }
    states = tickets(member)
    for count, row in enumerate(rows, 1):
        mean = {name: torch.stack([s[name].double() for s in states[:count]]).mean(0) for name in states[0]}
        member.model.load_state_dict(mean)
        score = evaluate(member, Toy().batches("validation", BATCH))
        assert row["unpruned"] == pytest.approx(score.accuracy, abs=0.051)  # one image of 20


def test_overlap_with_the_final_mask() -> None:
    member, report = finished(recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES)))
    (all_,) = told(report, "superpose")
    masks = [each.masks for each in superpose_of(member).tickets(member)]
    mean = sum(overlap(each, member.masks.tensors) for each in masks) / len(masks)
    assert all_["overlap_final"] == pytest.approx(mean)
    assert 0 < mean < 1


def test_a_bad_ticket_is_warned_of() -> None:
    """Yin et al.'s own risk: half of the connections anew and no time to train them."""
    ruined = SGD(Triangular(0.0, 30.0, PHASES, 0.1))
    _, report = finished(recipe_of(sup_tickets(static(0.3), PHASES), optimizer=ruined))
    scores = [row["accuracy"] for row in told(report, "ticket")]
    notes = [note.message for note in report.notes if note.kind == "ticket"]
    low = [score < scores[0] - 0.01 for score in scores]
    assert any(low)
    assert [("below ticket 0: make cycles longer" in message) for message in notes] == low


def test_re_estimating_statistics_is_booked_as_forward_passes() -> None:
    methods = sup_tickets(static(0.3), PHASES, explore=0.0)
    epoch = Toy().steps_per_epoch(BATCH)
    for model, share in (("wrn-10-1", 1.0), ("lenet-300-100", 0.0)):
        plain, _ = finished(recipe_of(methods[:-1], model))
        member, _ = finished(recipe_of(methods, model))
        extra = member.train_flops - plain.train_flops
        assert extra == pytest.approx(share * member.forward_flops * BATCH * epoch)


def test_statistics_are_those_of_the_superposed_network() -> None:
    member, _ = finished(recipe_of(sup_tickets(rigl(0.1, 6, interval=2), PHASES), "wrn-10-1"))
    before = {name: value.clone() for name, value in member.model.state_dict().items()}
    batches = [Toy().batch(member.seed, step, BATCH)[0] for step in range(4)]
    torch.optim.swa_utils.update_bn(batches, member.model)
    for name, value in member.model.state_dict().items():
        torch.testing.assert_close(value, before[name])


# --- ranks


class Meeting:
    """Two ranks in one process: each leaves its gradients, waits for the other, and takes the mean."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=60)
        self.left: dict[int, list[Tensor]] = {}

    def mean(self, rank: int, gradients: list[Tensor]) -> None:
        self.left[rank] = [gradient.clone() for gradient in gradients]
        self.barrier.wait()
        for gradient, one, other in zip(gradients, self.left[0], self.left[1], strict=True):
            gradient.copy_((one + other) / 2)
        self.barrier.wait()


@dataclass(frozen=True)
class MeanGradients(Method):
    """What data-parallel training does to gradients."""

    meeting: Meeting
    rank: int

    def after_backward(self, member: Member) -> None:
        params = member.model.parameters()
        self.meeting.mean(self.rank, [param.grad for param in params if param.grad is not None])


class Half(Toy):
    def __init__(self, rank: int) -> None:
        self.rank = rank

    def batch(self, seed: int, step: int, size: int, **_: Any) -> tuple[Tensor, Tensor]:
        return super().batch(seed, step, size, rank=self.rank, world=2)


def parallel_recipe(*first: Method) -> Recipe:
    return recipe_of((*first, *sup_tickets(rigl(0.1, 6, interval=2), PHASES)), precision="float64")


def test_two_ranks_superpose_what_one_does() -> None:
    meeting = Meeting()
    ranks = [Member.build(parallel_recipe(MeanGradients(meeting, rank)), 3, TASK) for rank in (0, 1)]

    def trained(rank: int) -> None:
        torch.set_num_threads(1)
        list(train(ranks[rank], Half(rank), every=6))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(trained, (0, 1)))
    alone = Member.build(parallel_recipe(), 3, TASK)
    list(train(alone, Toy(), every=6))
    assert ranks[0].masks.digest() == ranks[1].masks.digest() == alone.masks.digest()
    for name, value in alone.model.state_dict().items():
        first, second = (rank.model.state_dict()[name] for rank in ranks)
        assert torch.equal(first, second)
        torch.testing.assert_close(first, value, rtol=1e-9, atol=1e-12)


# --- behaviour


def scores_on_digits(seed: int) -> Iterator[dict[str, float]]:
    from sparsepop.data import open_data
    from sparsepop.member import Task

    data = open_data("digits")
    phases = TwoPhases(600, 40, 3)
    recipe = Recipe(
        "lenet-300-100",
        phases.end,
        sup_tickets(rigl(0.1, phases.before, interval=20), phases),
        SGD(Triangular(0.001, 0.005, phases, Milestones(0.1, (300, 450))), weight_decay=5e-4),
        batch=64,
    )
    member = Member.build(recipe, seed, Task(data.shape, data.classes))
    *_, report = train(member, data, every=phases.end)
    yield from told(report, "superpose")


@pytest.mark.slow
def test_the_superposed_network_is_as_good_as_its_tickets_and_pruning_costs_nothing() -> None:
    """Within half a point, which is seven of the 1,430 images judged."""
    rows = [row for seed in range(5) for row in scores_on_digits(seed)]
    mean = {name: sum(row[name] for row in rows) / 5 for name in ("mean_ticket", "unpruned", "recalibrated")}
    assert mean["recalibrated"] >= mean["mean_ticket"] - 0.005
    assert mean["recalibrated"] >= mean["unpruned"] - 0.005

"""Parallel grow-and-prune: one owner for everything, merges bit for bit, and the simulation of it all."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from sparsepop.averaging import recalibrate_member
from sparsepop.masks import prunable_names
from sparsepop.member import Member, State
from sparsepop.merge import (
    Round,
    common_rounds,
    end_round,
    join,
    merged_parcel,
    old_parcel,
    owners_of,
    pack,
    parcel,
    part_of,
    simulate,
    unpack,
    weight_of,
)
from sparsepop.methods import (
    Explored,
    GrowPrune,
    Method,
    Partition,
    PartitionGrow,
    PhaseDyReLU,
    ShareWeights,
    static,
)
from sparsepop.models import Model, build
from sparsepop.optim import SGD, AdamW
from sparsepop.outputs import Score, evaluate, own_part
from sparsepop.recipe import Recipe
from sparsepop.schedule import Linear, Phases
from sparsepop.train import train
from tests.cases import BATCH, TASK, Toy, run
from tests.merges import combine, gather, merge

LENET, WRN = "lenet-300-100", "wrn-10-1"


def recipes(
    parts: int = 3,
    length: int = 2,
    rounds: int = 2,
    begin: int = 0,
    model: Model = WRN,
    fresh: bool = True,
    scope: str = "uniform",
    **more: Any,
) -> list[Recipe]:
    phases = Phases.regular(length, rounds, begin)
    grow = PartitionGrow(0.1, Partition(parts), 0, phases, scope, fresh=fresh)
    settings: dict[str, Any] = {"optimizer": SGD(0.05), "batch": BATCH, **more}
    return [Recipe(model, 12, (replace(grow, own=own), Explored()), **settings) for own in range(parts)]


def after_a_round(members: Sequence[Recipe], seeds: Sequence[int] | None = None) -> dict[int, State]:
    """The states at the first round's end, all from one start."""
    start = Member.build(members[0], 0, TASK).state()
    seeds = seeds or range(len(members))
    return {
        own: run(Member.restore(recipe, seed, TASK, start), 2).state()
        for own, (recipe, seed) in enumerate(zip(members, seeds, strict=True))
    }


def assert_same(one: Any, other: Any, path: str = "") -> None:
    if isinstance(one, Mapping):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype, path
        assert torch.equal(one, other), path
    else:
        assert one == other, path


# --- who owns what


@pytest.mark.parametrize(
    "model", [LENET, WRN, "resnet-20", "resnet-18-w8", "vgg-16-w8", "imagenet-resnet-50"]
)
def test_every_parameter_and_buffer_has_one_owner(model: str) -> None:
    with torch.device("meta"):
        network = build(model, (3, 32, 32), 10)
    shapes = {name: tuple(network.get_parameter(name).shape) for name in prunable_names(network)}
    groups = Partition(3).groups(shapes)
    owners = owners_of(network, groups)
    assert set(owners) == set(network.state_dict())
    assert all(owners[name] == number for number, group in enumerate(groups) for name in group)


class Twice(nn.Module):
    """A network whose layers each stand under two names."""

    def __init__(self) -> None:
        super().__init__()
        size, classes = math.prod(TASK.shape), TASK.classes
        self.first, self.second, self.third = nn.Linear(size, 16), nn.Linear(16, 16), nn.Linear(16, classes)
        self.net = nn.Sequential(nn.Flatten(), self.first, nn.ReLU(), self.second, nn.ReLU(), self.third)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.net(images))


def twice(task: Any) -> nn.Module:
    return Twice()


def test_a_layer_of_two_names_has_one_owner() -> None:
    members = recipes(model=twice)
    states = {own: marked(state, 2.0**own) for own, state in after_a_round(members).items()}
    joined = gather(members[0], TASK, states).model.state_dict()
    for own, names in enumerate((("first", "net.1"), ("second", "net.3"), ("third", "net.5"))):
        for name in names:
            assert set(joined[f"{name}.weight"].flatten().tolist()) == {2.0**own}
            assert set(joined[f"{name}.bias"].tolist()) == {2.0**own}


def test_what_two_members_send_is_refused() -> None:
    states = after_a_round(recipes())
    owners = {name: 0 for name in states[0]["model"]}
    parts = {own: part_of(state, owners, 0) for own, state in states.items()}
    with pytest.raises(ValueError, match=r"conv1.weight came from 3 members"):
        join(parts)


def test_norms_and_biases_go_with_their_layer() -> None:
    with torch.device("meta"):
        network = build("resnet-20", (3, 32, 32), 10)
    names = prunable_names(network)
    owners = owners_of(network, tuple((name,) for name in names))
    for conv, norm in (
        ("layer2.1.conv1", "layer2.1.bn1"),
        ("conv1", "bn1"),
        ("layer3.0.conv2", "layer3.0.bn2"),
    ):
        of_norm = {
            owners[f"{norm}.{what}"] for what in ("weight", "bias", "running_mean", "num_batches_tracked")
        }
        assert of_norm == {names.index(f"{conv}.weight")}
    assert owners["fc.bias"] == owners["fc.weight"]


def test_gains_and_units_go_with_the_weight_that_they_use() -> None:
    methods = (ShareWeights(), PhaseDyReLU(Linear(1.0, 0.0, 8)), *static(0.1))
    member = Member.build(Recipe("residual-mlp", 8, methods, batch=BATCH), 0, TASK)
    names = list(member.masks.params)
    owners = owners_of(member.model, tuple((name,) for name in names))
    assert set(owners) == set(member.model.state_dict())
    source = names.index("layer1.1.fc2.weight")
    for name in ("fc2.gain", "bn2.running_mean", "act2.squeeze.weight", "act2.squeeze.bias"):
        assert owners[f"layer1.3.{name}"] == source


def test_what_is_kept_dense_has_no_owner_nor_has_its_norm() -> None:
    with torch.device("meta"):
        network = build("resnet-20", (3, 32, 32), 10)
    names = [name for name in prunable_names(network) if name != "conv1.weight"]
    owners = owners_of(network, (tuple(names),))
    absent = set(network.state_dict()) - set(owners)
    assert {name.split(".")[0] for name in absent} == {"conv1", "bn1"}


# --- combining


def marked(state: State, value: float) -> State:
    """`state` with every number of model, masks and optimizer replaced."""

    def mark(entry: Any) -> Any:
        if isinstance(entry, Mapping):
            return {key: mark(each) for key, each in entry.items()}
        return torch.full_like(entry, value) if isinstance(entry, Tensor) else entry

    return {
        key: mark(entry) if key in ("model", "optimizer", "memory") else entry for key, entry in state.items()
    }


def test_everything_comes_from_its_owner_and_nothing_else_survives() -> None:
    members = recipes(optimizer=AdamW())
    states = {own: marked(state, own + 1) for own, state in after_a_round(members).items()}
    model = Member.build(members[0], 0, TASK)
    owners = owners_of(model.model, Partition(3).groups(model.masks.shapes))
    merged = combine(states, owners)
    for name, tensor in merged["model"].items():
        assert set(tensor.flatten().tolist()) == {owners[name] + 1}, name
    for name, buffers in merged["optimizer"]["buffers"].items():
        assert buffers.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert {number for each in buffers.values() for number in each.flatten().tolist()} == {
            owners[name] + 1
        }
    assert merged["train_flops"] == sum(state["train_flops"] for state in states.values())


def test_a_partition_is_bitwise_that_of_its_member_and_dense() -> None:
    members = recipes()
    states = after_a_round(members)
    together = gather(members[0], TASK, states)
    groups = Partition(3).groups(together.masks.shapes)
    assert together.masks.density == 1.0
    for own, group in enumerate(groups):
        for name in group:
            assert torch.equal(together.masks.params[name], states[own]["model"][name])
    explored = members[0].methods[1]
    assert together.recipe.methods[1].measure(together) == {"explored": 1.0} == explored.measure(together)


def test_the_merge_keeps_the_largest_of_each_tensor() -> None:
    members = recipes()
    states = after_a_round(members)
    merged = Member.restore(members[1], 7, TASK, merge(members[1], TASK, states))
    dense = gather(members[0], TASK, states)
    assert merged.masks.alive == round(0.1 * merged.masks.total)
    for name, param in dense.masks.params.items():
        size = param.detach().abs()
        kept = size >= size.flatten().topk(merged.masks.counts[name]).values[-1]
        assert torch.equal(merged.masks.tensors[name], kept)
        assert torch.equal(merged.masks.params[name].detach(), param.detach() * kept)


def test_the_merge_may_rank_all_layers_together() -> None:
    members = recipes(scope="global")
    states = after_a_round(members)
    merged = Member.restore(members[1], 7, TASK, merge(members[1], TASK, states)).masks
    dense = gather(members[0], TASK, states).masks
    sizes = torch.cat([param.detach().abs().flatten() for param in dense.params.values()])
    least = sizes.topk(round(0.1 * dense.total)).values[-1]
    assert merged.alive == round(0.1 * dense.total)
    for name, param in dense.params.items():
        assert torch.equal(merged.tensors[name], param.detach().abs() >= least)
    assert len({merged.counts[name] / param.numel() for name, param in dense.params.items()}) > 2


@pytest.mark.parametrize("scope", ["uniform", "erk", "global"])
def test_neither_order_nor_who_merges_matters(scope: str) -> None:
    members = recipes(scope=scope)
    states = after_a_round(members)
    reference = merge(members[0], TASK, states, data=Toy(), batches=2)
    assert_same(merge(members[0], TASK, dict(reversed(states.items())), data=Toy(), batches=2), reference)
    assert_same(merge(members[2], TASK, states, data=Toy(), batches=2), reference)


def test_without_training_the_merge_is_the_start() -> None:
    members = recipes()
    start = Member.build(members[0], 0, TASK).state()
    merged = merge(members[0], TASK, dict.fromkeys(range(3), start))
    for part in ("model", "optimizer"):
        assert_same(merged[part], start[part])
    assert_same(merged["masks"]["tensors"], start["masks"]["tensors"])


def test_what_nobody_owns_is_the_first_members_or_the_mean() -> None:
    members = recipes(model="resnet-20", keep_dense=("conv1.weight",))
    states = {own: marked(state, 2.0**own) for own, state in after_a_round(members).items()}
    first, mean = (gather(members[0], TASK, states, rest=rest).model for rest in ("first", "mean"))
    for name, value in (("conv1.weight", 7 / 3), ("bn1.running_mean", 7 / 3), ("bn1.num_batches_tracked", 1)):
        assert set(first.state_dict()[name].flatten().tolist()) == {1.0}
        assert mean.state_dict()[name].flatten().tolist() == pytest.approx(
            [value] * first.state_dict()[name].numel()
        )
    assert set(mean.state_dict()["fc.weight"].flatten().tolist()) == {4.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda states: states.update({5: states.pop(1)}), r"\[0, 2, 5\] took part"),
        (lambda states: states[1].update(step=7), "differ in their step"),
    ],
)
def test_states_that_make_no_round_are_refused(change: Any, message: str) -> None:
    members = recipes()
    start = Member.build(members[0], 0, TASK).state()
    states: dict[int, State] = {own: {**start, "model": dict(start["model"])} for own in range(3)}
    change(states)
    with pytest.raises(ValueError, match=message):
        merge(members[0], TASK, states)


def test_only_partition_growers_merge_and_rests_have_names() -> None:
    plain = Recipe(WRN, 12, batch=BATCH)
    state = Member.build(plain, 0, TASK).state()
    with pytest.raises(ValueError, match="this has 0"):
        merge(plain, TASK, {0: state})
    with pytest.raises(ValueError, match="'median'"):
        combine({0: state}, {}, "median")


# --- statistics and traffic


def test_statistics_are_the_averages_over_the_batches() -> None:
    member = run(Member.build(recipes(length=3)[0], 4, TASK), 2)
    weights = {name: param.clone() for name, param in member.model.named_parameters()}
    first = next(part for part in member.model.modules() if isinstance(part, nn.BatchNorm2d))
    conv = member.model.get_submodule("conv1")
    outputs = [conv(Toy().batch(0, step, BATCH)[0]).detach() for step in range(3)]
    # in this network the first norm follows the first convolution directly
    expected = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    spread = torch.stack([output.var((0, 2, 3)) for output in outputs]).mean(0)
    flops, momentum = member.train_flops, first.momentum
    recalibrate_member(member, Toy(), 3)
    torch.testing.assert_close(first.running_mean, expected)
    torch.testing.assert_close(first.running_var, spread)
    assert (first.momentum, int(first.num_batches_tracked)) == (momentum, 3)  # type: ignore[arg-type]
    assert member.train_flops == flops + 3 * BATCH * member.forward_flops
    assert all(torch.equal(param, weights[name]) for name, param in member.model.named_parameters())


def test_no_batches_leave_the_statistics_alone() -> None:
    member = run(Member.build(recipes()[0], 4, TASK), 2)
    before = {name: value.clone() for name, value in member.model.state_dict().items()}
    recalibrate_member(member, Toy(), 0)
    assert_same(dict(member.model.state_dict()), before)


def test_a_round_sends_what_the_specification_counts() -> None:
    """Up 4 |P_i| and biases, down 4 alive + N / 8 and biases, in bytes; more by at most 5%."""
    members = recipes(model=LENET)
    states = after_a_round(members)
    up = [weight_of(parcel(Member.restore(members[own], 0, TASK, state))) for own, state in states.items()]
    for sent, formula in zip(up, [4 * (57_600 + 300), 4 * (30_000 + 100), 4 * (1000 + 10)], strict=True):
        assert formula <= sent <= 1.05 * formula
    merged = Member.restore(members[0], 0, TASK, merge(members[0], TASK, states))
    losses = 8  # since the last report, one float64
    assert weight_of(merged_parcel(merged)) == 4 * 8860 + 88_600 // 8 + 4 * 410 + losses


@pytest.mark.parametrize("optimizer", [SGD(0.05), AdamW()])
@pytest.mark.parametrize("fresh", [True, False])
def test_parcels_lose_nothing_that_the_next_round_needs(fresh: bool, optimizer: Any) -> None:
    members = recipes(optimizer=optimizer, model="resnet-20", keep_dense=("conv1.weight",), fresh=fresh)
    states = after_a_round(members)
    sent = {own: parcel(Member.restore(members[own], 0, TASK, state)) for own, state in states.items()}
    whole = gather(members[0], TASK, states)
    together, _ = end_round(members[0], TASK, sent, {0: 0.0}, Toy(), sent.__getitem__)
    whole.recipe.methods[0].conclude(whole)  # type: ignore[attr-defined]
    received = Member.restore(members[0], 0, TASK, unpack(merged_parcel(together)))
    for each in (together, received):
        for part in ("model", "masks", "memory", "step", "train_flops"):
            assert_same(each.state()[part], whole.state()[part])
        assert bool(each.optimizer.state) is not fresh
    if not fresh:
        assert_same(received.state()["optimizer"], whole.state()["optimizer"])


def test_what_is_packed_comes_back() -> None:
    states = after_a_round(recipes())
    for state in (*states.values(), merge(recipes()[0], TASK, states)):
        assert_same(unpack(pack(state)), state)
        assert weight_of(pack(state)) < weight_of(state)


def test_what_nobody_owns_is_sent_by_the_first_or_by_all() -> None:
    members = recipes(model="resnet-20", keep_dense=("conv1.weight",))
    state = Member.build(members[0], 0, TASK).state()
    with torch.device("meta"):
        network = build("resnet-20", TASK.shape, TASK.classes)
    names = [name for name in prunable_names(network) if name != "conv1.weight"]
    owners = owners_of(network, (tuple(names[:9]), tuple(names[9:])))
    alone = 4 * 3 * 16 * 9 + 4 * 4 * 16 + 8  # the convolution, and a norm with its counter
    sent = {
        rest: [weight_of(part_of(state, owners, own, rest)) for own in (0, 1)] for rest in ("first", "mean")
    }
    assert sent["mean"] == [sent["first"][0], sent["first"][1] + alone]


# --- simulation


def finished(member: Member) -> Member:
    assert list(train(member, Toy(), every=100))[-1].final
    return member


@pytest.mark.parametrize("scope", ["uniform", "erk", "global"])
def test_one_partition_in_parallel_is_the_cyclic_method_bit_for_bit(scope: str) -> None:
    (recipe,) = recipes(1, scope=scope)
    alone = finished(simulate([recipe], [3], TASK, Toy())[0])
    cyclic: Method = GrowPrune(0.1, Partition(1), Phases.regular(2, 2), scope=scope)
    other = finished(Member.build(replace(recipe, methods=(cyclic, Explored())), 3, TASK))
    for part in ("model", "optimizer", "masks", "step", "train_flops"):
        assert_same(alone.state()[part], other.state()[part])


@pytest.mark.parametrize("scope", ["uniform", "erk", "global"])
def test_the_merged_member_is_sparse_and_has_tried_everything_after_a_round(scope: str) -> None:
    members = recipes(scope=scope)
    member, rounds = simulate(members, [0, 1, 2], TASK, Toy(), batches=2)
    assert member.step == 4
    assert [each.step for each in rounds] == [2, 4]
    assert member.masks.alive == round(0.1 * member.masks.total)
    (report,) = train(member, Toy(), every=100)
    assert report.alive == round(0.1 * member.masks.total)
    assert report.numbers["explored"] == 1.0
    notes = [note for note in report.notes if note.kind == "merge"]
    assert [note.numbers["round_end"] for note in notes] == [2, 4]
    assert notes[1].numbers["merged"] == rounds[1].merged.accuracy


def test_all_start_from_what_member_0_learned_in_the_warm_up() -> None:
    members = recipes(begin=3)
    start = run(Member.build(members[0], 5, TASK), 3)
    assert start.masks.alive == round(0.1 * start.masks.total)
    ends = {
        own: run(Member.restore(recipe, 5 + own, TASK, start.state()), 2).state()
        for own, recipe in enumerate(members)
    }
    expected = merge(members[0], TASK, ends)
    member, _ = simulate([*recipes(begin=3, rounds=1)], [5, 6, 7], TASK, Toy())
    for part in ("model", "masks", "memory"):
        assert_same(member.state()[part], expected[part])


def test_the_simulations_flops_are_those_of_all_members() -> None:
    """LeNet's multiply-adds are its weights, so every step's cost is known; the warm-up is paid once."""
    member, _ = simulate(recipes(model=LENET, begin=2), [0, 1, 2], TASK, Toy())
    one_round = 2 * (3 * 8860 + 51_840 + 27_000 + 900)
    assert member.train_flops == 3 * 2 * BATCH * (2 * 8860 + 2 * one_round)
    extra, _ = simulate(recipes(begin=2), [0, 1, 2], TASK, Toy(), batches=3)
    plain, _ = simulate(recipes(begin=2), [0, 1, 2], TASK, Toy())
    # statistics are taken before and after the pruning, at the end of each of two rounds
    images, dense = 2 * 3 * BATCH, Member.build(Recipe(WRN, 1), 0, TASK).forward_flops
    assert extra.train_flops == pytest.approx(plain.train_flops + images * (dense + extra.forward_flops))


def test_a_member_that_was_cut_off_in_a_round_changes_nothing() -> None:
    members = recipes(length=4)
    start = Member.build(members[0], 0, TASK).state()

    def round_of(cut_off: int | None) -> State:
        states = {}
        for own, recipe in enumerate(members):
            member = Member.restore(recipe, own, TASK, start)
            if own == cut_off:
                saved = io.BytesIO()
                torch.save(run(member, 2).state(), saved)
                run(member, 1)  # lost
                member = Member.restore(
                    recipe, own, TASK, torch.load(io.BytesIO(saved.getvalue()), weights_only=True)
                )
                run(member, 2)
            else:
                run(member, 4)
            states[own] = member.state()
        return merge(members[0], TASK, states)

    assert_same(round_of(1), round_of(None))


@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize("lost", [0, 1])
def test_the_partition_of_a_member_that_diverged_stays_as_it_was(lost: int, scope: str) -> None:
    """A single one would otherwise make everybody's network NaN. (All layers ranked together, it may lose
    weights to the others.)
    """
    members = recipes(scope=scope)
    start, states = Member.build(members[0], 0, TASK).state(), after_a_round(members)
    weights = states[lost]["model"]
    ruined = {name: value * math.nan for name, value in weights.items() if value.is_floating_point()}
    states[lost] = {**states[lost], "model": {**weights, **ruined}}
    sent = {own: parcel(Member.restore(members[own], 0, TASK, state)) for own, state in states.items()}

    def old(part: int) -> State:
        return old_parcel(members[part], TASK, start, 2)

    told = {own: 0.1 if own == lost else 0.9 for own in sent}
    merged, ended = end_round(members[0], TASK, sent, told, Toy(), old, batches=2)
    assert ended.members_accuracy == pytest.approx(0.9)
    assert ended.numbers()["networks"] == len(sent) - 1
    assert (ended.diverged, ended.numbers()["diverged"]) == ((lost,), 1.0)
    assert math.isfinite(ended.merged.loss)
    assert unpack(old(lost))["reported"] == 2  # else the next report divides its losses by too many steps
    if scope == "uniform":
        assert merged.masks.counts == merged.masks.allocate(0.1, "uniform")
    assert merged.masks.alive == round(0.1 * merged.masks.total)
    before, now = start["masks"]["tensors"], merged.masks.tensors
    gone, had = (
        sum(int(each.sum()) for each in masks)
        for masks in ([old & ~now[name] for name, old in before.items()], before.values())
    )
    assert ended.changed == gone / had > 0
    for part, names in enumerate(Partition(3).groups(merged.masks.shapes)):
        came_from = start if part == lost else states[part]
        for name in names:
            mask = merged.masks.tensors[name]
            assert torch.equal(merged.model.state_dict()[name][mask], came_from["model"][name][mask])


def test_the_combined_network_is_scored_with_statistics_of_its_own() -> None:
    members = recipes()
    states = after_a_round(members)
    expected = gather(members[0], TASK, states)
    recalibrate_member(expected, Toy(), 2)
    sent = {own: parcel(Member.restore(recipe, 0, TASK, states[own])) for own, recipe in enumerate(members)}
    _, ended = end_round(members[0], TASK, sent, dict.fromkeys(sent, 0.5), Toy(), sent.__getitem__, batches=2)
    assert ended.dense == evaluate(expected, own_part(expected, Toy(), "validation"))


def test_a_collapse_is_told() -> None:
    members = (0.95, 0.85)
    usual: dict[str, Any] = {
        "step": 4,
        "members": members,
        "dense": Score(1, 0.5),
        "bytes_up": (1, 2),
        "bytes_down": 3,
        "changed": 0.2,
        "flops": 0.0,
    }
    assert Round(merged=Score(2.0, 0.79), **usual).collapsed
    assert not Round(merged=Score(2.0, 0.81), **usual).collapsed
    assert Round(merged=Score(math.nan, 0.9), **usual).collapsed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given[::-1], r"partitions \[2, 1, 0\]"),
        (lambda given: given[:2], r"partitions \[0, 1\].*each of 0\.\.2"),
        (
            lambda given: [*given[:2], recipes(rounds=1)[2]],
            r"more than the partition they grow \(methods.*rounds.*length 2 -> 1",
        ),
    ],
)
def test_recipes_that_do_not_fit_together_are_refused(change: Any, message: str) -> None:
    given = change(recipes())
    with pytest.raises(ValueError, match=message):
        simulate(given, list(range(len(given))), TASK, Toy())


def test_functions_made_for_each_recipe_are_no_difference() -> None:
    """A config's recipe(hp) makes its lambdas anew with each call."""

    def made(own: int) -> Recipe:
        return replace(recipes()[own], optimizer=SGD(lr=lambda step: 0.1))

    assert common_rounds([made(own) for own in range(3)]) == Phases.regular(2, 2)


def test_every_member_needs_a_seed() -> None:
    with pytest.raises(ValueError, match="3 members need as many seeds, got 2"):
        simulate(recipes(), [0, 1], TASK, Toy())


# --- the same in processes


def one_process(own: int, folder: str) -> None:
    """One of the members, in a process of its own: it meets the others at the end of each round."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=own, world_size=2)
    members = recipes(2)
    state = Member.build(members[0], 3, TASK).state()
    for _ in range(2):
        member = run(Member.restore(members[own], 3 + own, TASK, state), 2)
        states: list[Any] = [None, None]
        dist.all_gather_object(states, member.state())
        state = merge(members[own], TASK, dict(enumerate(states)), data=Toy(), batches=2)
    torch.save(state, f"{folder}/{own}.pt")
    dist.destroy_process_group()


def test_processes_come_to_what_the_simulation_comes_to(tmp_path: Path) -> None:
    mp.spawn(one_process, (str(tmp_path),), nprocs=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        member, _ = simulate(recipes(2), [3, 4], TASK, Toy(), batches=2)
    finally:
        torch.set_num_threads(threads)
    for own in (0, 1):
        state = torch.load(tmp_path / f"{own}.pt", weights_only=True)
        for part in ("model", "masks", "memory", "step"):
            assert_same(member.state()[part], state[part])

"""Scheduled grow-and-prune (Ma et al. 2022): who is dense when, what growing and pruning do, and costs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsepop.averaging import STALE, fresh_statistics, recalibrate_member
from sparsepop.config import load
from sparsepop.data import open_data
from sparsepop.member import Member, Task
from sparsepop.methods import (
    Explored,
    GrowPrune,
    Method,
    Partition,
    PartitionGrow,
    ShareWeights,
    acdc,
    gap,
    one_shot,
)
from sparsepop.methods.magnitude import prune
from sparsepop.optim import SGD
from sparsepop.outputs import evaluate, own_part
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Phases, Restarts
from sparsepop.search.merged import FRESH
from sparsepop.train import train
from tests.cases import BATCH, TASK, Toy, go, run
from tests.test_contract import assert_same

CONFIG = Path(__file__).parents[2] / "tune_configs" / "gap.py"
WRN = "wrn-10-1"  # ten layers with BatchNorm


def recipe_of(*methods: Method, model: str = WRN, steps: int = 12, lr: float = 0.05) -> Recipe:
    return Recipe(model, steps, methods, SGD(lr), batch=BATCH)


def turns(parts: int = 3, length: int = 2, count: int = 5, **more: Any) -> GrowPrune:
    return GrowPrune(0.1, Partition(parts), Phases.regular(length, count), **more)


def grown_layers(member: Member) -> list[list[str]]:
    """The layers of each phase so far, from what was noted."""
    return [note.message.split(", ") for note in member.take_notes() if note.kind == "grow"]


@dataclass(frozen=True)
class Witness(Method):
    """Keeps the weights as they are after each step, before methods behind it touch them."""

    seen: list[dict[str, Tensor]] = field(default_factory=list, compare=False)

    def after_step(self, member: Member) -> None:
        self.seen.append({name: param.detach().clone() for name, param in member.masks.params.items()})


# --- who is dense when (acceptance checks 1, 2, 6, 13)


def test_one_partition_is_dense_at_a_time_and_the_others_are_exact() -> None:
    method = turns()
    member = Member.build(recipe_of(method), 0, TASK)
    groups = method.partition.groups(member.masks.shapes)
    sparse = dict(member.masks.counts)
    sizes = {name: param.numel() for name, param in member.masks.params.items()}
    assert sum(sparse.values()) == round(0.1 * sum(sizes.values()))
    assert all(abs(count - 0.1 * sizes[name]) < 1 for name, count in sparse.items())
    for step in go(member, Toy(), 12):
        # phases of two steps: grown after the first, pruned at the end of the second
        dense = groups[step // 2 % 3] if step % 2 == 1 and step < 10 else ()
        assert member.masks.counts == {n: sizes[n] if n in dense else sparse[n] for n in sizes}


@pytest.mark.parametrize("by", ["size", "count", "stage"])
def test_active_weights_follow_the_memory_formula(by: str) -> None:
    """Section 6 of the specification: d + (1 - d) p_i while the partition with the share p_i is dense."""
    method = GrowPrune(0.2, Partition(3, by), Phases.regular(1, 3))
    member = run(Member.build(recipe_of(method), 0, TASK), 4)
    sizes = {name: param.numel() for name, param in member.masks.params.items()}
    shares = [
        sum(sizes[n] for n in group) / member.masks.total
        for group in method.partition.groups(member.masks.shapes)
    ]
    seen = [note.numbers["density"] for note in member.take_notes() if note.kind == "grow"]
    # rounding: less than one weight for each layer
    assert seen == pytest.approx([0.2 + 0.8 * share for share in shares], abs=len(sizes) / member.masks.total)
    assert sum(shares) == pytest.approx(1.0)


def test_cyclic_order_has_tried_every_weight_after_one_round() -> None:
    recipe = recipe_of(turns(3, 1, 4), Explored(), steps=5)
    member = Member.build(recipe, 0, TASK)
    seen = [recipe.methods[-1].measure(member)["explored"] for _ in go(member, Toy(), 5)]
    assert seen[0] == member.masks.density
    assert seen[0] < seen[1] < seen[2] < seen[3] == seen[4] == 1.0
    groups = [list(group) for group in Partition(3).groups(member.masks.shapes)]
    assert grown_layers(member) == [groups[0], groups[1], groups[2], groups[0]]


@pytest.mark.parametrize("seed", range(4))
def test_random_order_never_repeats_itself_at_once(seed: int) -> None:
    recipe = recipe_of(turns(3, 1, 12, order="random"), Explored(), steps=12)
    member = Member.build(recipe, seed, TASK)
    drawn: list[list[str]] = []
    for _ in go(member, Toy(), 12):
        drawn += grown_layers(member)
        complete = len({tuple(names) for names in drawn}) == 3
        assert (recipe.methods[-1].measure(member)["explored"] == 1.0) == complete
    assert len(drawn) == 12
    assert all(a != b for a, b in pairwise(drawn))


def test_layers_can_be_drawn_from_those_not_grown_before() -> None:
    drawn = [
        set(names)
        for names in grown_layers(run(Member.build(recipe_of(turns(3, 1, 8, order="layers")), 0, TASK), 8))
    ]
    assert [len(names) for names in drawn] == [3] * 8  # 10 layers by 3 partitions
    assert all(not a & b for a, b in pairwise(drawn))
    assert len({frozenset(names) for names in drawn}) > 3


def test_orders_differ_between_seeds() -> None:
    orders = {
        str(grown_layers(run(Member.build(recipe_of(turns(4, 1, 9, order="random")), seed, TASK), 9)))
        for seed in range(3)
    }
    assert len(orders) == 3


def test_one_layer_at_a_time() -> None:
    drawn = grown_layers(run(Member.build(recipe_of(turns(10, 1, 11)), 0, TASK), 11))
    assert [len(names) for names in drawn] == [1] * 11
    assert len({names[0] for names in drawn[:10]}) == 10
    assert drawn[10] == drawn[0]


# --- what growing does (3)


def test_growing_changes_no_value_and_no_output() -> None:
    method = turns()
    member = run(Member.build(recipe_of(method), 0, TASK), 4)
    images, _ = Toy().batch(0, 0, BATCH)
    before = {name: tensor.clone() for name, tensor in member.model.named_parameters()}
    alive, mode = member.masks.alive, member.model.train()
    with torch.no_grad():
        output = mode(images)
        method.after_backward(member)
        assert torch.equal(mode(images), output)
    assert member.masks.alive > alive
    assert all(torch.equal(param, before[name]) for name, param in member.model.named_parameters())


def test_grown_weights_train_and_start_without_momentum() -> None:
    method = turns(1, 3, 2, fresh=False)
    member = run(Member.build(recipe_of(method, model="lenet-300-100"), 0, TASK), 3)
    dead = {name: ~mask for name, mask in member.masks.tensors.items()}
    run(member, 1)
    for name, param in member.masks.params.items():
        buffer = member.optimizer.state[param]["momentum_buffer"]
        # after one step from zero: weight = -lr * gradient, momentum = gradient
        torch.testing.assert_close(param[dead[name]], -0.05 * buffer[dead[name]])
        assert buffer[dead[name]].any()


@pytest.mark.parametrize("fresh", [True, False])
def test_the_optimizer_starts_anew_with_each_phase_and_with_fine_tuning(fresh: bool) -> None:
    """Momentum after a first step is the gradient alone; later it remembers the steps before."""
    member = Member.build(recipe_of(turns(2, 3, 2, fresh=fresh), model="lenet-300-100", lr=0.01), 0, TASK)
    bias = dict(member.model.named_parameters())["5.bias"]
    anew = set()
    for step in go(member, Toy(), 9):
        if step and bias.grad is not None:
            buffer = member.optimizer.state[bias]["momentum_buffer"]
            if torch.equal(buffer, bias.grad):
                anew.add(step - 1)
    assert anew == ({0, 3, 6} if fresh else {0})


def test_partial_growth_counts_as_densities_do_where_layers_share_tensors() -> None:
    """0.3 of the full network's weights, in the fewer that there are; full growth takes all of these."""
    for grown in (0.3, 1.0):
        method = turns(2, 2, 2, grown=grown)
        member = run(Member.build(recipe_of(ShareWeights(), method, model="resnet-20"), 0, TASK), 1)
        masks = member.masks
        own = method.partition.groups(masks.shapes)[0]
        there = sum(param.numel() for param in masks.params.values())
        assert masks.total > 1.2 * there
        for name in own:
            size = masks.params[name].numel()
            assert masks.counts[name] == pytest.approx(min(1.0, grown * masks.total / there) * size, abs=1)


def test_partial_growth_reaches_its_density_at_random_places() -> None:
    method = turns(1, 2, 2, grown=0.3)
    member = run(Member.build(recipe_of(method), 0, TASK), 3)
    assert member.masks.density == pytest.approx(0.3, abs=1e-4)
    other = run(Member.build(recipe_of(method), 0, TASK), 3)
    assert other.masks.digest() == member.masks.digest()
    assert run(member, 1).masks.alive == round(0.1 * member.masks.total)


# --- what pruning does (4)


def test_the_largest_of_each_tensor_stay() -> None:
    witness = Witness()
    member = run(Member.build(recipe_of(witness, turns()), 0, TASK), 4)
    for name, before in witness.seen[-1].items():
        kept = before.abs().flatten().topk(member.masks.counts[name]).indices
        mask = torch.zeros(before.numel(), dtype=torch.bool).index_fill(0, kept, True).view(before.shape)
        assert torch.equal(member.masks.tensors[name], mask)
        assert torch.equal(member.masks.params[name].detach(), before * mask)


@pytest.mark.parametrize("scope", ["uniform", "erk", "global"])
def test_pruning_again_changes_nothing(scope: str) -> None:
    member = run(Member.build(recipe_of(turns(scope=scope)), 0, TASK), 4)
    digest, alive = member.masks.digest(), member.masks.alive
    prune(member.masks, 0.1, scope, member.optimizer)
    assert (member.masks.digest(), member.masks.alive) == (digest, alive)
    assert alive == round(0.1 * member.masks.total)


def test_a_global_budget_moves_between_layers() -> None:
    member = Member.build(recipe_of(turns(scope="global")), 0, TASK)
    before = dict(member.masks.counts)
    run(member, 12)
    assert member.masks.alive == sum(before.values())
    assert member.masks.counts != before


def test_the_share_of_replaced_weights_is_told() -> None:
    method = turns()
    member = run(Member.build(recipe_of(method), 0, TASK), 6)
    before = {name: mask.clone() for name, mask in member.masks.tensors.items()}
    run(member, 2)
    first = method.partition.groups(member.masks.shapes)[0]
    measured = method.measure_layers(member)
    for name in first:
        gone = int((before[name] & ~member.masks.tensors[name]).sum())
        assert measured[name]["changed"] == gone / member.masks.counts[name]
    assert any(measured[name]["changed"] > 0 for name in first)
    assert method.measure(member) == {"phase": 3.0}


def test_a_global_budget_replaces_weights_of_layers_that_were_not_grown() -> None:
    method = turns(scope="global")
    member = Member.build(recipe_of(method), 0, TASK)
    had = dict(member.masks.counts)
    run(member, 1)
    before = {name: mask.clone() for name, mask in member.masks.tensors.items()}
    grown = method.partition.groups(member.masks.shapes)[0]
    run(member, 1)
    measured = method.measure_layers(member)
    lost = {name: int((mask & ~member.masks.tensors[name]).sum()) for name, mask in before.items()}
    others = [name for name in before if name not in grown]
    assert any(lost[name] for name in others)
    for name in others:
        assert measured[name]["changed"] == pytest.approx(lost[name] / int(before[name].sum()))
    (note,) = (note for note in member.take_notes() if note.kind == "prune")
    assert note.message == ", ".join(grown)
    # a layer counts for as much as it had alive, not for its size
    gone = sum(measured[name]["changed"] * count for name, count in had.items())
    assert note.numbers["changed"] == pytest.approx(gone / sum(had.values()))


# --- special cases (7, 8)


def by_hand(recipe: Recipe, seed: int, dense: tuple[int, ...], fine_tune: int) -> nn.Module:
    """Dense training and one-shot pruning, over and over, in plain torch: a new optimizer each time."""
    model = Member.build(replace(recipe, methods=()), seed, TASK).model.train()
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    step = 0

    def fit(steps: int, masks: list[Tensor] | None) -> None:
        nonlocal step
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(steps):
            optimizer.zero_grad()
            images, labels = Toy().batch(seed, step, BATCH)
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            cut(masks or [])
            step += 1

    @torch.no_grad()
    def cut(masks: list[Tensor]) -> None:
        for weight, mask in zip(weights, masks, strict=False):
            weight.mul_(mask)

    masks: list[Tensor] = []
    for steps in dense:
        fit(steps, None)
        masks = [
            weight.abs() >= weight.abs().flatten().topk(weight.numel() // 10).values[-1] for weight in weights
        ]
        cut(masks)
    fit(fine_tune, masks)
    return model


@pytest.mark.parametrize("dense", [(4, 4), (8,), (3, 3, 2)])
def test_one_partition_is_dense_training_and_one_shot_pruning_over_and_over(dense: tuple[int, ...]) -> None:
    edges = [0, *(sum(dense[: i + 1]) for i in range(len(dense)))]
    phases = Phases(tuple(pairwise(edges)))
    recipe = recipe_of(GrowPrune(0.1, Partition(1), phases, initial="magnitude"), model="lenet-300-100")
    member = run(Member.build(recipe, 3, TASK), 12)
    expected = by_hand(recipe, 3, dense, 4)
    for (name, param), other in zip(member.model.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(param, other, msg=name)
    assert member.masks.alive == 8860


def test_without_phases_it_is_the_pruned_initialisation_fine_tuned() -> None:
    member = Member.build(recipe_of(GrowPrune(0.1, Partition(3), Phases(), initial="magnitude")), 0, TASK)
    dense = Member.build(recipe_of(), 0, TASK)
    for name, param in dense.masks.params.items():
        kept = param.detach().abs().flatten().topk(member.masks.counts[name]).values[-1]
        assert torch.equal(
            member.masks.params[name].detach(), param.detach() * (param.detach().abs() >= kept)
        )
    digest = member.masks.digest()
    assert run(member, 3).masks.digest() == digest


def test_the_first_partition_keeps_its_initial_weights_where_the_code_does() -> None:
    method = turns(initial="magnitude")
    member, dense = (Member.build(recipe_of(*methods), 0, TASK) for methods in ((method,), ()))
    first = method.partition.groups(member.masks.shapes)[0]
    for name, param in member.masks.params.items():
        assert torch.equal(param, dense.masks.params[name]) == (name in first)
    run(member, 1)
    assert all(not member.masks.is_sparse(name) for name in first)
    assert run(member, 1).masks.alive == round(0.1 * member.masks.total)


def test_acdc_has_the_timetable_of_its_imagenet_runs() -> None:
    """The epochs of 100 in the authors' configuration: pruned at 10, 20, ..., 70 and 85, restored at 15, 25,
    ..., 65 and 75.
    """
    (method,) = acdc(0.1, 100)
    assert isinstance(method, GrowPrune)
    spans = method.phases.spans
    assert [end for _, end in spans] == [10, 20, 30, 40, 50, 60, 70, 85]
    assert [begin for begin, _ in spans] == [0, 15, 25, 35, 45, 55, 65, 75]
    assert (method.partition.parts, method.scope, method.initial) == (1, "global", "magnitude")
    recipe = recipe_of(*acdc(0.1, 20), steps=20)
    assert [recipe.density_at(n) for n in (0, 1, 2, 3, 4, 15, 16, 17, 20)] == [
        1,
        1,
        0.1,
        0.1,
        0.1,
        0.1,
        1,
        0.1,
        0.1,
    ]


def test_one_shot_prunes_once() -> None:
    recipe = recipe_of(*one_shot(0.1, 20), steps=20, model="lenet-300-100")
    member = Member.build(recipe, 0, TASK)
    alive = [member.masks.alive for _ in go(member, Toy(), 20)]
    assert alive == [88_600] * 17 + [8860] * 4
    assert grown_layers(member) == [["1.weight", "3.weight", "5.weight"]]


def test_gap_fills_what_fine_tuning_leaves_with_phases() -> None:
    """The recollected ImageNet run: 28 phases of 30 epochs, 150 to fine-tune, 990 together."""
    method = gap(0.2, 990, fine_tune=150 / 990)[0]
    assert isinstance(method, GrowPrune)
    assert method.phases == Phases.regular(30, 28)
    assert method.partition == Partition(4)
    longer = gap(0.2, 990, parts=3, length=100)[0]
    assert isinstance(longer, GrowPrune)
    assert longer.phases == Phases.regular(100, 8)
    short = gap(0.2, 60)[0]
    assert isinstance(short, GrowPrune)
    assert short.phases == Phases.regular(1, 28)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gap(0.1, 100, length=1000), r"length=1000 do not fit into the 85 steps .*1 to 85"),
        (lambda: gap(0.1, 100, length=0), "length=0 do not fit"),
        (lambda: gap(0.1, 100, length=-5), "length=-5 do not fit"),
        (lambda: gap(0.1, 100, fine_tune=1.0), r"fine_tune=1\.0 is no share"),
        (lambda: gap(0.1, 100, parts=0), "parts=0"),
        (lambda: one_shot(0.1, 100, fine_tune=-0.1), r"fine_tune=-0\.1 is no share"),
        (lambda: one_shot(0.1, 10, fine_tune=0.99), r"fine_tune=0\.99 leaves none of the 10 steps"),
        (lambda: acdc(0.1, 10), "10 steps are fewer"),
    ],
)
def test_timetables_that_hold_no_phase_are_refused(make: Callable[[], object], message: str) -> None:
    """They would train a random mask that never changes, and be called grow-and-prune."""
    with pytest.raises(ValueError, match=message):
        make()


# --- costs, states of others, settings


def test_training_flops_are_those_of_what_was_alive() -> None:
    member = run(Member.build(recipe_of(turns(), model="lenet-300-100"), 0, TASK), 12)
    # a layer's multiply-adds are its weights; 57,600, 30,000 and 1,000 of them, 10% alive unless grown
    alive = [8860 + 51_840, 8860 + 27_000, 8860 + 900, 8860 + 51_840, 8860 + 27_000, 8860]
    assert member.train_flops == 3 * 2 * BATCH * 2 * sum(alive)


def test_a_state_from_longer_phases_is_pruned() -> None:
    donor = run(Member.build(recipe_of(turns(2, 11, 1)), 0, TASK), 9)
    assert donor.masks.density > 0.4
    receiver = Member.restore(recipe_of(turns(2, 2, 3)), 1, TASK, donor.state())
    assert run(receiver, 1).masks.alive == round(0.1 * receiver.masks.total)
    middle = Member.restore(recipe_of(turns(2, 1, 12)), 1, TASK, donor.state())
    assert run(middle, 1).masks.alive == round(0.1 * middle.masks.total)


def test_reports_at_the_edge_of_a_phase_score_the_sparse_network() -> None:
    member = Member.build(recipe_of(turns()), 0, TASK)
    reports = list(train(member, Toy(), every=2))
    assert {report.alive for report in reports} == {round(0.1 * member.masks.total)}
    kinds = [[note.kind for note in report.notes] for report in reports]
    assert kinds == [["grow", "prune"]] * 5 + [[]]
    assert [note.numbers["phase"] for r in reports for note in r.notes if note.kind == "grow"] == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_the_learning_rate_restarts_with_the_phases() -> None:
    rate = Restarts(Cosine(0.1, 0.0, 2), 2, 5, Cosine(0.1, 0.0, 2))
    recipe = replace(recipe_of(turns()), optimizer=SGD(rate))
    member = Member.build(recipe, 0, TASK)
    assert [report.lr for report in train(member, Toy(), every=1)] == pytest.approx([0.1, 0.05] * 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0.0}, r"got 0\.0"),
        ({"scope": "layer"}, "'layer'"),
        ({"initial": "zero"}, "'zero'"),
        ({"order": "backwards"}, "'backwards'"),
        ({"grown": 0.05}, r"grown=0\.05 is below density=0\.1"),
        ({"grown": 1.5}, r"grown density.*1\.5"),
        ({"partition": 2}, r"2 is no Partition: give one, such as Partition\(4\)"),
        ({"phases": [(0, 10)]}, r"\[\(0, 10\)\] is no Phases: give one, such as Phases\.regular"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GrowPrune(**{"density": 0.1, "partition": Partition(2), "phases": Phases.regular(2, 2), **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"own": 2}, "own=2 is none of the 2"), ({"rounds": Phases(((0, 2), (3, 5)))}, "one upon the other")],
)
def test_parts_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    usual = {"density": 0.1, "partition": Partition(2), "own": 0, "rounds": Phases.regular(2, 2)}
    with pytest.raises(ValueError, match=message):
        PartitionGrow(**{**usual, **settings})


@pytest.mark.parametrize(
    "method",
    [
        turns(11),
        GrowPrune(0.1, Partition(11), Phases.regular(2, 2, 3), initial="magnitude"),
        PartitionGrow(0.1, Partition(11), 0, Phases.regular(1, 1)),
    ],
)
def test_a_network_with_too_few_layers_is_refused_at_the_start(method: Method) -> None:
    with pytest.raises(ValueError, match="11 partitions are more than the 10 layers"):
        Member.build(recipe_of(method), 0, TASK)


def test_phases_that_outlast_the_run_are_refused() -> None:
    with pytest.raises(ValueError, match="at step 14, after the last step 12"):
        recipe_of(turns(2, 7, 2))


# --- the config


def test_the_config_builds_and_trains_every_member() -> None:
    experiment = load(str(CONFIG), smoke=True)
    data = open_data(experiment.data)
    recipes = [experiment.recipe(dict(start.hp)) for start in experiment.starts()]
    assert len({(r.steps, r.density, r.model) for r in recipes}) == 1
    for recipe in recipes:
        run(Member.build(recipe, 0, Task(data.shape, data.classes)), 3, data)  # type: ignore[arg-type]


def test_the_config_searches_partitions_epochs_and_order() -> None:
    experiment = load(str(CONFIG))
    assert set(experiment.search.space) == {"parts", "epochs", "order"}  # type: ignore[union-attr]
    for start in experiment.starts():
        recipe = experiment.recipe(dict(start.hp))
        method = next(m for m in recipe.methods if isinstance(m, GrowPrune))
        rate = recipe.optimizer.lr
        assert isinstance(rate, Restarts)
        begins = [begin for begin, _ in method.phases.spans]
        assert [rate(step) for step in (*begins, method.phases.end)] == pytest.approx(
            [0.1] * (len(begins) + 1)
        )
        assert rate(recipe.steps - 1) < 1e-3


# --- BatchNorm where a phase ends (pitfall 8)


def test_a_report_at_the_end_of_a_phase_scores_the_pruned_network_with_its_own_statistics() -> None:
    recipe = recipe_of(turns())
    member, plain = (Member.build(recipe, 0, TASK) for _ in range(2))
    (report,) = train(member, Toy(), every=2, until=2)
    run(plain, 2)
    # nothing but the score, and what it is a score of is the network after its first prune
    assert_same(member.state()["model"], plain.state()["model"])
    assert report.train_flops == plain.train_flops
    stale = evaluate(plain, own_part(plain, Toy(), "validation"))
    recalibrate_member(plain, Toy(), FRESH)
    fresh = evaluate(plain, own_part(plain, Toy(), "validation"))
    assert report.validation == fresh != stale


@pytest.mark.parametrize(("since", "fresh"), [(1, True), (STALE - 1, True), (STALE, False)])
def test_statistics_are_fresh_until_the_running_ones_have_caught_up(since: int, fresh: bool) -> None:
    recipe = recipe_of(turns(length=2, count=1), steps=100)
    member, plain = (Member.build(recipe, 0, TASK) for _ in range(2))
    *_, report = train(member, Toy(), every=2 + since, until=2 + since)
    run(plain, 2 + since)
    with fresh_statistics(plain, Toy()) if fresh else nullcontext():
        assert report.validation == evaluate(plain, own_part(plain, Toy(), "validation"))


def test_without_fine_tuning_the_last_network_has_its_own_statistics() -> None:
    recipe = recipe_of(turns(count=6))
    member, plain = (Member.build(recipe, 0, TASK) for _ in range(2))
    *_, report = train(member, Toy(), every=12)
    run(plain, 12)
    recalibrate_member(plain, Toy(), FRESH)
    assert_same(member.state()["model"], plain.state()["model"])
    assert report.test == evaluate(member, own_part(member, Toy(), "test"))
    assert report.train_flops == plain.train_flops

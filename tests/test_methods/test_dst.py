"""DST's facts: sizes, regulariser, resets, extraction, reports (Liu et al. 2020 and the published code)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsepop.data import open_data
from sparsepop.ledger import learnables
from sparsepop.masks import prunable_names
from sparsepop.member import Member, Task
from sparsepop.methods import Cut, Method, Thresholds, Toward
from sparsepop.methods.dst import most_collapsed, regulariser
from sparsepop.models import build
from sparsepop.optim import SGD, AdamW
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cyclic, Linear, Milestones
from sparsepop.train import Report, train
from tests.cases import BATCH, TASK, Toy, run
from tests.test_methods.small import eight


def member_of(
    *methods: Method, model: str = "lenet-300-100", seed: int = 1, steps: int = 12, **more: Any
) -> Member:
    return Member.build(Recipe(model, steps, methods, batch=BATCH, **more), seed, TASK)


def threshold(member: Member, layer: str = "") -> nn.Parameter:
    return member.model.get_parameter(f"{layer}.threshold" if layer else "threshold")


def regularise(member: Member, steps: int = 1) -> Tensor:
    """Steps whose loss is the regulariser alone; the threshold after them."""
    (method,) = member.recipe.methods
    for _ in range(steps):
        member.optimizer.zero_grad()
        penalty = method.penalty(member)
        assert penalty is not None
        penalty.backward()
        member.optimizer.step()
    return threshold(member).detach()


def sizes(member: Member) -> Tensor:
    return torch.tensor([float(mask.sum()) for mask in member.masks.tensors.values()])


# --- thresholds


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("lenet-300-100", (1, 28, 28), 410),
        ("lenet-5", (1, 28, 28), 580),
        ("wrn-16-8", (3, 32, 32), 4_506),
        ("wrn-16-10", (3, 32, 32), 5_626),
        ("wrn-28-8", (3, 32, 32), 8_090),
        # published with a hidden layer of 512 units before the classifier
        ("vgg-16", (3, 32, 32), 4_746 - 512),
    ],
)
def test_there_are_as_many_thresholds_as_published(
    name: str, shape: tuple[int, int, int], count: int
) -> None:
    model = build(name, shape, 10)
    names = prunable_names(model)
    plain = sum(param.numel() for param in model.parameters())
    Thresholds(1e-6).surgery(model, names)
    assert sum(param.numel() for param in model.parameters()) == plain + count
    weights = [model.get_parameter(each) for each in names]
    assert learnables(model, weights)["threshold"] == count


@pytest.mark.parametrize(("granularity", "count"), [("scalar", 3), ("vector", 410), ("matrix", 88_600)])
def test_granularities_start_at_zero_thresholds(granularity: str, count: int) -> None:
    member = member_of(Thresholds(1e-6, granularity))
    found = [param for name, param in member.model.named_parameters() if name.endswith("threshold")]
    assert sum(param.numel() for param in found) == count
    assert not any(param.any() for param in found)


def test_layers_that_stay_dense_get_no_threshold() -> None:
    member = member_of(Thresholds(1e-6), keep_dense=("5.weight",))
    assert [n for n, _ in member.model.named_parameters() if "threshold" in n] == [
        "1.threshold",
        "3.threshold",
    ]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_thresholds_take_steps_that_bfloat16_would_lose(precision: str) -> None:
    optimizer = SGD(0.1, momentum=0.0)
    member = member_of(Thresholds(1e-3, floor=None), optimizer=optimizer, precision=precision)
    with torch.no_grad():
        threshold(member, "1").fill_(1.6)  # far above all weights: no gradient but the regulariser's
    run(member, 1)
    moved = threshold(member, "1").detach().double() - 1.6
    torch.testing.assert_close(moved, torch.full_like(moved, 1e-4 * math.exp(-1.6)), rtol=0, atol=2e-7)
    assert threshold(member, "1").dtype == (torch.float64 if precision == "float64" else torch.float32)


# --- the regulariser


def test_without_alpha_and_gradient_thresholds_stay() -> None:
    member = eight(Thresholds(0.0))
    with torch.no_grad():
        threshold(member).fill_(0.25)
    assert regularise(member, 5).item() == 0.25


def test_one_step_of_the_regulariser_is_the_learning_rate_times_alpha() -> None:
    assert regularise(eight(Thresholds(0.5), optimizer=SGD(0.25))).item() == 0.125


def test_every_threshold_of_every_layer_weighs_the_same() -> None:
    member = member_of(Thresholds(2.0))
    method = member.recipe.methods[0]
    penalty = method.penalty(member)
    assert penalty is not None
    assert penalty.item() == 2.0 * 410


def test_with_weight_decay_thresholds_settle_at_lamberts_w() -> None:
    """t e^t = alpha / decay, solved here by Newton's method."""
    settled = regularise(eight(Thresholds(0.05), optimizer=SGD(0.1, weight_decay=0.1)), 500).item()
    root = 0.5
    for _ in range(20):
        root -= (root * math.exp(root) - 0.5) / (math.exp(root) * (1 + root))
    assert settled == pytest.approx(root, rel=1e-5)


@pytest.mark.parametrize("granularity", ["scalar", "vector", "matrix"])
def test_thresholds_are_spared_weight_decay_by_choice_alone(granularity: str) -> None:
    optimizer = SGD(0.1, momentum=0.0, weight_decay=0.5, decay_norms=False)
    for decay, left in ((True, 0.95), (False, 1.0)):
        member = eight(Thresholds(0.0, granularity, decay=decay), optimizer=optimizer)
        with torch.no_grad():
            threshold(member).fill_(1.0)
        torch.testing.assert_close(regularise(member), torch.full_like(threshold(member), left))


def test_the_regulariser_overflows_nowhere() -> None:
    thresholds = torch.tensor([-1e30, -200.0, -10.001, -9.999, 0.0, 50.0], requires_grad=True)
    values = torch.stack([regulariser(each) for each in thresholds])
    assert values.isfinite().all()
    assert values[2:4].tolist() == pytest.approx([math.exp(10) * 1.001, math.exp(9.999)], rel=1e-6)
    regulariser(thresholds).backward()
    steepest = -math.exp(10)
    wanted = [steepest, steepest, steepest, -math.exp(9.999), -1.0, -math.exp(-50)]
    assert thresholds.grad is not None
    assert thresholds.grad.tolist() == pytest.approx(wanted, rel=1e-5)


def test_alpha_may_be_a_schedule() -> None:
    member = member_of(Thresholds(Milestones(1.0, (2,), 0.5)))
    found = []
    for _ in range(3):
        found.append(member.recipe.methods[0].measure(member)["alpha"])
        run(member, 1)
    assert found == [1.0, 1.0, 0.5]


# --- resets


def collapsing(alive: int, floor: float | None) -> tuple[Member, int]:
    """A member of 1,000 weights before a classifier, of which `alive` are above their thresholds; resets."""
    recipe = Recipe("two layers", 5, (Thresholds(0.0, floor=floor),), SGD(0.1))
    model = nn.Sequential(nn.Flatten(), nn.Linear(100, 10), nn.Linear(10, 3))
    member = Member(recipe, 0, Task((1, 10, 10), 3), model, torch.device("cpu"))
    method = recipe.methods[0]
    method.start(member)
    weight = torch.full((1000,), 0.5)
    weight[:alive] = 2.0
    with torch.no_grad():
        member.masks.params["1.weight"].copy_(weight.view(10, 100))
        threshold(member, "1").fill_(1.0)
        threshold(member, "2").fill_(0.01)
    method.after_step(member)
    return member, int(method.measure(member)["resets"])


@pytest.mark.parametrize(
    ("alive", "floor", "resets"),
    [(10, 0.01, 1), (11, 0.01, 0), (0, 0.01, 1), (10, 0.009, 0), (1, 0.0, 0), (0, 0.0, 1), (0, None, 0)],
)
def test_a_layer_at_or_below_the_floor_starts_over(alive: int, floor: float | None, resets: int) -> None:
    member, found = collapsing(alive, floor)
    assert found == resets
    assert threshold(member, "1").tolist() == [0.0 if resets else 1.0] * 10
    assert threshold(member, "2").tolist() == pytest.approx([0.01] * 3)
    assert member.masks.counts["1.weight"] == (1000 if resets else alive)


def test_after_a_reset_the_layer_is_the_dense_one() -> None:
    member, _ = collapsing(0, 0.01)
    x = torch.randn(4, 100)
    layer = member.model.get_submodule("1")
    plain = nn.functional.linear(x, member.masks.params["1.weight"], layer.get_parameter("bias"))
    assert torch.equal(layer(x), plain)
    assert threshold(member, "1").grad is None


def test_a_reset_is_told_once_and_counted() -> None:
    member, _ = collapsing(5, 0.01)
    method = member.recipe.methods[0]
    (note,) = member.take_notes()
    assert (note.kind, dict(note.numbers)) == ("reset", {"times": 1.0})
    assert "1.weight" in note.message
    assert method.measure_layers(member)["1.weight"]["resets"] == 1.0
    assert method.measure_layers(member)["2.weight"]["resets"] == 0.0
    method.measure(member)
    assert member.take_notes() == ()
    with torch.no_grad():
        threshold(member, "1").fill_(9.0)
    for _ in range(2):
        method.after_step(member)
        with torch.no_grad():
            threshold(member, "1").fill_(9.0)
    assert method.measure(member)["resets"] == 3.0
    assert dict(member.take_notes()[0].numbers) == {"times": 2.0}


def test_the_reset_leaves_weights_and_momentum() -> None:
    member, _ = collapsing(0, None)
    method = Thresholds(0.0, floor=0.5)
    assert isinstance(member.recipe.methods[0], Thresholds)
    param = threshold(member, "1")
    member.optimizer.state[param]["momentum_buffer"] = torch.ones(10)
    weight = member.masks.params["1.weight"].detach().clone()
    object.__setattr__(member.recipe, "methods", (method,))
    member.memory = {}
    method.start(member)
    method.after_step(member)
    assert not param.any()
    assert member.optimizer.state[param]["momentum_buffer"].tolist() == [1.0] * 10
    assert torch.equal(member.masks.params["1.weight"], weight)


@pytest.mark.parametrize("size", [1, 99, 100, 101, 1000, 5700, 235_200])
def test_the_floor_is_exact_in_whole_weights(size: int) -> None:
    assert most_collapsed(0.01, size) == size // 100
    assert most_collapsed(0.07, size) == 7 * size // 100


# --- extraction


@pytest.mark.parametrize("model", ["lenet-300-100", "wrn-10-1", "lstm-a"])
def test_the_extracted_network_has_the_same_outputs(model: str) -> None:
    member = run(member_of(Thresholds(0.05), model=model, steps=13, optimizer=SGD(0.2)), 12)
    member.recipe.methods[0].measure(member)
    alive, density = dict(member.masks.counts), member.masks.density
    assert 0.0 < density < 1.0
    images, _ = Toy().batch(9, 0, 16)
    member.model.eval()
    with torch.no_grad():
        before = member.model(images)
        member.recipe.methods[0].finish(member, Toy())
        assert torch.equal(member.model(images), before)
    assert {name: int(param.count_nonzero()) for name, param in member.masks.params.items()} == alive
    assert member.masks.counts == alive
    assert member.masks.enforced
    bare = build(model, TASK.shape, TASK.classes)
    bare.load_state_dict(member.model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(bare.eval()(images), before)


def test_masks_are_taken_from_the_last_step_not_from_the_last_report() -> None:
    member = member_of(Thresholds(0.05))
    member.recipe.methods[0].measure(member)
    run(member, 6)
    wanted = {
        name: param.detach().abs() > member.model.get_parameter(name.replace("weight", "threshold"))[:, None]
        for name, param in member.masks.params.items()
    }
    member.recipe.methods[0].finish(member, Toy())
    assert all(torch.equal(mask, wanted[name]) for name, mask in member.masks.tensors.items())


def test_the_optimizer_forgets_thresholds_and_pruned_momentum() -> None:
    member = run(member_of(Thresholds(0.05), optimizer=AdamW(0.01)), 5)
    kept = member.optimizer.state[member.masks.params["1.weight"]]["exp_avg"].clone()
    member.recipe.methods[0].finish(member, Toy())
    known = {param for group in member.optimizer.param_groups for param in group["params"]}
    assert known == set(member.model.parameters())
    buffer = member.optimizer.state[member.masks.params["1.weight"]]["exp_avg"]
    mask = member.masks.tensors["1.weight"]
    assert 0 < mask.sum() < mask.numel()
    assert torch.equal(buffer, kept * mask)


# --- states of other phases and granularities


def same_future(recipe: Recipe, own_steps: int, donor: Member, steps: int) -> Member:
    """`donor`'s state taken over by a living and by a restored member, which agree after `steps` more."""
    living = run(Member.build(recipe, 2, TASK), own_steps)
    living.load(donor.state())
    restored = Member.restore(recipe, 2, TASK, donor.state())
    for receiver in (living, restored):
        assert receiver.masks.enforced == donor.masks.enforced
        run(receiver, steps)
    states = [receiver.state() for receiver in (living, restored)]
    for part in ("model", "masks"):
        one, other = (state[part].get("tensors", state[part]) for state in states)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    return living


@pytest.mark.parametrize(("own_steps", "donor_steps"), [(7, 2), (2, 7)])
def test_a_state_from_the_other_side_of_the_cut_can_be_taken_over(own_steps: int, donor_steps: int) -> None:
    recipe = Recipe("lenet-300-100", 12, (Thresholds(0.05), Cut(0.1, 5)), SGD(0.05, weight_decay=1e-3), BATCH)
    donor = run(Member.build(recipe, 1, TASK), donor_steps)
    receiver = same_future(recipe, own_steps, donor, 12 - donor_steps)
    assert receiver.masks.alive == round(0.1 * receiver.masks.total)
    assert len(receiver.optimizer.param_groups[0]["params"]) == 6
    assert receiver.optimizer.param_groups[0]["weight_decay"] == 1e-3


def test_who_takes_over_a_state_takes_its_granularity() -> None:
    own, theirs = (
        Recipe("lenet-300-100", 12, (Thresholds(alpha, granularity),), batch=BATCH)
        for alpha, granularity in ((Toward(0.1, 6), "matrix"), (0.05, "vector"))
    )
    donor = run(Member.build(theirs, 1, TASK), 3)
    receiver = same_future(own, 2, donor, 3)
    assert threshold(receiver, "1").shape == (300,)
    assert "control" in receiver.memory_of(own.methods[0])


# --- reports


def test_reports_tell_thresholds_flips_and_empty_units() -> None:
    member = member_of(Thresholds(0.05))
    method = member.recipe.methods[0]
    run(member, 3)
    method.measure(member)
    old = {name: mask.clone() for name, mask in member.masks.tensors.items()}
    with torch.no_grad():
        threshold(member, "1")[0] = 9.0
        threshold(member, "1")[1:].mul_(0.5)
    numbers = method.measure(member)
    layers = method.measure_layers(member)
    new = member.masks.tensors
    came = {name: int((new[name] & ~old[name]).sum()) for name in new}
    gone = {name: int((old[name] & ~new[name]).sum()) for name in new}
    assert came["1.weight"] > 0
    assert gone["1.weight"] == int(old["1.weight"][0].sum())
    assert numbers == {
        "alpha": 0.05,
        "resets": 0.0,
        "recovered": float(sum(came.values())),
        "gone": float(sum(gone.values())),
    }
    for name, found in layers.items():
        values = threshold(member, name.removesuffix(".weight")).detach()
        assert found["recovered"] == came[name]
        assert found["gone"] == gone[name]
        assert found["threshold_mean"] == pytest.approx(values.double().mean().item(), rel=1e-5)
        assert [found["threshold_min"], found["threshold_max"]] == [values.min().item(), values.max().item()]
        assert found["empty_units"] == int((~new[name]).all(1).sum())
    assert layers["1.weight"]["empty_units"] == 1.0


def test_the_density_is_that_of_all_masked_weights_together() -> None:
    member = member_of(Thresholds(0.05), model="wrn-10-1", steps=4)
    *_, report = train(member, Toy(), every=2)
    zeros = sum(int((param == 0).sum()) for param in member.masks.params.values())
    assert report.prunable == sum(param.numel() for param in member.masks.params.values())
    assert report.density == pytest.approx(1 - zeros / report.prunable)
    assert report.density == pytest.approx(
        sum(layer.size * (layer.alive / layer.size) for layer in report.layers) / report.prunable
    )


def test_soft_training_is_booked_as_dense_and_its_end_is_remembered() -> None:
    member = member_of(Thresholds(0.05), Cut(0.1, 4))
    first, second, *_, last = train(member, Toy(), every=2)
    dense = 3.0 * member.costs.dense_flops * BATCH
    assert first.train_flops == 2 * dense
    assert second.train_flops == 4 * dense
    assert last.train_flops == pytest.approx(4 * dense + 8 * 3.0 * last.inference_flops * BATCH)
    assert last.inference_flops < 0.5 * last.dense_flops
    assert first.learnables["threshold"] == 410
    assert "threshold" not in last.learnables
    assert [note.kind for note in second.notes] == ["cut"]
    assert last.layers[0].numbers["threshold_mean"] == second.layers[0].numbers["threshold_mean"] != 0.0
    assert last.numbers == {"resets": 0.0}


# --- values


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Thresholds(0.1, "row"), r"unknown granularity 'row': choose one of scalar, vector, matrix"),
        (
            lambda: Thresholds(0.1, floor=1.0),
            r"floor must lie in \[0, 1\), or be None for no resets, got 1.0",
        ),
        (lambda: Thresholds(-0.1), r"alpha must not be negative, got -0.1"),
        (lambda: Thresholds(Linear(0.1, -1.0, 10)), r"alpha must not be negative, got -1.0"),
        (lambda: Thresholds(Cyclic(-0.1, 4)), r"alpha must not be negative, got -0.1"),
    ],
)
def test_bad_values_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- short trainings: the paper's claims in their direction


def digits(
    alpha: float, granularity: str = "vector", *, decay: float = 0.0, steps: int = 500
) -> list[Report]:
    data = open_data("digits")
    optimizer = SGD(0.05, weight_decay=decay)
    recipe = Recipe("lenet-300-100", steps, (Thresholds(alpha, granularity),), optimizer, batch=64)
    member = Member.build(recipe, 0, Task(data.shape, data.classes))
    return list(train(member, data, every=100))


def resets(report: Report) -> float:
    return report.numbers["resets"]


def accuracy(report: Report) -> float:
    assert report.test is not None
    return report.test.accuracy


@pytest.mark.slow
def test_more_alpha_leaves_fewer_weights_until_layers_collapse() -> None:
    runs = {alpha: digits(alpha) for alpha in (0.0, 1e-3, 3e-3, 3e-2)}
    left = [runs[alpha][-1].density for alpha in (0.0, 1e-3, 3e-3)]
    assert left[0] > 0.95 > 0.4 > left[1] > 2 * left[2]
    assert all(accuracy(reports[-1]) > 0.95 for reports in runs.values())
    assert [resets(runs[alpha][-1]) for alpha in (0.0, 1e-3, 3e-3)] == [0, 0, 0]
    assert resets(runs[3e-2][-1]) > 10
    # the layers' order, and that weights come back
    first, second, output = (layer.alive / layer.size for layer in runs[3e-3][-1].layers)
    assert first < second < output
    assert sum(report.numbers.get("recovered", 0.0) for report in runs[3e-3]) > 0


@pytest.mark.slow
def test_more_steps_leave_fewer_weights() -> None:
    reports = digits(1e-3, steps=800)
    left = [report.density for report in reports]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.8 * left[4]


@pytest.mark.slow
def test_a_forced_collapse_is_survived() -> None:
    reports = digits(0.3)
    assert resets(reports[-1]) > 100
    assert all(math.isfinite(report.train_loss) for report in reports)
    assert accuracy(reports[-1]) > 0.8


@pytest.mark.slow
def test_granularity_and_weight_decay_move_the_density_as_measured() -> None:
    vector = digits(1e-3)[-1].density
    assert digits(1e-3, "scalar")[-1].density > 0.9 > 2 * vector
    assert digits(1e-3, "matrix")[-1].density < 0.5 * vector
    assert digits(1e-3, decay=1e-2)[-1].density > 1.5 * vector

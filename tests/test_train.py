"""The loop: it learns, reports when asked to, and one masked step is the closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from sparsepop.data import open_data
from sparsepop.member import Member, Note, Task
from sparsepop.methods import Method, Static, rigl, static
from sparsepop.methods.base import Batches
from sparsepop.optim import SGD, AdamW
from sparsepop.outputs import Score, evaluate
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Linear
from sparsepop.train import Layer, Report, train, train_step
from tests.cases import BATCH, CASES, STEPS, TASK, Toy, run

RECIPE = CASES["static"].recipe


@pytest.mark.parametrize(
    ("methods", "optimizer"),
    [
        ((), SGD(0.1)),
        (rigl(0.1, 300, interval=20), SGD(Cosine(0.2, 0.0, 300), nesterov=True)),
        (static(0.1), AdamW(3e-3)),
    ],
    ids=["dense", "rigl", "static-adamw"],
)
def test_digits_are_learned(methods: tuple[Method, ...], optimizer: SGD | AdamW) -> None:
    data = open_data("digits")
    recipe = Recipe("lenet-300-100", 300, methods, optimizer, batch=64)
    first, *_, last = train(Member.build(recipe, 0, Task(data.shape, data.classes)), data, every=60)
    assert last.train_loss < first.train_loss
    assert last.validation.accuracy > 0.9
    assert last.test is not None
    assert last.test.accuracy > 0.9
    assert last.epoch == pytest.approx(300 / data.steps_per_epoch(64))


# --- reports


def test_reports_come_at_multiples_and_at_the_end() -> None:
    member = Member.build(RECIPE, 0, TASK)
    assert [report.step for report in train(member, Toy(), every=4, until=6)] == [4, 6]
    assert [report.step for report in train(member, Toy(), every=4, until=6)] == []
    reports = list(train(member, Toy(), every=5, until=99))
    assert [report.step for report in reports] == [10, 12]
    assert [report.final for report in reports] == [False, True]
    assert list(train(member, Toy(), every=5)) == []


def test_stopping_at_a_report_leaves_the_member_there() -> None:
    member = Member.build(RECIPE, 0, TASK)
    report = next(train(member, Toy(), every=3))
    assert (member.step, report.step) == (3, 3)


@pytest.mark.parametrize("every", [0, -3])
def test_an_interval_without_steps_is_refused(every: int) -> None:
    with pytest.raises(ValueError, match=f"every={every}"):
        next(train(Member.build(RECIPE, 0, TASK), Toy(), every=every))


def test_a_report_says_what_is_there() -> None:
    recipe = replace(RECIPE, optimizer=SGD(Linear(0.1, 0.0, 10)))
    member = Member.build(recipe, 0, TASK)
    report = next(train(member, Toy(), every=5))
    weights = sum(p.numel() for p in member.model.parameters())
    assert (report.prunable, report.alive) == (77_360, 7_736)
    assert report.density == report.alive / report.prunable
    assert report.prunable + sum(report.learnables.values()) == weights
    assert report.layers == tuple(
        Layer(name, p.numel(), int(member.masks.tensors[name].sum()))
        for name, p in member.masks.params.items()
    )
    assert report.epoch == 5 / 4
    assert report.lr == pytest.approx(0.06)
    assert 0 < report.inference_flops < report.dense_flops == member.costs.dense_flops
    assert report.train_flops == pytest.approx(3 * report.inference_flops * BATCH * 5)
    assert report.bytes > 4 * weights
    assert report.seconds == member.seconds > 0
    assert (report.numbers, report.test) == ({}, None)


def test_the_train_loss_is_the_mean_since_the_last_report() -> None:
    data, recipe = Toy(), replace(RECIPE, precision="float64")
    single = [report.train_loss for report in train(Member.build(recipe, 0, TASK), data, every=1)]
    threes = [report.train_loss for report in train(Member.build(recipe, 0, TASK), data, every=3)]
    assert threes == pytest.approx([sum(single[i : i + 3]) / 3 for i in range(0, STEPS, 3)])


def test_an_interval_that_is_interrupted_has_the_whole_one_s_train_loss() -> None:
    data = Toy()
    whole = [report.train_loss for report in train(Member.build(RECIPE, 0, TASK), data, every=6)]
    first = Member.build(RECIPE, 0, TASK)
    for step in range(4):
        first.set_learning_rate()
        train_step(first, *data.batch(first.seed, step, RECIPE.batch, augment=RECIPE.augment))
    second = Member.restore(RECIPE, 0, TASK, first.state())
    assert [report.train_loss for report in train(second, data, every=6)] == whole


@dataclass(frozen=True)
class Log(Method):
    """Writes down its hooks."""

    tag: str
    seen: tuple[list[str], ...] = ([],)

    def after_backward(self, member: Member) -> None:
        self.seen[0].append(f"{self.tag} backward {member.step}")

    def penalty(self, member: Member) -> Tensor | None:
        return None if self.tag == "a" else member.masks.params["conv1.weight"].sum() * 0 + 7.0

    def after_step(self, member: Member) -> None:
        self.seen[0].append(f"{self.tag} step {member.step}")

    def finish(self, member: Member, data: Batches) -> None:
        assert data.steps_per_epoch(member.recipe.batch) > 0
        self.seen[0].append(f"{self.tag} finish {member.step}")

    def measure(self, member: Member) -> dict[str, float]:
        member.note("measured", self.tag, at=member.step)
        return {self.tag: float(member.step)}

    def measure_layers(self, member: Member) -> dict[str, dict[str, float]]:
        return {"conv1.weight": {self.tag: 1.0}}


def test_hooks_come_in_the_tuples_order_and_finish_in_reverse() -> None:
    seen: tuple[list[str], ...] = ([],)
    recipe = replace(RECIPE, steps=2, methods=(Log("a", seen), Log("b", seen)))
    last = list(train(Member.build(recipe, 0, TASK), Toy(), every=9))[-1]
    steps = [
        f"{tag} {hook} {step + (hook == 'step')}"
        for step in (0, 1)
        for hook in ("backward", "step")
        for tag in "ab"
    ]
    assert seen[0] == [*steps, "b finish 2", "a finish 2"]
    assert last.numbers == {"a": 2.0, "b": 2.0}
    assert last.notes == (Note(2, "measured", "a", {"at": 2}), Note(2, "measured", "b", {"at": 2}))
    by_layer = {layer.name: dict(layer.numbers) for layer in last.layers}
    assert by_layer.pop("conv1.weight") == {"a": 1.0, "b": 1.0}
    assert not any(by_layer.values())


# --- evaluation


class Fixed(nn.Module):
    """Logits that are the image's first pixels."""

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        return x.flatten(1)[:, :3]


def test_evaluation_averages_over_samples_not_batches() -> None:
    member = Member.build(RECIPE, 0, TASK)
    member.model = Fixed()
    logits = torch.randn(7, 3)
    images = torch.cat([logits, torch.zeros(7, 189)], 1).view(7, *TASK.shape)
    labels = logits.argmax(1)
    labels[0] = (labels[0] + 1) % 3
    score = evaluate(member, zip(images.split(5), labels.split(5), strict=True))
    expected = float(-logits.double().log_softmax(1)[torch.arange(7), labels].mean())
    assert score.loss == pytest.approx(expected, rel=1e-5)
    assert score.accuracy == pytest.approx(6 / 7)


def test_an_empty_split_has_no_score() -> None:
    score = evaluate(Member.build(RECIPE, 0, TASK), [])
    assert math.isnan(score.loss)
    assert math.isnan(score.accuracy)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_does_not_change_the_member(training: bool) -> None:
    member = run(Member.build(RECIPE, 0, TASK), 2)
    member.model.train(training)
    before = {name: value.clone() for name, value in member.model.state_dict().items()}
    assert isinstance(evaluate(member, Toy().batches("test", 7)), Score)
    assert member.model.training is training
    assert all(torch.equal(value, before[name]) for name, value in member.model.state_dict().items())


# --- precision and memory format


def settings() -> Iterator[Recipe]:
    for precision in ("float32", "bfloat16", "float64"):
        for channels_last in (False, True):
            yield replace(RECIPE, precision=precision, channels_last=channels_last)


def test_precision_and_memory_format_change_neither_counts_nor_first_masks() -> None:
    members = [Member.build(recipe, 0, TASK) for recipe in settings()]
    assert len({member.masks.digest() for member in members}) == 1
    assert len({tuple(member.masks.counts.items()) for member in members}) == 1
    assert len({member.costs.dense_flops for member in members}) == 1


@pytest.mark.parametrize(
    "recipe", list(settings()), ids=lambda each: f"{each.precision}-{each.channels_last}"
)
def test_the_first_loss_is_that_of_plain_float32(recipe: Recipe) -> None:
    def losses(recipe: Recipe) -> list[Report]:
        return list(train(Member.build(recipe, 0, TASK), Toy(), every=1, until=2))

    close = 0.05 if recipe.precision == "bfloat16" else 1e-4
    assert [r.train_loss for r in losses(recipe)] == pytest.approx(
        [r.train_loss for r in losses(RECIPE)], rel=close
    )


def test_weights_stay_float32_under_bfloat16_and_become_float64() -> None:
    members = {r.precision: Member.build(r, 0, TASK) for r in settings()}
    types = {name: {p.dtype for p in run(m, 1).model.parameters()} for name, m in members.items()}
    assert types == {"float32": {torch.float32}, "bfloat16": {torch.float32}, "float64": {torch.float64}}


# --- one step


def linear(recipe: Recipe) -> tuple[Member, Tensor, Tensor]:
    """A member that is one masked linear layer (12 -> 3) in float64, and a batch for it."""
    member = Member.build(replace(recipe, precision="float64"), 0, Task((3, 2, 2), 3))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 2, 2, generator=generator)
    return member, images, torch.tensor([0, 1, 2, 1])


@pytest.fixture
def one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))

    monkeypatch.setattr("sparsepop.member.build", make)


def closed_form(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, smoothing: float) -> list[Tensor]:
    """Gradient of the mean cross-entropy with smoothed labels, for weight and bias."""
    target = torch.full((len(y), 3), smoothing / 3, dtype=torch.float64)
    target[torch.arange(len(y)), y] += 1 - smoothing
    residual = ((x @ weight.t() + bias).softmax(1) - target) / len(y)
    return [residual.t() @ x, residual.sum(0)]


@pytest.mark.usefixtures("one_layer")
@pytest.mark.parametrize("clip", [None, 1e-3, 1e3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_masked_step_is_the_closed_form(clip: float | None, smoothing: float) -> None:
    """Clipping bounds the norm over alive weights (and the bias), so it comes after masking."""
    optimizer = SGD(0.5, momentum=0.9, weight_decay=0.01)
    recipe = Recipe("-", 9, (Static(0.5),), optimizer, 4, label_smoothing=smoothing, clip=clip)
    member, images, labels = linear(recipe)
    weight, bias = (p.detach().clone() for p in member.model.parameters())
    mask = member.masks.tensors["1.weight"]
    momentum = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for _ in range(3):
        train_step(member, images, labels)
        gradients = closed_form(weight, bias, images.double().flatten(1), labels, smoothing)
        gradients[0] = gradients[0] * mask
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        scale = 1.0 if clip is None else min(1.0, clip / (float(norm) + 1e-6))
        for i, value in enumerate((weight, bias)):
            momentum[i] = 0.9 * momentum[i] + gradients[i] * scale + 0.01 * value
            value -= 0.5 * momentum[i]
    torch.testing.assert_close([p.detach() for p in member.model.parameters()], [weight, bias])
    assert not weight[~mask].any()


@pytest.mark.usefixtures("one_layer")
def test_the_returned_loss_is_the_smoothed_cross_entropy_without_penalties() -> None:
    recipe = Recipe("-", 9, (), SGD(0.5), 4, label_smoothing=0.3)
    member, images, labels = linear(recipe)
    logits = member.model(images.double()).detach().log_softmax(1)
    expected = -(0.7 * logits[torch.arange(4), labels] + 0.3 * logits.mean(1)).mean()
    loss = train_step(member, images, labels)
    torch.testing.assert_close(loss, expected)
    assert not loss.requires_grad


@dataclass(frozen=True)
class Pull(Method):
    """A penalty: half the squared distance of all weights from 1."""

    def penalty(self, member: Member) -> Tensor:
        return sum(((p - 1).square().sum() / 2 for p in member.masks.params.values()), torch.zeros(()))


@pytest.mark.usefixtures("one_layer")
def test_penalties_add_to_the_gradient_of_alive_weights() -> None:
    plain, images, labels = linear(Recipe("-", 9, (Static(0.5),), SGD(0.5, 0.0), 4))
    pulled, *_ = linear(Recipe("-", 9, (Static(0.5), Pull(), Pull()), SGD(0.5, 0.0), 4))
    before = plain.masks.params["1.weight"].detach().clone()
    for member in (plain, pulled):
        train_step(member, images, labels)
    mask = plain.masks.tensors["1.weight"]
    torch.testing.assert_close(
        pulled.masks.params["1.weight"].detach(),
        plain.masks.params["1.weight"].detach() - 0.5 * 2 * (before - 1) * mask,
    )


# --- members and recipes


def test_weights_that_stay_dense_are_no_prunable_weights() -> None:
    member = Member.build(CASES["keep-dense"].recipe, 0, TASK)
    assert "conv1.weight" not in member.masks.params
    assert member.masks.total == 77_360 - 3 * 16 * 9
    assert member.model.get_parameter("conv1.weight").all()


def test_a_name_to_keep_dense_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"keep_dense.*wrn-10-1.*'stem'"):
        Member.build(replace(RECIPE, keep_dense=("stem",)), 0, TASK)


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    recipe = replace(RECIPE, methods=())
    first = Member.build(recipe, 7, TASK)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    second, third = Member.build(recipe, 7, TASK), Member.build(recipe, 8, TASK)
    state = first.state()["model"]
    assert all(torch.equal(value, state[name]) for name, value in second.state()["model"].items())
    assert not torch.equal(state["conv1.weight"], third.state()["model"]["conv1.weight"])


def test_generators_depend_on_seed_step_and_purpose() -> None:
    member, other = Member.build(RECIPE, 1, TASK), Member.build(RECIPE, 2, TASK)
    draws = [m.generator(p).initial_seed() for m in (member, other) for p in ("growth", "initial masks")]
    run(member, 1)
    draws.append(member.generator("growth").initial_seed())
    assert len(set(draws)) == 5
    assert other.generator("growth").initial_seed() == draws[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"batch": 0}, "batch=0"),
        ({"precision": "float16"}, r"'float16'.*float32, bfloat16, float64"),
        ({"label_smoothing": 1.0}, r"label_smoothing.*1\.0"),
        ({"clip": 0.0}, r"clip.*0\.0"),
        ({"methods": ("rigl",)}, "'rigl'"),
        ({"steps": 8, "methods": CASES["gmp"].recipe.methods}, "step 9, after the last step 8"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **change)  # type: ignore[arg-type]


def test_the_last_promise_of_the_tuple_counts() -> None:
    assert replace(RECIPE, methods=(Static(0.5), Static(0.2), Log("a"))).density == 0.2
    assert replace(RECIPE, methods=()).density == 1.0

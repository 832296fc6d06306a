"""Networks that are not ours: what they cost, what may be replaced in them, what is refused, resuming."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from sparsepop.data import open_data
from sparsepop.describe import to_json
from sparsepop.member import Member, Task
from sparsepop.methods import PhaseDyReLU, rigl, static
from sparsepop.methods.dyrelu import DyReLU
from sparsepop.models import Model, blank, build, model_name
from sparsepop.nn import Act
from sparsepop.recipe import Recipe
from sparsepop.schedule import Linear
from sparsepop.storage import Storage
from sparsepop.tickets import TicketStore, from_ticket, load, take
from sparsepop.train import train

DIGITS = Task((1, 8, 8), 10)


def mlp(task: Task, width: int = 20, dropout: float = 0.0) -> nn.Module:
    parts = (nn.Flatten(), nn.Linear(64 * task.shape[0], width), nn.ReLU(), nn.Dropout(dropout))
    return nn.Sequential(*parts, nn.Linear(width, task.classes))


READY = mlp(DIGITS)


def dropping(task: Task) -> nn.Module:
    return mlp(task, dropout=0.5)


def member(model: Model, *methods: Any, steps: int = 8, task: Task = DIGITS) -> Member:
    return Member.build(Recipe(model, steps, (*rigl(0.2, steps, interval=2), *methods), batch=32), 0, task)


class Shared(nn.Module):
    """One ReLU in two places, of 4 channels both, or of 4 and `second`."""

    def __init__(self, task: Task, second: int = 4) -> None:
        super().__init__()
        self.one = nn.Conv2d(task.shape[0], 4, 3, padding=1)
        self.two = nn.Conv2d(4, second, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(64 * second, task.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.two(self.relu(self.one(x)))).flatten(1))


class Attending(nn.Module):
    """Rows as tokens of width 8, and torch's own attention over them."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(64, task.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.attention(x[:, 0], x[:, 0], x[:, 0])[0].flatten(1))


class Rows(nn.Module):
    """Rows as tokens, whose axis comes first or second within the network."""

    def __init__(self, task: Task, first: bool) -> None:
        super().__init__()
        self.first = first
        self.layer = nn.Linear(8, 8)
        self.fc = nn.Linear(64, task.classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x[:, 0].transpose(0, 1) if self.first else x[:, 0]
        seen = self.layer(tokens)
        return self.fc((seen.transpose(0, 1) if self.first else seen).flatten(1))


class Tied(nn.Module):
    """Two layers of one weight between two of their own."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.one = nn.Linear(64, 32)
        self.two = nn.Linear(32, 32)
        self.three = nn.Linear(32, 32)
        self.three.weight = self.two.weight
        self.fc = nn.Linear(32, task.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.three(self.two(self.one(x.flatten(1)).relu()).relu()).relu())


class Late(nn.Module):
    """Makes its layer when it first sees an image."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.classes = task.classes
        self.first = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.first(x).flatten(1)
        if not hasattr(self, "fc"):
            self.fc = nn.Linear(flat.shape[1], self.classes)
        return self.fc(flat)


class Standardised(nn.Conv2d):
    """A convolution by its weight less the weight's mean."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight - self.weight.mean(), self.bias)


class Noise(nn.Module):
    """Features that are drawn once and left out of the state."""

    drawn: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.fc = nn.Linear(5, task.classes)
        self.register_buffer("drawn", torch.randn(64, 5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1) @ self.drawn)


class Two(nn.Module):
    """Answers twice in training."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body = mlp(task)

    def forward(self, x: Tensor) -> Any:
        y = self.body(x)
        return (y, y) if self.training else y


def flat(*parts: nn.Module) -> Callable[[Task], nn.Module]:
    return lambda task: nn.Sequential(*deepcopy(parts), nn.Flatten(), nn.LazyLinear(task.classes))


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("timm:resnet10t", Task((3, 32, 32), 7)),
        ("torchvision:resnet18", Task((3, 32, 32), 7)),
        ("torchvision:mobilenet_v3_small", Task((3, 32, 32), 7)),
        (Shared, DIGITS),
        (Attending, DIGITS),
        (partial(mlp, width=30), DIGITS),
    ],
)
def test_costs_are_those_of_torchs_counter(model: Model, task: Task) -> None:
    made = member(model, task=task)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            made.model.eval()(torch.zeros(1, *task.shape))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    assert made.costs.dense_flops == counter.get_total_flops()
    assert made.masks.alive == round(0.2 * made.masks.total)


def test_costs_do_not_depend_on_which_axis_is_the_batchs() -> None:
    one, other = (member(partial(Rows, first=first)).costs for first in (True, False))
    assert one == other
    assert one.macs == {"layer.weight": 8 * 64, "fc.weight": 640}


def test_tied_weights_count_once(tmp_path: Path) -> None:
    made = member(Tied)
    assert made.masks.total == 64 * 32 + 32 * 32 + 32 * 10
    list(train(made, open_data("digits"), every=8))
    assert made.masks.alive == round(0.2 * made.masks.total)
    ticket = take(made)
    assert ticket.density == made.masks.density
    store = TicketStore(Storage(str(tmp_path)))
    store.write(ticket)
    again = Member.build(Recipe(Tied, 8, (from_ticket(store, ticket.id),)), 1, DIGITS)
    assert again.masks.digest() == made.masks.digest()


@pytest.mark.parametrize("name", ["two.weight", "three.weight"])
def test_tied_weights_stay_dense_by_either_name(name: str) -> None:
    made = Member.build(Recipe(Tied, 8, static(0.5), keep_dense=(name,)), 0, DIGITS)
    assert list(made.masks.params) == ["one.weight", "fc.weight"]
    assert made.masks.density == 0.5


def test_attention_in_closed_form() -> None:
    made = member(Attending)
    assert dict(made.costs.macs) == {"attention.out_proj.weight": 8 * 64, "fc.weight": 640}
    # queries, keys and values of 8 tokens of width 8, then scores and their sums
    assert made.costs.other_macs == 8 * 3 * 64 + 2 * 8 * 8 * 8


def test_timm_has_the_published_count() -> None:
    found = build("timm:resnet18", (3, 32, 32), 1000)
    assert sum(param.numel() for param in found.parameters()) == 11_689_512


def test_activations_are_slots_and_compute_the_same() -> None:
    torch.manual_seed(0)
    ours = build(Shared, (1, 8, 8), 10)
    torch.manual_seed(0)
    theirs = Shared(DIGITS)
    assert isinstance(ours.relu, Act)
    assert (ours.relu.channels, ours.relu.inplace) == (4, True)
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(ours(x), theirs(x))


def test_a_dyrelu_takes_the_slots_and_leaves_them() -> None:
    made = member(Shared, PhaseDyReLU(Linear(1.0, 0.0, 4)))
    units = [part for part in made.model.modules() if isinstance(part, DyReLU)]
    assert [unit.squeeze.in_features for unit in units] == [4]
    list(train(made, open_data("digits"), every=8))
    assert isinstance(made.model.relu, Act)
    assert not any(isinstance(part, DyReLU) for part in made.model.modules())
    assert (made.model.relu.channels, made.model.relu.inplace) == (4, True)


@pytest.mark.parametrize(
    ("model", "message"),
    [(partial(Shared, second=5), "the ReLU relu cannot be replaced"), (Attending, "use nn.ReLU modules")],
)
def test_slots_that_cannot_be(model: Model, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        member(model, PhaseDyReLU(Linear(1.0, 0.0, 4)))


def test_weight_norm_stays_dense() -> None:
    made = member(flat(weight_norm(nn.Conv2d(1, 2, 3)), nn.ReLU()))
    assert list(made.masks.params) == ["3.weight"]


def test_lazy_layers_are_made_from_the_seed() -> None:
    made = flat(nn.Conv2d(1, 2, 3))
    one, other = member(made), member(made)
    assert type(one.model[2]) is nn.Linear  # type: ignore[index]
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnet-21", r"unknown model 'resnet-21'; known: .*resnet-20.*timm:NAME"),
        ("timm:resnet10x", r"timm has no 'resnet10x': the closest .* resnet10t"),
        ("torchvision:resnet19", r"torchvision has no 'resnet19'.*resnet18"),
        ("torchvision:resnet18", r"takes no images of \(1, 8, 8\).* 3 channels"),
        ("nowhere.at:all", r"needs 'nowhere', which cannot be imported: install it on every node"),
        ("torch.nn:Linnear", r"torch.nn has no function 'Linnear'"),
        ("torch.nn:Linear", r"torch.nn:Linear cannot be made for Task"),
        (lambda task: 3, r"gave a int: return an nn.Module"),
        (lambda task: nn.Flatten(), r"answers \(1, 64\) to 1 images, not the logits \(1, 10\)"),
        (lambda task: nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), r"answers \(1, 7\)"),
        (lambda task: nn.Sequential(nn.Flatten(), nn.Linear(60, 10)), r"takes no images"),
        (lambda task: nn.Sequential(nn.MaxPool2d(8), nn.Flatten(), nn.Unflatten(1, (1,))), r"answers"),
        (Late, r"makes layers in its first forward pass"),
        (Noise, r"draws the buffer drawn at random"),
        (Two, r"answers tuple to 2 images"),
        (lambda task: READY, r"gives the same network each time"),
        (flat(Standardised(1, 2, 3)), r"computes another weight from 0.weight"),
        (
            lambda task: nn.Sequential(nn.Flatten(), nn.Linear(64, 10).bfloat16()),
            r"keeps 1.weight in torch.bfloat16.* use Recipe\(precision='bfloat16'\)",
        ),
    ],
)
def test_networks_that_cannot_be_used(model: Model, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build(model, (1, 8, 8), 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [mlp(DIGITS), 3, None])
def test_a_recipe_takes_names_and_functions(model: Any) -> None:
    with pytest.raises(ValueError, match="give a name, or a function"):
        Recipe(model, 8)


def test_a_model_that_cannot_be_hashed() -> None:
    class Maker(dict):
        def __call__(self, task: Task) -> nn.Module:
            return mlp(task)

    with pytest.raises(ValueError, match="cannot be hashed"):
        Recipe(Maker(), 8)


@pytest.mark.parametrize("model", [dropping, "timm:test_resnet"])
def test_resuming_is_exact(model: Model) -> None:
    task = DIGITS if callable(model) else Task((1, 32, 32), 10)
    data: Any = open_data("digits") if callable(model) else Wide()
    whole, half = member(model, task=task), member(model, task=task)
    list(train(whole, data, every=8))
    list(train(half, data, every=4, until=4))
    state = deepcopy(half.state())
    torch.randn(7)  # whatever else draws
    again = Member.restore(half.recipe, 0, task, state)
    list(train(again, data, every=8))
    for (name, one), other in zip(
        whole.model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_dropout_follows_seed_and_step() -> None:
    recipe = Recipe(dropping, 4, batch=32)
    members = [Member.build(recipe, seed, DIGITS) for seed in (0, 0, 1)]
    losses = [next(train(each, Fixed(), every=4)).train_loss for each in members]
    assert losses[0] == losses[1] != losses[2]


@dataclass(frozen=True)
class Perceptron:
    """Layers as wide as `widths`."""

    widths: tuple[int, ...]
    dropout: float = 0.0

    def __call__(self, task: Task) -> nn.Module:
        assert hash(self) is not None
        sizes = [math.prod(task.shape), *self.widths, task.classes]
        return nn.Sequential(nn.Flatten(), *(nn.Linear(*pair) for pair in pairwise(sizes)))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (mlp, "tests.test_own:mlp"),
        (partial(mlp, width=30), 'tests.test_own:mlp [[], {"width": 30}]'),
        (partial(partial(mlp, width=9), width=8), 'tests.test_own:mlp [[], {"width": 8}]'),
        (Perceptron((7, 5)), 'tests.test_own:Perceptron {"widths": [7, 5], "dropout": 0.0}'),
    ],
)
def test_a_ticket_names_what_made_its_network(model: Model, name: str) -> None:
    made = member(model)
    list(train(made, open_data("digits"), every=8))
    ticket = take(made)
    assert ticket.model == name
    network, masks = load(ticket)
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(network(x), made.model.eval()(x))
    assert masks.alive == made.masks.alive


@pytest.mark.parametrize("given", ['{"breadth": 3}', "[[], {", "3", '[[1], {"width": 3}, 4]'])
def test_a_name_that_makes_nothing_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"tests.test_own:Perceptron cannot be made with .*give the object"):
        build(f"tests.test_own:Perceptron {given}", (1, 8, 8), 10)


def test_names_and_descriptions() -> None:
    assert model_name("timm:resnet10t") == "timm:resnet10t"
    assert model_name(mlp) == "tests.test_own:mlp"
    assert to_json(partial(mlp, width=3)) == {
        "type": "partial",
        "function": "tests.test_own.mlp",
        "arguments": [],
        "keywords": {"width": 3},
    }
    assert to_json(Recipe(mlp, 3))["model"] == "tests.test_own.mlp"


def test_blank_networks_keep_what_no_state_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_nets.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, task):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, task.classes))\n"
        "        self.register_buffer('table', torch.arange(3.0), persistent=False)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    before = torch.get_rng_state()
    found = blank("their_nets:Net", (1, 8, 8), 10, "cpu")
    assert torch.equal(before, torch.get_rng_state())
    assert found.get_buffer("table").tolist() == [0.0, 1.0, 2.0]
    del sys.modules["their_nets"]


class Fixed:
    """The same batch for every seed."""

    def steps_per_epoch(self, size: int) -> int:
        return 1

    def batch(self, seed: int, step: int, size: int, **how: Any) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        return torch.randn(size, 1, 8, 8, generator=generator), torch.arange(size) % 10

    def batches(self, split: str, size: int, **how: Any) -> Any:
        return iter([self.batch(0, 0, 32)])


class Wide(Fixed):
    """Larger images."""

    def batch(self, seed: int, step: int, size: int, **how: Any) -> tuple[Tensor, Tensor]:
        images, labels = super().batch(seed, step, size)
        return images.repeat(1, 1, 4, 4), labels


def test_recipes_of_equal_partials_are_equal() -> None:
    """A config's recipe(hp) makes a new one each time."""
    one, other = (Recipe(partial(mlp, width=30), 4) for _ in range(2))
    assert one == other
    assert one.model is other.model
    odd: Any = ({"width": 31}, {"width": 30.0}, {"width": True}, {})
    for given in odd:
        assert Recipe(partial(mlp, **given), 4).model is not one.model
    unhashable: Any = {"width": [30]}
    listed = partial(mlp, **unhashable)
    assert Recipe(listed, 4).model is listed

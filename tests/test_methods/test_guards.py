"""What watches over extreme sparsity: connected classes, gradients that arrive, and a floor under fan-ins."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsepop.masks import Masks, prunable_names
from sparsepop.member import Member, Task
from sparsepop.methods import (
    Cut,
    GradientFlow,
    MinFanIn,
    Reachable,
    ShareWeights,
    Thresholds,
    rigl,
    static,
)
from sparsepop.methods.fan_in import spread_out
from sparsepop.methods.reach import reached
from sparsepop.models import build
from sparsepop.recipe import Recipe
from sparsepop.train import train
from tests.cases import BATCH, TASK, Toy, run


def member(*methods: Any, model: str = "lenet-300-100", task: Task = TASK) -> Member:
    return Member.build(Recipe(model, 12, methods, batch=BATCH), 0, task)


def masked(model: nn.Module, **masks: Tensor) -> Masks:
    made = Masks({name: model.get_parameter(name) for name in prunable_names(model)})
    made.set({name.replace("_", "."): mask for name, mask in masks.items()})
    return made


# --- reachability


def mlp(sizes: list[int]) -> nn.Sequential:
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *layers)


@given(st.lists(st.integers(1, 5), min_size=3, max_size=5), st.floats(0.05, 0.9), st.integers(0, 999))
def test_reachable_units_are_those_of_a_search_through_the_graph(
    sizes: list[int], density: float, seed: int
) -> None:
    model: Any
    model, generator = mlp(sizes), torch.Generator().manual_seed(seed)
    masks = masked(model)
    masks.set({n: torch.rand(p.shape, generator=generator) < density for n, p in masks.params.items()})
    found = set(range(sizes[0]))
    shares = []
    for name, mask in masks.tensors.items():
        found = {i for i in range(mask.shape[0]) if any(mask[i, j] for j in found)}
        shares.append((name, len(found) / mask.shape[0]))
    reach = reached(model, masks, (1, 1, sizes[0]))
    assert reach.classes == len(found)
    assert [name for name, _ in reach.layers] == [name for name, _ in shares]
    assert [share for _, share in reach.layers] == pytest.approx([share for _, share in shares])
    if reach.classes == 0:
        assert reach.cut == next(name for name, share in shares if share == 0)


@pytest.mark.parametrize("name", ["lenet-5", "vgg-16-w4", "resnet-20-w4", "resnet-50-w4", "wrn-10-1"])
def test_everything_is_reachable_in_a_dense_network_and_nothing_is_left_behind(name: str) -> None:
    model = build(name, (3, 16, 16), 7).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    reach = reached(model, masked(model), (3, 16, 16))
    assert reach.classes == 7
    assert {share for _, share in reach.layers} == {1.0}
    assert len(reach.layers) == len(prunable_names(model))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(part.training and not part._forward_hooks for part in model.modules())


def test_signals_pass_a_dead_block_by_its_shortcut() -> None:
    model = build("resnet-20-w4", (3, 8, 8), 10)
    masks = masked(model)
    dead = torch.zeros_like(masks.tensors["layer1.1.conv1.weight"])
    masks.set({"layer1.1.conv1.weight": dead})
    reach = reached(model, masks, (3, 8, 8))
    assert reach.classes == 10
    assert dict(reach.layers)["layer1.1.conv2.weight"] == 0
    masks.set({"conv1.weight": torch.zeros_like(masks.tensors["conv1.weight"])})
    cut = reached(model, masks, (3, 8, 8))
    assert (cut.classes, cut.cut) == (0, "conv1.weight")


def test_weights_that_cancel_out_still_connect() -> None:
    model: Any = mlp([2, 2, 1])
    with torch.no_grad():
        model[1].weight.fill_(1.0)
        model[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
    assert reached(model, masked(model), (1, 1, 2)).classes == 1


def test_a_shared_tensor_is_followed_at_each_use() -> None:
    living = member(ShareWeights(), *static(0.1), Reachable(), model="resnet-32-w4")
    reach = reached(living.model, living.masks, TASK.shape)
    names = [name for name, _ in reach.layers]
    assert names.count("layer2.1.conv1.weight") == 4
    smallest = min(share for name, share in reach.layers if name == "layer2.1.conv1.weight")
    assert Reachable().measure_layers(living)["layer2.1.conv1.weight"] == {"reached": smallest}


def test_a_recurrent_layer_is_followed_through_all_its_calls() -> None:
    """Whatever is after the first step, before which the state is empty; of units, not of rows."""
    living = member(*static(0.02), model="lstm-a")
    reach = dict(reached(living.model, living.masks, TASK.shape).layers)
    (first, mask), *_ = living.masks.tensors.items()
    assert reach[first] == mask.any(1).double().mean().item() < 1.0
    hidden = [share for name, share in reach.items() if name.endswith("hidden.weight")]
    assert len(hidden) == 2
    assert all(0.0 < share < 1.0 for share in hidden)


def test_cut_off_classes_are_noted_once() -> None:
    living = member(*static(0.2), Reachable())
    method = living.recipe.methods[-1]
    assert method.measure(living) == {"classes_reached": 10}
    last = living.masks.tensors["5.weight"].clone()
    last[:3] = False
    living.masks.set({"5.weight": last})
    for _ in range(2):
        assert method.measure(living) == {"classes_reached": 7}
    (note,) = living.take_notes()
    assert (note.kind, note.step, note.numbers) == ("collapse", 0, {"classes_reached": 7})
    assert note.message == "3 of 10 classes are cut off, at 5.weight"
    living.masks.set({"3.weight": torch.zeros_like(living.masks.tensors["3.weight"])})
    method.measure(living)
    (note,) = living.take_notes()
    assert "10 of 10" in note.message
    assert note.message.endswith("at 3.weight")


# --- gradients


def test_norms_are_those_of_the_last_step() -> None:
    living = member(*rigl(0.1, 12, interval=3), GradientFlow(), model="resnet-20-w4")
    first = living.recipe.methods[-1].measure(living)
    assert list(first) == [f"gradient_{stage}" for stage in ("conv1", "layer1", "layer2", "layer3", "fc")]
    assert all(math.isnan(norm) for norm in first.values())
    assert living.take_notes() == ()
    (report,) = train(living, Toy(), every=12)
    params = living.masks.params
    for stage in ("conv1", "layer1", "layer2", "layer3", "fc"):
        grads = [p.grad.flatten() for n, p in params.items() if n.startswith(stage) and p.grad is not None]
        assert report.numbers[f"gradient_{stage}"] == pytest.approx(float(torch.cat(grads).norm()), rel=1e-5)
    for layer in report.layers:
        grad = params[layer.name].grad
        assert grad is not None
        assert layer.numbers["gradient"] == pytest.approx(float(grad.norm()), rel=1e-5)
    assert report.notes == ()


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_stage_without_usable_gradients_is_noted_once_with_its_layer(value: float) -> None:
    living = run(member(*static(0.1), GradientFlow(), model="resnet-20-w4"), 2)
    flow, broken = living.recipe.methods[-1], [n for n in living.masks.params if n.startswith("layer2.")]
    for name in broken:
        grad = living.masks.params[name].grad
        assert grad is not None
        grad.fill_(value)
    for _ in range(3):
        flow.measure(living)
    (note,) = living.take_notes()
    assert (note.kind, note.step) == ("collapse", 2)
    assert note.message == "no usable gradient in layer2, first in layer2.0.conv1.weight"
    run(living, 1)
    flow.measure(living)
    assert living.take_notes() == ()
    assert living.memory_of(flow) == {"silent": []}


# --- fan-in


@st.composite
def layers(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, int]:
    rows, columns, least = draw(st.integers(1, 6)), draw(st.integers(2, 6)), draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    count = draw(st.integers(least * rows, rows * columns))
    mask = torch.zeros(rows * columns, dtype=torch.bool)
    mask[torch.randperm(rows * columns, generator=generator)[:count]] = True
    weight, score = torch.randn(2, rows, columns, generator=generator)
    return weight * mask.view(rows, columns), mask.view(rows, columns), score.abs(), least


@given(layers())
def test_every_row_gets_its_floor_from_the_smallest_of_the_others(
    layer: tuple[Tensor, Tensor, Tensor, int],
) -> None:
    weight, mask, score, least = layer
    new = spread_out(weight, mask, score, least)
    assert int(new.sum()) == int(mask.sum())
    assert int(new.sum(1).min()) >= least
    for row in range(len(mask)):
        need = max(0, least - int(mask[row].sum()))
        dead = sorted((~mask[row]).nonzero().flatten().tolist(), key=lambda i: -float(score[row, i]))
        assert set((new[row] & ~mask[row]).nonzero().flatten().tolist()) == set(dead[:need])
    spare = [
        abs(float(weight[row, i]))
        for row in range(len(mask))
        for i in sorted(mask[row].nonzero().flatten().tolist(), key=lambda i: -abs(float(weight[row, i])))[
            least:
        ]
    ]
    gone = weight[mask & ~new].abs().tolist()
    assert sorted(gone) == sorted(spare)[: len(gone)]


def test_a_floor_keeps_every_class_connected() -> None:
    """At 0.15% some classes have no weight; with the floor all have, at equal counts."""
    bare = member(*static(0.0015))
    floor = member(*static(0.0015), MinFanIn())
    assert int(bare.masks.tensors["5.weight"].any(1).sum()) < 10
    assert int(floor.masks.tensors["5.weight"].any(1).sum()) == 10
    assert floor.masks.counts == bare.masks.counts


def test_the_floor_holds_after_every_update() -> None:
    living = member(*rigl(0.0015, 12, fraction=0.9, interval=1), MinFanIn())
    for _ in range(12):
        run(living, 1)
        assert int(living.masks.tensors["5.weight"].sum(1).min()) >= 1
    lasting = member(*rigl(0.0015, 12, fraction=0.9, interval=1))
    assert min(int(run(lasting, 1).masks.tensors["5.weight"].sum(1).min()) for _ in range(12)) == 0


def test_a_floor_books_the_dense_gradient_of_the_layer_that_it_mends() -> None:
    """Where a unit has lost its last weight; nothing where all have one, or where RigL has booked it."""
    living, bare = member(*static(0.0015), MinFanIn()), member(*static(0.0015))
    name = "5.weight"

    def extra() -> float:
        run(bare, 1)
        return run(living, 1).train_flops - bare.train_flops

    living.masks.set({name: living.masks.tensors[name].clone()}, living.optimizer)
    assert extra() == 0
    alive, size = living.masks.counts[name], living.masks.params[name].numel()
    packed = torch.arange(size).view(10, -1) < alive
    living.masks.set({name: packed}, living.optimizer)
    assert extra() == pytest.approx(BATCH * 2 * (size - alive))
    assert not torch.equal(living.masks.tensors[name], packed)
    assert extra() == pytest.approx(BATCH * 2 * (size - alive))
    explorer = rigl(0.0015, 12, fraction=0.9, interval=1)
    mended, plain = run(member(*explorer, MinFanIn()), 6), run(member(*explorer), 6)
    assert mended.train_flops == pytest.approx(plain.train_flops)


def test_without_layers_the_floor_is_the_classifiers_alone() -> None:
    recipe = Recipe("lenet-300-100", 4, (*static(0.1), MinFanIn()), keep_dense=("5.weight",))
    with pytest.raises(ValueError, match=r"classifier 5\.weight is kept dense.*name the `layers`"):
        Member.build(recipe, 0, TASK)
    named = replace(recipe, methods=(*static(0.1), MinFanIn(8, ("3.weight",))))
    assert int(Member.build(named, 0, TASK).masks.tensors["3.weight"].sum(1).min()) >= 8
    kept = replace(recipe, methods=(*static(0.01), MinFanIn()), keep_dense=("1.weight", "3.bias"))
    assert int(Member.build(kept, 0, TASK).masks.tensors["5.weight"].sum(1).min()) >= 1


def test_the_floor_waits_for_masks_that_hold() -> None:
    """A threshold under which the classifier is all but empty: too few for the floor, until the cut."""
    soft = Thresholds(0.05, floor=None)
    living = member(soft, Cut(0.02, 6, "erk"), MinFanIn(3))
    bare = member(soft, Cut(0.02, 6, "erk"))
    for each in (living, bare):
        with torch.no_grad():
            each.model.get_parameter("5.threshold").fill_(9.0)
        for _ in range(5):
            run(each, 1)
            soft.measure(each)
    assert not living.masks.counts["5.weight"]
    assert living.masks.digest() == bare.masks.digest()
    run(living, 1)
    assert int(living.masks.tensors["5.weight"].sum(1).min()) >= 3
    assert living.masks.alive == round(0.02 * 88_600)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda: MinFanIn(0), "at least 1, got 0"),
        (lambda: member(*static(0.0003), MinFanIn(1, ("9.weight",))), r"'9\.weight': use one of 1\.weight"),
        (
            lambda: member(Thresholds(0.1), MinFanIn()),
            "MinFanIn needs masks that hold at step 11, and Thresh",
        ),
        (lambda: member(*static(0.0003), MinFanIn(9)), r"5\.weight has \d+ weights alive.*too few.*of 9"),
    ],
)
def test_floors_that_cannot_hold_are_refused(method: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method()

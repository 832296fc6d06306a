"""Shared weights: who uses whose tensor, gradients, counts, and the plain network at the end (EAST, Li et al.
2025).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsepop.ledger import learnables
from sparsepop.masks import prunable_names
from sparsepop.member import Member
from sparsepop.methods import Halo, Method, ShareWeights, Thresholds, rigl, static
from sparsepop.methods.sharing import borrowers
from sparsepop.models import build
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.train import train
from tests.cases import BATCH, TASK, Toy, run

DEEP = "resnet-32-w4"  # five blocks a stage


def shared(name: str, ratio: int = 2, classes: int = 10) -> nn.Module:
    model = build(name, (3, 32, 32), classes)
    ShareWeights(ratio).surgery(model, prunable_names(model))
    return model


def behind(method: Method) -> Member:
    return Member.build(Recipe(DEEP, 12, (method, ShareWeights()), batch=BATCH), 1, TASK)


def member(*methods: Method, model: str = DEEP, seed: int = 1, **more: Any) -> Member:
    made = (ShareWeights(), *(methods or static(0.1)))
    return Member.build(Recipe(model, 12, made, batch=BATCH, **more), seed, TASK)


# --- who uses whose


@pytest.mark.parametrize(("ratio", "blocks"), [(2, 5), (3, 5), (4, 5), (5, 5), (9, 5)])
def test_later_blocks_use_the_tensors_of_block_ratio_minus_1(ratio: int, blocks: int) -> None:
    model: Any = shared(DEEP, ratio)
    for stage in (model.layer1, model.layer2, model.layer3):
        assert len(stage) == blocks
        for name in ("conv1", "conv2"):
            weights = [getattr(block, name).weight for block in stage]
            owner = weights[min(ratio, blocks) - 1]
            assert all(weight is owner for weight in weights[ratio:])
            assert len({id(weight) for weight in weights[:ratio]}) == min(ratio, blocks)
        norms = [norm.weight for block in stage for norm in (block.bn1, block.bn2)]
        assert len({id(weight) for weight in norms}) == 2 * blocks


def test_shortcuts_stay_their_own() -> None:
    with torch.device("meta"):
        model = shared("resnet-50-w4")
    shortcuts = [p for name, p in model.named_parameters() if "downsample.0" in name]
    assert len(shortcuts) == 4
    assert not any("downsample" in name for name, _ in borrowers(model))
    assert len(list(borrowers(model))) == 3 * (1 + 2 + 4 + 1)


@pytest.mark.parametrize(
    ("name", "classes", "full", "unique"),
    [
        ("resnet-34", 10, 21_265_088, 11_164_352),
        ("resnet-34", 100, 21_311_168, 11_210_432),
        ("resnet-50", 10, 23_467_712, 13_928_128),
        ("resnet-50", 100, 23_652_032, 14_112_448),
    ],
)
def test_unique_weights_of_the_papers_networks(name: str, classes: int, full: int, unique: int) -> None:
    with torch.device("meta"):
        bare = build(name, (3, 32, 32), classes)
        names = prunable_names(bare)
        assert sum(bare.get_parameter(each).numel() for each in names) == full
        ShareWeights().surgery(bare, names)
    kept = dict(bare.named_parameters())
    assert sum(kept[each].numel() for each in names if each in kept) == unique


def test_enough_owners_make_an_ordinary_network() -> None:
    recipe = Recipe(DEEP, 12, rigl(0.05, 12, interval=3), batch=BATCH)
    plain = run(Member.build(recipe, 1, TASK), 4)
    alike = run(Member.build(replace(recipe, methods=(ShareWeights(5), *recipe.methods)), 1, TASK), 4)
    pairs = zip(plain.model.state_dict().values(), alike.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert plain.masks.digest() == alike.masks.digest()


# --- what it computes


def test_gains_of_1_and_copied_weights_give_an_unshared_networks_outputs() -> None:
    model, plain = shared("resnet-32-w4").eval(), build("resnet-32-w4", (3, 32, 32), 10).eval()
    weights = model.state_dict()
    for name, layer in borrowers(model):
        nn.init.ones_(layer.gain)
        del weights[f"{name}.gain"]
        weights[f"{name}.weight"] = layer.weight
    plain.load_state_dict(weights)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), plain(images))


def test_the_owner_gets_the_sum_of_all_uses_gradients() -> None:
    """Against finite differences, and against the same network with a tensor of its own at each use."""
    model: Any = shared("resnet-32-w4").double().eval()
    images, labels = torch.randn(2, 3, 8, 8).double(), torch.tensor([0, 1])

    def loss(of: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(of(images), labels)

    loss(model).backward()
    owner = model.layer2[1].conv2.weight
    for place in ((0, 0, 1, 1), (3, 5, 0, 2)):
        found = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                owner[place] += step
                found.append(float(loss(model)))
                owner[place] -= step
        assert float(owner.grad[place]) == pytest.approx((found[0] - found[1]) / 2e-5, rel=1e-4, abs=1e-9)
    plain: Any = build("resnet-32-w4", (3, 32, 32), 10).double().eval()
    gains: dict[str, Any] = {name: layer.gain.detach() for name, layer in borrowers(model)}
    products = {f"{n}.weight": layer.weight.detach() * gains[n] for n, layer in borrowers(model)}
    own = {n: v for n, v in model.state_dict().items() if not n.endswith(".gain")}
    plain.load_state_dict({**own, **products})
    loss(plain).backward()
    uses = plain.layer2[1].conv2.weight.grad.clone()
    for index in (2, 3, 4):
        uses += gains[f"layer2.{index}.conv2"] * plain.layer2[index].conv2.weight.grad
        gain = model.layer2[index].conv2.gain.grad
        torch.testing.assert_close(
            gain.sum(), (plain.layer2[index].conv2.weight.grad * owner.detach()).sum(), rtol=1e-6, atol=1e-12
        )
    torch.testing.assert_close(owner.grad, uses)


def test_gains_start_between_0_and_1_and_have_no_weight_decay() -> None:
    living = member(optimizer=SGD(0.1, weight_decay=0.1))
    gains = [layer.gain for _, layer in borrowers(living.model)]
    assert len(gains) == 3 * 3 * 2
    values = torch.cat([gain.detach() for gain in gains])
    assert 0 <= values.min() < 0.3 < 0.7 < values.max() <= 1
    decayed, spared = living.optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in spared["params"]} == {id(gain) for gain in gains}
    assert learnables(living.model, living.masks.params.values())["gain"] == 18


def test_aliases_survive_copies_moves_and_states() -> None:
    living = run(member(), 2)
    again = Member.restore(living.recipe, 2, TASK, living.state())
    for model in (copy.deepcopy(living.model), living.model.to(torch.float32), again.model):
        mine: Any = model
        assert all(mine.layer3[i].conv1.weight is mine.layer3[1].conv1.weight for i in (2, 3, 4))
        names = [name for name in mine.state_dict() if "layer3" in name and "conv" in name]
        assert sum(name.endswith("weight") for name in names) == 4
    copied, original = copy.deepcopy(living.model), living.model
    owned = {id(param) for param in original.parameters()}
    assert not any(id(layer.weight) in owned for _, layer in borrowers(copied))


# --- counts


def test_a_density_is_a_share_of_the_full_network() -> None:
    living, bare = member(), Member.build(Recipe(DEEP, 12, static(0.1), batch=BATCH), 1, TASK)
    assert living.masks.total == bare.masks.total
    assert living.masks.alive == bare.masks.alive == round(0.1 * bare.masks.total)
    assert sum(p.numel() for p in living.masks.params.values()) < bare.masks.total
    assert len(living.masks.params) == len(bare.masks.params) - 18
    assert living.costs.dense_flops == bare.costs.dense_flops


def test_a_shared_weight_costs_at_every_use() -> None:
    living = member()
    masks, costs = living.masks, living.costs
    single = costs.macs["layer2.1.conv1.weight"] / costs.macs["layer2.0.conv2.weight"]
    assert single == 4  # itself and three more
    uses = {name: 4 if ".1.conv" in name else 1 for name in masks.counts}
    macs = sum(costs.macs[name] / p.numel() * masks.counts[name] for name, p in masks.params.items())
    assert living.forward_flops == pytest.approx(2 * macs)
    executed = sum(count * uses[name] for name, count in masks.counts.items())
    assert living.recipe.methods[0].measure(living) == {"executed": executed}


def test_a_density_that_the_unique_weights_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"density 0\.9 keeps .* are not shared: use at most 0\.\d+"):
        member(*static(0.9))


# --- the end


def test_the_plain_network_has_the_same_outputs_and_counts() -> None:
    living = run(member(*rigl(0.05, 12, interval=3)), 12)
    images, _ = Toy().batch(0, 0, 8)
    before = living.model.eval()(images)
    counts, flops = dict(living.masks.counts), living.forward_flops
    living.recipe.methods[0].finish(living, Toy())
    assert torch.equal(living.model.eval()(images), before)
    bare = build(DEEP, TASK.shape, TASK.classes).eval()
    bare.load_state_dict(living.model.state_dict())
    assert torch.equal(bare(images), before)
    masks = living.masks
    assert list(masks.params) == prunable_names(bare)
    assert masks.counts == {n: counts.get(n, counts[_owner(n)]) for n in masks.params}
    assert masks.alive == sum(counts.values()) == round(0.05 * masks.total) < sum(masks.counts.values())
    assert masks.total == sum(param.numel() for param in masks.params.values())
    for name, param in masks.params.items():
        assert not param[~masks.tensors[name]].any()
    assert living.forward_flops == pytest.approx(flops)
    assert learnables(living.model, masks.params.values())["gain"] == 18
    assert living.recipe.methods[0].measure(living) == {"executed": sum(masks.counts.values())}


def _owner(name: str) -> str:
    stage, _, rest = name.split(".", 2) if name.startswith("layer") else (name, "", "")
    return f"{stage}.1.{rest}" if rest else name


def test_the_last_report_counts_as_the_others() -> None:
    living = member(*rigl(0.05, 12, interval=3))
    first, last = train(living, Toy(), every=6)
    assert last.final
    for name in ("alive", "prunable", "density", "dense_flops"):
        assert getattr(first, name) == getattr(last, name), name
    assert first.learnables == last.learnables
    assert last.alive == round(0.05 * last.prunable)
    assert len(last.layers) == len(first.layers) + 18


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShareWeights(1), "at least 2, got 1"),
        (
            lambda: behind(Thresholds(0.05)),
            "no layer of kind ThresholdConv2d can be shared: put ShareWeights first",
        ),
        (
            lambda: behind(Halo(1e-5, 1e-3)),
            r"layer1\.2\.conv1 has its own weight_coefficient already: put ShareWeights first",
        ),
        (lambda: member(Thresholds(0.05)), "no thresholds for a BorrowedConv2d.*leave out the method"),
        (lambda: member(model="lenet-300-100"), "stages of blocks.*leave it out"),
        (lambda: member(model="vgg-16-w4"), "stages of blocks.*leave it out"),
        (
            lambda: member(keep_dense=("layer1.3.conv1.weight",)),
            r"layer1\.3\.conv1 shares the weight of layer1\.1\.conv1: keep_dense",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_that_are_kept_dense_may_be_shared() -> None:
    dense = tuple(f"layer1.{i}.conv1.weight" for i in (1, 2, 3, 4))
    living = run(member(keep_dense=dense), 2)
    assert not set(dense) & set(living.masks.params)
    assert living.masks.alive == round(0.1 * living.masks.total)
    living.recipe.methods[0].finish(living, Toy())
    assert not set(dense) & set(living.masks.params)

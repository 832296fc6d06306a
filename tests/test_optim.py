"""Optimizers as values: what they build, and that torch's own give the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sparsepop.methods import Static
from sparsepop.optim import SGD, AdamW, clippable, scale_learning_rate
from sparsepop.recipe import Recipe
from sparsepop.schedule import Constant, Linear


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))


def learn(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    for _ in range(5):
        optimizer.zero_grad()
        net(torch.arange(32.0).view(2, 1, 4, 4).sin()).square().sum().backward()
        optimizer.step()
    return [param.detach() for param in net.parameters()]


def test_a_branch_that_is_taken_late_learns_as_with_torchs() -> None:
    def steps(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> list[torch.Tensor]:
        often, late = (nn.Parameter(torch.full((3,), value)) for value in (1.0, 2.0))
        optimizer = make([often, late])
        for step in range(4):
            optimizer.zero_grad()
            (often.square().sum() + (late.pow(3).sum() if step in (1, 3) else 0.0)).backward()
            optimizer.step()
        return [often.detach(), late.detach()]

    mine = steps(SGD(0.05, 0.8, weight_decay=0.01).build)
    torchs = steps(
        lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.8, weight_decay=0.01, foreach=False)
    )
    for one, other in zip(mine, torchs, strict=True):
        torch.testing.assert_close(one, other)


def test_sgd_is_torchs() -> None:
    one, other = model(), model()
    mine = learn(one, SGD(0.05, 0.8, True, 0.01).build(one.parameters()))
    reference = torch.optim.SGD(
        other.parameters(), lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01, foreach=False
    )
    torch.testing.assert_close(mine, learn(other, reference))


def test_adamw_is_torchs() -> None:
    one, other = model(), model()
    mine = learn(one, AdamW(0.05, (0.8, 0.95), 0.1).build(one.parameters()))
    reference = torch.optim.AdamW(
        other.parameters(), lr=0.05, betas=(0.8, 0.95), weight_decay=0.1, foreach=False
    )
    torch.testing.assert_close(mine, learn(other, reference))


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_biases_and_norms_are_spared_decay_on_request(kind: type[SGD] | type[AdamW]) -> None:
    net = model()
    everything = kind(weight_decay=0.1).build(net.parameters()).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in everything] == [(5, 0.1)]
    groups = kind(weight_decay=0.1, decay_norms=False).build(net.parameters()).param_groups
    shapes = [([tuple(p.shape) for p in group["params"]], group["weight_decay"]) for group in groups]
    assert shapes == [([(2, 1, 3, 3), (2, 8)], 0.1), ([(2,), (2,), (2,)], 0.0)]


def test_a_parameter_can_refuse_decay() -> None:
    net = model()
    net.get_parameter("3.weight").no_decay = True  # type: ignore[attr-defined]
    groups = SGD(weight_decay=0.1).build(net.parameters()).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(4, 0.1), (1, 0.0)]


def test_a_parameter_can_insist_on_decay_or_have_its_own() -> None:
    net = model()
    net.get_parameter("1.weight").no_decay = False  # type: ignore[attr-defined]
    net.get_parameter("1.bias").decay = 0.5  # type: ignore[attr-defined]
    net.get_parameter("3.weight").decay = 0.7  # type: ignore[attr-defined]
    groups = AdamW(weight_decay=0.1, decay_norms=False).build(net.parameters()).param_groups
    shapes = [([tuple(p.shape) for p in group["params"]], group["weight_decay"]) for group in groups]
    assert shapes == [([(2, 1, 3, 3), (2,)], 0.1), ([(2,), (2,)], 0.0), ([(2, 8)], 0.7)]


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_a_parameter_can_have_a_learning_rate_of_its_own(kind: type[SGD] | type[AdamW]) -> None:
    net = model()
    net.get_parameter("3.weight").lr_factor = Linear(0.5, 2.0, 10)  # type: ignore[attr-defined]
    net.get_parameter("3.bias").lr_factor = 0.1  # type: ignore[attr-defined]
    optimizer = kind(lr=0.2).build(net.parameters())
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.1, 0.02])
    scale_learning_rate(optimizer, 0.4, 10)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4, 0.8, 0.04])


def test_parameters_can_stay_out_of_clipping() -> None:
    net = model()
    net.get_parameter("3.bias").no_clip = True  # type: ignore[attr-defined]
    assert [p is net.get_parameter("3.bias") for p in net.parameters()].count(True) == 1
    kept = clippable(net.parameters())
    assert [id(p) for p in kept] == [id(p) for n, p in net.named_parameters() if n != "3.bias"]


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_a_schedule_gives_its_first_value(kind: type[SGD] | type[AdamW]) -> None:
    net = model()
    optimizer = kind(lr=Linear(0.5, 0.1, 10)).build(net.parameters())
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_optimizers_are_values() -> None:
    assert SGD(Constant(0.1)) == SGD(Constant(0.1))
    assert len({SGD(), SGD(0.1), SGD(0.2), AdamW()}) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, r"learning rate must be positive, .* got 0"),
        ({"lr": -1}, "got -1"),
        ({"lr": math.nan}, "got nan"),
        ({"lr": "fast"}, "a number or a schedule of the step, got 'fast'"),
        ({"weight_decay": -0.1}, r"not negative, got -0\.1"),
        ({"weight_decay": math.inf}, "got inf"),
        ({"weight_decay": None}, "must be a number, and not negative, got None"),
        ({"momentum": 1.0}, r"\[0, 1\), got 1\.0"),
        ({"momentum": -0.1}, r"\[0, 1\), got -0\.1"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SGD(**settings)


@pytest.mark.parametrize(("settings", "message"), [({"lr": 0.0}, "got 0"), ({"betas": (0.9, 1.0)}, "betas")])
def test_settings_of_adamw_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdamW(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [Static(0.1), [Static(0.1)]])
def test_methods_that_are_no_tuple_are_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"methods is a (Static|list): give a tuple"):
        Recipe("lenet-300-100", 8, given)


@pytest.mark.parametrize("given", ["sgd", torch.optim.SGD])
def test_an_optimizer_that_is_none_of_ours_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"optimizer is .*: give one of sparsepop\.optim"):
        Recipe("lenet-300-100", 8, optimizer=given)

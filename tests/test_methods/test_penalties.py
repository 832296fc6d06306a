"""Lasso, MCP and SWS: their values and slopes in closed form, and when they end."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsepop.ledger import learnables
from sparsepop.member import Member, Task
from sparsepop.methods import MCP, Cut, Halo, Lasso, Method, SharedLasso, ShareWeights
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from tests.cases import BATCH, TASK, run
from tests.test_methods.small import eight, push, weights


def pushed(member: Member) -> tuple[float, Tensor]:
    """The penalty and its gradient on the eight weights."""
    penalty = member.recipe.methods[0].penalty(member)
    assert penalty is not None
    penalty.backward()
    gradient = member.masks.params["weight"].grad
    assert gradient is not None
    return penalty.item(), gradient.flatten()


def set_weights(member: Member, *values: float) -> None:
    with torch.no_grad():
        member.masks.params["weight"].copy_(torch.tensor([values]))


def test_lasso() -> None:
    member = eight(Lasso(0.25))
    set_weights(member, 1.0, -2.0, 0.0, 4.0, -0.5, 0.0, 0.0, 0.0)
    value, gradient = pushed(member)
    assert value == pytest.approx(0.25 * 7.5)
    assert gradient.tolist() == [0.25, -0.25, 0.0, 0.25, -0.25, 0.0, 0.0, 0.0]


def test_mcp() -> None:
    """Zhang 2010: slope (xi - |w| / psi) sign(w) below psi xi = 2, none above; psi xi^2 / 2 there."""
    member = eight(MCP(0.5, 4.0))
    set_weights(member, 0.0, 1.0, -1.0, 2.0, -2.5, 7.0, 1e-3, -1.9)
    value, gradient = pushed(member)
    assert gradient.tolist() == pytest.approx([0.0, 0.25, -0.25, 0.0, 0.0, 0.0, 0.49975, -0.025])
    inner = sum(0.5 * w - w * w / 8.0 for w in (1.0, 1.0, 1e-3, 1.9))
    assert value == pytest.approx(inner + 3 * 4.0 * 0.25 / 2)


def test_mcp_of_a_large_psi_is_a_lasso() -> None:
    many = torch.linspace(-3.0, 3.0, 61, dtype=torch.float64)
    assert MCP(0.3, 1e9).of(many).item() == pytest.approx(0.3 * many.abs().sum().item(), rel=1e-8)


def test_shared_lasso() -> None:
    member = eight(SharedLasso(0.09, 0.2, initial=0.5))
    set_weights(member, 1.0, -2.0, 0.0, 4.0, -0.5, 0.0, 0.0, 0.0)
    value, gradient = pushed(member)
    assert value == pytest.approx(0.09 / 0.25 * 7.5 + 0.2 * 0.25)
    assert gradient.tolist() == pytest.approx([0.36, -0.36, 0.0, 0.36, -0.36, 0.0, 0.0, 0.0])
    on_coefficient = member.model.get_parameter("shared_coefficient").grad
    assert on_coefficient is not None
    assert on_coefficient.item() == pytest.approx(-2 * 0.09 * 7.5 / 0.125 + 2 * 0.2 * 0.5)


def test_a_shared_coefficient_settles_where_both_terms_balance() -> None:
    """xi |w|_1 / c^2 = psi c^2; at |w|_1 = 0 the floor sqrt(xi) holds."""
    member = eight(SharedLasso(1e-2, 0.1), optimizer=SGD(0.05, momentum=0.0), steps=1000)
    for held, expected in ((36.0, (1e-2 * 36.0 / 0.1) ** 0.25), (0.0, 0.1)):
        for _ in range(1000):
            set_weights(member, *[held / 8] * 8)
            member.optimizer.zero_grad()
            pushed(member)
            push(member, [0.0] * 8)
        assert member.recipe.methods[0].measure(member)["coefficient"] == pytest.approx(expected, rel=1e-4)


def test_one_coefficient_is_one_learnable_that_decays_and_is_not_clipped() -> None:
    recipe = Recipe(
        "lenet-300-100", 12, (SharedLasso(1e-4, 1e-3, 0.7, lr_factor=0.1),), SGD(0.5, weight_decay=0.1)
    )
    member = Member.build(recipe, 0, TASK)
    assert learnables(member.model, member.masks.params.values())["coefficient"] == 1
    (own,) = [g for g in member.optimizer.param_groups if g["weight_decay"] == 0.7]
    assert [p.numel() for p in own["params"]] == [1]
    assert own["lr"] == pytest.approx(0.05)


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("kind", [Lasso(1e-2), MCP(1e-2, 1e9), SharedLasso(1e-2, 0.0)], ids=str)
def test_biases_are_penalised_on_request(kind: Any, biases: bool) -> None:
    method = type(kind)(**{**vars(kind), "biases": biases})
    member = Member.build(Recipe("lenet-300-100", 12, (method,), batch=BATCH), 0, TASK)
    run(member, 2)
    member.model.zero_grad()
    penalty = method.penalty(member)
    penalty.backward()
    gradient = member.model.get_parameter("1.bias").grad
    assert (gradient is not None and bool(gradient.any())) == biases


def blocks(task: Task) -> nn.Module:
    """Three blocks of one linear layer each, with biases."""
    block = [nn.Sequential(OrderedDict(fc=nn.Linear(64, 64))) for _ in range(3)]
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), stage=nn.Sequential(*block), fc=nn.Linear(64, 10)))


@pytest.mark.parametrize(
    "kind", [Lasso(1e-2), MCP(1e-2, 1e9), SharedLasso(1e-2, 0.0), Halo(1e-2, 0.0)], ids=str
)
def test_biases_of_layers_that_borrow_their_weights_are_penalised(kind: Any) -> None:
    recipe = Recipe(blocks, 4, (ShareWeights(), kind), batch=BATCH)
    member = Member.build(recipe, 0, Task((1, 8, 8), 10))
    bias = member.model.get_parameter("stage.2.fc.bias")
    assert list(member.masks.params) == ["stage.0.fc.weight", "stage.1.fc.weight", "fc.weight"]
    kind.penalty(member).backward()
    for name, param in member.model.named_parameters():
        assert (param.grad is not None) == (not name.endswith("gain")), name
    assert bias.grad is not None
    assert torch.equal(bias.grad, 1e-2 * bias.sign())
    again = Member.restore(recipe, 1, Task((1, 8, 8), 10), member.state())
    assert again.model.state_dict().keys() == member.model.state_dict().keys()


@pytest.mark.parametrize(
    "method",
    [Lasso(0.1), MCP(0.1, 1.0), SharedLasso(0.1, 0.1), Halo(0.1, 0.1)],
    ids=lambda m: type(m).__name__,
)
def test_every_penalty_ends_at_the_cut(method: Method) -> None:
    member = eight(method, Cut(0.5, 1))
    assert method.penalty(member) is not None
    set_weights(member, *range(1, 9))
    push(member, [0.0] * 8)
    assert method.penalty(member) is None
    assert weights(member).nonzero().flatten().tolist() == [4, 5, 6, 7]
    assert [name for name, _ in member.model.named_parameters()] == ["weight"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Lasso(-0.1), r"strength must not be negative, got -0\.1"),
        (lambda: MCP(-0.1, 1.0), r"xi must not be negative, got -0\.1"),
        (lambda: MCP(0.1, 0.0), r"psi must be positive, got 0\.0"),
        (lambda: SharedLasso(0.1, -1.0), r"psi must not be negative, got -1\.0"),
        (lambda: SharedLasso(0.1, 0.1, decay=-1.0), "decay must not be negative"),
        (lambda: SharedLasso(4.0, 0.1), r"above sqrt\(xi\) = 2, got 1\.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()

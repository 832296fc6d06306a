"""The recurrent networks: torch's own LSTM, published sizes, what the ledger and the methods see of them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsepop.ledger import learnables, measure_costs
from sparsepop.masks import prunable_names
from sparsepop.member import Member, Task
from sparsepop.methods import Thresholds
from sparsepop.models import build
from sparsepop.models.lstm import LSTM
from sparsepop.nn.masked import pruned_once
from sparsepop.nn.threshold import prune
from sparsepop.recipe import Recipe

MNIST = (1, 28, 28)


def twin(ours: nn.Module, layers: int) -> nn.LSTM:
    """torch's LSTM with the weights of `ours`, its second bias zero."""
    state = ours.state_dict()
    inputs = state["lstm1.inputs.weight"].shape[1]
    theirs = nn.LSTM(inputs, state["lstm1.hidden.weight"].shape[1], layers, batch_first=True).double()
    with torch.no_grad():
        for layer in range(layers):
            for kind, part in (("ih", "inputs"), ("hh", "hidden")):
                getattr(theirs, f"weight_{kind}_l{layer}").copy_(state[f"lstm{layer + 1}.{part}.weight"])
            getattr(theirs, f"bias_ih_l{layer}").copy_(state[f"lstm{layer + 1}.inputs.bias"])
            getattr(theirs, f"bias_hh_l{layer}").zero_()
    return theirs


def loss_of(logits: Tensor) -> Tensor:
    return logits.logsumexp(1).sum()


def test_outputs_and_gradients_are_those_of_torchs_lstm() -> None:
    torch.manual_seed(0)
    model = build("lstm-a", (2, 6, 5), 10).double()
    for param in model.parameters():
        nn.init.normal_(param, 0.0, 0.2)
    theirs = twin(model, 2)
    images = torch.randn(4, 2, 6, 5, dtype=torch.float64)
    # a row of the image is one step of the sequence, its channels side by side
    rows = torch.stack([torch.cat([images[:, 0, t], images[:, 1, t]], 1) for t in range(6)], 1)
    expected = model.get_submodule("fc")(theirs(rows)[0][:, -1])
    loss_of(expected).backward()
    wanted = {name: param.grad for name, param in theirs.named_parameters()}
    model.zero_grad()
    got = model(images)
    loss_of(got).backward()
    torch.testing.assert_close(got, expected)
    for layer in (0, 1):
        for kind, part in (("ih", "inputs"), ("hh", "hidden")):
            grad = model.get_parameter(f"lstm{layer + 1}.{part}.weight").grad
            torch.testing.assert_close(grad, wanted[f"weight_{kind}_l{layer}"])


@pytest.mark.parametrize(("name", "gates", "width"), [("lstm-a", 210_944, 128), ("lstm-b", 815_104, 256)])
def test_sizes_are_as_published(name: str, gates: int, width: int) -> None:
    model = build(name, MNIST, 10)
    names = prunable_names(model)
    assert names == [
        *(f"lstm{i}.{part}.weight" for i in (1, 2) for part in ("inputs", "hidden")),
        "fc.weight",
    ]
    assert sum(model.get_parameter(each).numel() for each in names[:-1]) == gates
    params = {each: model.get_parameter(each) for each in names}
    assert learnables(model, params.values()) == {"bias": 2 * 4 * width + 10}
    assert all(param.abs().max() <= width**-0.5 for param in params.values())
    costs = measure_costs(model, MNIST, params)
    assert sum(costs.macs.values()) == 28 * gates + 10 * width
    assert costs.other_macs == 0


@pytest.mark.parametrize(("name", "thresholds"), [("lstm-a", 2_048), ("lstm-b", 4_096)])
def test_thresholds_are_as_many_as_published(name: str, thresholds: int) -> None:
    """One for each gate's unit in each of its two matrices; the classifier is not pruned."""
    recipe = Recipe(name, 1, (Thresholds(1e-4),), keep_dense=("fc.weight",))
    member = Member.build(recipe, 0, Task(MNIST, 10))
    assert learnables(member.model, member.masks.params.values())["threshold"] == thresholds


def test_a_matrix_used_at_every_row_is_pruned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and gradients of weights and thresholds are what pruning at every row gives."""
    recipe = Recipe("lstm-a", 1, (Thresholds(1e-4),), keep_dense=("fc.weight",))
    images = torch.randn(3, *MNIST, generator=torch.Generator().manual_seed(0))

    def outcome(build_context: Any) -> tuple[list[Tensor], int]:
        calls = 0

        def counted(weight: Tensor, threshold: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return prune(weight, threshold)

        monkeypatch.setattr("sparsepop.nn.masked.prune", counted)
        monkeypatch.setattr("sparsepop.models.lstm.pruned_once", build_context)
        member = Member.build(recipe, 0, Task(MNIST, 10))
        for name, param in member.model.named_parameters():
            if name.endswith("threshold"):
                nn.init.constant_(param, 0.02)
        calls = 0
        logits = member.model(images)
        loss_of(logits).backward()
        return [logits.detach(), *(p.grad for p in member.model.parameters() if p.grad is not None)], calls

    once, few = outcome(pruned_once)
    at_every_row, many = outcome(nullcontext)
    assert (few, many) == (4, 2 + 2 * 28)
    for one, other in zip(once, at_every_row, strict=True):
        torch.testing.assert_close(one, other)


def test_a_sequence_is_read_in_order() -> None:
    torch.manual_seed(0)
    layer = LSTM(3, 4)
    x = torch.randn(2, 5, 3)
    changed = x.clone()
    changed[:, 3] += 1.0
    before, after = layer(x), layer(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:], after[:, 3:]).all(2).any()


def test_autocast_keeps_the_cell_in_float32() -> None:
    torch.manual_seed(0)
    model = build("lstm-a", MNIST, 10)
    images = torch.randn(4, *MNIST)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = model(images)
    torch.testing.assert_close(rough.float(), model(images).detach(), rtol=0.05, atol=0.02)

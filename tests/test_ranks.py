"""Members trained by several processes together: the training of one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from sparsepop.member import Member
from sparsepop.ranks import Ranks, RanksDiffer, plain_norms
from sparsepop.recipe import Recipe
from sparsepop.train import Report, train
from tests.cases import CASES, TASK, Toy

WORLD = 2


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    torch.manual_seed(rank)
    ranks = Ranks.joined()
    results = {name: trained(recipe, ranks) for name, recipe in RECIPES.items()}
    more: list[Callable[[Ranks], Any]] = [local_norms, local_tickets, norms, activated, apart, shared]
    results |= {work.__name__: work(ranks) for work in more}
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def exact(recipe: Recipe, **more: Any) -> Recipe:
    return replace(recipe, precision="float64", **more)


RECIPES = {
    "rigl": exact(CASES["rigl"].recipe),
    "rigl-adamw": exact(CASES["rigl-adamw"].recipe),
    "granet": exact(CASES["granet"].recipe),
    "dense": exact(CASES["dense"].recipe),
    "gmp-late": exact(CASES["gmp-late"].recipe),
    "sup-tickets": exact(CASES["sup-tickets"].recipe),
    "dst": exact(CASES["dst"].recipe),
    "halo-adamw": exact(CASES["halo-adamw"].recipe),
    "gap": exact(CASES["gap"].recipe),
    "east": exact(CASES["east"].recipe),
    "sup-tickets-each": exact(CASES["sup-tickets-each"].recipe),
}


def trained(recipe: Recipe, ranks: Ranks) -> tuple[list[Report], dict[str, Any]]:
    member = Member.build(recipe, 3, TASK, ranks=ranks)
    reports = list(train(member, Toy(), every=4))
    return reports, member.state()


Both = list[dict[str, Any]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """What each of two gloo processes found, by the name of what it did."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_rank, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_follow_the_trajectory_of_one(name: str, both: Both) -> None:
    reports, state = trained(RECIPES[name], Ranks())
    for theirs, their_state in (each[name] for each in both):
        for one, other in zip(reports, theirs, strict=True):
            for own, layer in zip(one.layers, other.layers, strict=True):
                assert replace(layer, numbers={}) == replace(own, numbers={})
                assert layer.numbers == pytest.approx(dict(own.numbers), rel=1e-6, abs=1e-8, nan_ok=True)
            assert other.train_flops == one.train_flops
            assert other.train_loss == pytest.approx(one.train_loss, rel=1e-9)
            assert other.validation.accuracy == one.validation.accuracy
            assert other.validation.loss == pytest.approx(one.validation.loss, rel=1e-9)
        for key, mask in state["masks"]["tensors"].items():
            assert torch.equal(their_state["masks"]["tensors"][key], mask)
        for key, value in state["model"].items():
            torch.testing.assert_close(their_state["model"][key], value, rtol=1e-8, atol=1e-10)


def test_the_processes_hold_the_same_member(both: Both) -> None:
    one, other = both
    for name in RECIPES:
        for key, value in one[name][1]["model"].items():
            assert torch.equal(value, other[name][1]["model"][key]), key


def local_norms(ranks: Ranks) -> tuple[list[Report], dict[str, Any]]:
    return trained(exact(CASES["rigl"].recipe, norms="local"), ranks)


def test_norms_of_each_part_leave_equal_members_too(both: Both) -> None:
    one, other = (each["local_norms"] for each in both)
    for key, value in one[1]["model"].items():
        assert torch.equal(value, other[1]["model"][key]), key
    assert [report.validation for report in one[0]] == [report.validation for report in other[0]]
    running = "bn1.running_mean"
    assert not torch.allclose(one[1]["model"][running], both[0]["rigl"][1]["model"][running], rtol=1e-3)


def norms(ranks: Ranks) -> list[torch.Tensor]:
    torch.manual_seed(0)
    x, target = torch.randn(8, 3, 4, 4).double(), torch.randn(8, 3, 4, 4).double()
    norm = nn.BatchNorm2d(3, momentum=0.3).double()
    nn.init.normal_(norm.weight)
    part = slice(4 * ranks.rank, 4 * ranks.rank + 4) if ranks.world > 1 else slice(None)
    x.requires_grad_()
    wrapped = ranks.wrap(norm)
    (wrapped(x[part]) * target[part]).sum().backward()
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    grads = [each.grad * ranks.world for each in (norm.weight, norm.bias) if each.grad is not None]
    return [x.grad, *grads, norm.running_mean, norm.running_var, norm.num_batches_tracked]  # type: ignore[list-item]


def test_a_synchronised_norm_is_torchs_over_the_whole_batch(both: Both) -> None:
    whole, one, other = norms(Ranks()), *(each["norms"] for each in both)
    assert one[0][4:].abs().max() == 0
    torch.testing.assert_close(one[0] + other[0], whole[0])
    for index in range(1, 6):
        torch.testing.assert_close(one[index], whole[index])
        torch.testing.assert_close(other[index], whole[index])


def local_tickets(ranks: Ranks) -> dict[str, Any]:
    _, state = trained(exact(CASES["sup-tickets"].recipe, norms="local"), ranks)
    remembered: dict[str, Any] = next(each for key, each in state["memory"].items() if "Superpose" in key)
    return remembered["tickets"]


def test_all_processes_remember_the_same_tickets_where_norms_are_local(both: Both) -> None:
    one, other = (each["local_tickets"] for each in both)
    assert one.keys() == other.keys()
    assert len(one) > 1
    for step, ticket in one.items():
        assert any("running_mean" in name for name in ticket["others"])
        for part, tensors in ticket.items():
            for name, value in tensors.items():
                assert torch.equal(value, other[step][part][name]), (step, name)


class Activated(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


class Named(nn.BatchNorm2d):
    """torch's own under another name."""


def test_a_norm_that_computes_something_of_its_own_is_not_synchronised() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), Activated(3))
    with pytest.raises(ValueError, match=r"1 is a Activated.*norms='local'"):
        Ranks(0, 2).wrap(model)
    assert [type(norm) for norm in plain_norms(nn.Sequential(Named(3), nn.BatchNorm1d(3)))] == [
        Named,
        nn.BatchNorm1d,
    ]
    assert plain_norms(nn.Sequential(nn.SyncBatchNorm(3), nn.InstanceNorm2d(3))) == []


def activated(ranks: Ranks) -> tuple[torch.Tensor, torch.Tensor]:
    norm = Activated(3)
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return ranks.wrap(norm, "local")(x).detach(), Activated(3)(x).detach()


def test_a_norm_of_its_own_keeps_its_forward_pass_where_norms_are_local(both: Both) -> None:
    for wrapped, bare in (each["activated"] for each in both):
        assert torch.equal(wrapped, bare)


def apart(ranks: Ranks) -> str:
    member = Member.build(CASES["rigl"].recipe, 3, TASK, ranks=ranks)
    name, mask = next(iter(member.masks.tensors.items()))
    member.masks.set({name: mask.flip(0) if ranks.leads else mask})
    try:
        list(train(member, Toy(), every=4))
    except RanksDiffer as error:
        return str(error)
    return ""


def test_masks_that_differ_end_the_training_on_all_ranks(both: Both) -> None:
    one, other = (each["apart"] for each in both)
    assert one == other
    assert one.startswith("the masks of ranks 0 and 1 differ")


def shared(ranks: Ranks) -> tuple[Any, list[int]]:
    called = []

    def make() -> dict[str, torch.Tensor]:
        called.append(ranks.rank)
        return {"a": torch.arange(3)}

    return ranks.share(make), called


def test_the_leader_speaks_for_all(both: Both) -> None:
    one, other = (each["shared"] for each in both)
    assert torch.equal(one[0]["a"], other[0]["a"])
    assert (one[1], other[1]) == ([0], [])
    assert Ranks().share(lambda: 3) == 3


def test_a_batch_that_cannot_be_split_evenly_is_refused() -> None:
    member = Member.build(replace(CASES["dense"].recipe, batch=15), 3, TASK, ranks=Ranks(0, 2))
    with pytest.raises(ValueError, match="15 images has no equal parts for 2 workers"):
        next(train(member, Toy(), every=4))

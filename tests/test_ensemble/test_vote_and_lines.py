"""Votes, their costs, and straight lines between tickets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sparsepop.ensemble import Point, barrier, cost_of, interpolate, line, vote
from sparsepop.member import Member
from sparsepop.methods import Method, ShareWeights, rigl
from sparsepop.recipe import Recipe
from sparsepop.tickets import load, take
from sparsepop.train import train
from tests.cases import BATCH, TASK, Toy
from tests.test_ensemble.made import SETTING, trained


def test_a_vote_is_the_mean_of_probabilities() -> None:
    tickets = [trained(0), trained(1), trained(2, 0.1, "lenet-300-100")]
    found = vote(tickets, SETTING, "test")
    (images, labels) = next(iter(Toy().batches("test", 30)))
    with torch.no_grad():
        each = [load(ticket)[0](images) for ticket in tickets]
    wanted = sum(logits.double().softmax(1) for logits in each) / 3
    torch.testing.assert_close(found.outputs[0].exp(), wanted)
    assert torch.equal(found.outputs[1], labels)
    assert all(torch.equal(one, other) for one, other in zip(found.each, each, strict=True))


def test_a_vote_of_one_answers_as_it_does() -> None:
    logits, labels = SETTING.outputs(trained(0), "validation")
    found, _ = vote([trained(0)], SETTING, "validation").outputs
    torch.testing.assert_close(found, logits.double().log_softmax(1))
    assert float(F.nll_loss(found, labels)) == pytest.approx(float(F.cross_entropy(logits.double(), labels)))
    with pytest.raises(ValueError, match="no ticket to vote"):
        vote([], SETTING, "test")


def test_the_smallest_probabilities_do_not_vanish() -> None:
    class Certain:
        def outputs(self, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.tensor([[0.0, 2000.0]]), torch.tensor([0])

    logits, _ = vote([trained(0), trained(1)], Certain(), "test").outputs  # type: ignore[arg-type]
    assert logits[0, 0] == -2000.0


@pytest.mark.parametrize("first", [(), (ShareWeights(),)], ids=["own", "shared"])
def test_costs_add_up_and_are_the_ledgers(first: tuple[Method, ...]) -> None:
    methods = (*first, *rigl(0.1, 4, interval=2))
    member = Member.build(Recipe("resnet-20-w4", 4, methods, batch=BATCH), 0, TASK)
    list(train(member, Toy(), every=4))
    one, other = take(member), trained(1)
    cost, both = cost_of([one]), cost_of([one, other])
    assert (cost.alive, cost.prunable) == (member.masks.alive, member.masks.total)
    assert cost.inference_flops == pytest.approx(member.forward_flops)
    assert both.alive == one.alive + other.alive
    assert both.inference_flops == cost.inference_flops + cost_of([other]).inference_flops


# --- lines


def test_between_two_tickets_lies_their_mean() -> None:
    one, other = trained(0), trained(1)
    middle = interpolate(one, other, 0.25)
    for name, value in middle.state().items():
        if value.is_floating_point():
            wanted = 0.75 * one.state()[name] + 0.25 * other.state()[name]
            torch.testing.assert_close(value, wanted, rtol=0, atol=1e-6)
    assert all(torch.equal(m, one.masks[n] | other.masks[n]) for n, m in middle.masks.items())
    assert (interpolate(one, other, 0.0).id, interpolate(one, other, 1.0).id) == (one.id, other.id)
    with pytest.raises(ValueError, match="different networks"):
        interpolate(one, trained(0, model="lenet-300-100"), 0.5)


def test_a_line_begins_and_ends_at_its_tickets() -> None:
    points = line(trained(0), trained(1), SETTING, points=5)
    assert [point.place for point in points] == [0.0, 0.25, 0.5, 0.75, 1.0]
    for point, ticket in ((points[0], trained(0)), (points[-1], trained(1))):
        logits, labels = SETTING.outputs(ticket, "validation")
        assert point.loss == pytest.approx(float(F.cross_entropy(logits, labels)))
        assert point.accuracy == SETTING.accuracy(ticket)


def test_statistics_are_re_estimated_on_the_way_only() -> None:
    fresh, averaged = (
        line(trained(0), trained(1), SETTING, points=3, recalibrate=flag) for flag in (True, False)
    )
    assert [one == other for one, other in zip(fresh, averaged, strict=True)] == [True, False, True]


def test_a_ticket_and_itself_have_no_barrier() -> None:
    points = line(trained(0), trained(0), SETTING, points=3, recalibrate=False)
    assert len({point.loss for point in points}) == 1
    assert barrier(points) == 0.0


def test_barriers_by_hand() -> None:
    losses = [1.0, 1.9, 2.5, 1.0]
    points = [Point(place / 3, loss, 0.0) for place, loss in enumerate(losses)]
    assert barrier(points) == pytest.approx(1.5)
    slope = [Point(place / 2, loss, 0.0) for place, loss in enumerate((1.0, 2.5, 3.0))]
    assert barrier(slope) == pytest.approx(0.5)
    assert barrier([Point(0.0, 1.0, 0.0), Point(0.5, 0.5, 0.0), Point(1.0, 1.0, 0.0)]) == 0.0
    with pytest.raises(ValueError, match="2 points, not 1"):
        line(trained(0), trained(1), SETTING, points=1)

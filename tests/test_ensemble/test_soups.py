"""Superposed tickets against plain arithmetic; what each way to combine keeps, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sparsepop.ensemble import combine, greedy, interpolate, same_mask, superpose
from sparsepop.ensemble import soups as module
from sparsepop.methods import ShareWeights
from sparsepop.overlaps import density_of, occurrences
from sparsepop.tickets import Ticket
from tests.cases import BATCH, Toy
from tests.test_ensemble.made import SETTING, trained


def three() -> list[Ticket]:
    return [trained(seed) for seed in range(3)]


def mean_of(tickets: list[Ticket], weights: list[float]) -> dict[str, torch.Tensor]:
    states = [ticket.state() for ticket in tickets]
    shares = [weight / sum(weights) for weight in weights]
    return {
        name: sum((share * state[name].double() for share, state in zip(shares, states, strict=True)))  # type: ignore[misc]
        for name in states[0]
        if states[0][name].is_floating_point()
    }


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 5.0], [1.0, 0.0, 3.0], [0.0, 1.0, 1.0]])
def test_the_largest_weights_of_the_mean_are_kept(weights: list[float] | None) -> None:
    made = superpose(three(), SETTING, weights).ticket
    mean = mean_of(three(), weights or [1.0] * 3)
    state = made.state()
    assert made.alive == trained(0).alive
    for name, mask in made.masks.items():
        torch.testing.assert_close(state[name].double(), mean[name] * mask, rtol=0, atol=1e-6)
    dropped = torch.cat([mean[name][~mask].abs() for name, mask in made.masks.items()])
    # the largest of each layer stays in any case
    kept = torch.cat([mean[name][mask].abs().sort().values[:-1] for name, mask in made.masks.items()])
    assert float(kept.min()) >= float(dropped.max()) - 1e-6


def test_layer_counts_can_be_kept() -> None:
    assert superpose(three(), SETTING, scope="layer").ticket.counts == trained(0).counts
    assert superpose(three(), SETTING).ticket.counts != trained(0).counts


def test_statistics_are_those_of_the_new_network() -> None:
    made = superpose(three(), SETTING).ticket
    plain = superpose(three(), SETTING, recalibrate=False).ticket
    assert all(torch.equal(value, made.weights[name]) for name, value in plain.weights.items())
    mean = mean_of(three(), [1.0] * 3)
    statistics = [name for name in made.others if "running" in name]
    assert statistics
    for name in statistics:
        torch.testing.assert_close(plain.others[name].double(), mean[name], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(made.others[name], plain.others[name])
    model = module.load(plain)[0]
    torch.optim.swa_utils.update_bn([Toy().batch(0, step, BATCH)[0] for step in range(4)], model)
    for name in statistics:
        torch.testing.assert_close(made.others[name], model.state_dict()[name])


def test_what_is_told_of_the_way() -> None:
    made = superpose(three(), SETTING)
    union = occurrences(ticket.masks for ticket in three())
    assert made.union_density == density_of(union) > trained(0).density
    assert made.recalibrated == SETTING.accuracy(made.ticket)
    assert made.pruned == SETTING.accuracy(superpose(three(), SETTING, recalibrate=False).ticket)
    source = made.ticket.provenance
    assert source.parents == tuple(ticket.id for ticket in three())
    assert (source.kind, source.experiment, source.member) == ("uniform", "toy", None)


def test_what_parents_share_of_their_recipes_is_kept() -> None:
    recipes = [
        {"batch": 16, "augment": False, "optimizer": {"lr": 0.1}, "smoothing": None},
        {"batch": 16, "augment": False, "optimizer": {"lr": 0.2}},
    ]
    tickets = [
        replace(ticket, provenance=replace(ticket.provenance, recipe=recipe))
        for ticket, recipe in zip(three()[:2], recipes, strict=True)
    ]
    made = superpose(tickets, SETTING).ticket
    assert made.provenance.recipe == {"batch": 16, "augment": False}
    assert superpose([tickets[0]] * 2, SETTING).ticket.provenance.recipe == recipes[0]


@pytest.mark.parametrize("how", ["uniform", "score", "greedy", "soup"])
def test_a_ticket_with_itself_is_itself(how: str) -> None:
    ticket = trained(0)
    made = combine([ticket] * 3, SETTING, how, recalibrate=False).ticket
    assert made.id == ticket.id
    assert combine([ticket], SETTING, how, recalibrate=False).ticket.id == ticket.id


def test_weights_that_layers_share_stay_shared() -> None:
    """The average is taken of what is shared and of the gains; the count is that of one ticket."""
    tickets = [trained(seed, model="resnet-20-w4", first=(ShareWeights(),)) for seed in (0, 1)]
    made = superpose(tickets, SETTING).ticket
    assert made.shared == tickets[0].shared
    assert made.alive == tickets[0].alive == round(0.2 * made.total)
    for name in made.shared:
        gain = f"{name.removesuffix('weight')}gain"
        mean = (tickets[0].others[gain] + tickets[1].others[gain]) / 2
        torch.testing.assert_close(made.others[gain], mean)
    with pytest.raises(ValueError, match=r"different networks .*weight is shared in one alone"):
        superpose([tickets[0], trained(0, model="resnet-20-w4")], SETTING)


def test_another_density() -> None:
    less = superpose(three(), SETTING, density=0.1).ticket
    assert less.alive == round(0.1 * less.total)
    mixed = [trained(0), trained(1, 0.1)]
    assert superpose(mixed, SETTING, density=0.2).ticket.alive == trained(0).alive


def test_a_ticket_without_weight_is_left_out() -> None:
    first, second, third = three()
    made = superpose([first, second, third], SETTING, [0.0, 1.0, 2.0])
    assert made.ticket.id == superpose([second, third], SETTING, [1.0, 2.0]).ticket.id
    assert made.ticket.provenance.parents == (second.id, third.id)
    assert made.union_density == density_of(occurrences(each.masks for each in (second, third)))


def test_greedy_at_a_density_that_one_ticket_does_not_have() -> None:
    single, union = trained(0).density, density_of(occurrences(ticket.masks for ticket in three()))
    best, chosen = greedy(three(), SETTING, density=1.2 * single)
    there = density_of(occurrences(ticket.masks for ticket in chosen))
    assert best.ticket.density == pytest.approx(min(1.2 * single, there), rel=1e-3)
    with pytest.raises(ValueError, match="what all tickets together have"):
        greedy(three(), SETTING, density=1.01 * union)


def test_greedy_re_estimates_statistics_of_what_is_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bool]] = []
    plain = module.superpose

    def watched(chosen: list[Ticket], *args: object, **kwargs: object) -> module.Superposed:
        asked.append((len(chosen), bool(kwargs["recalibrate"])))
        return plain(chosen, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "superpose", watched)
    for density, first in ((None, False), (trained(0).density, False), (0.1, True)):
        asked.clear()
        best, _ = greedy(three(), SETTING, density=density)
        assert asked[0] == (1, first)
        assert all(recalibrated for count, recalibrated in asked if count > 1)
        assert best.recalibrated == SETTING.accuracy(best.ticket)
    assert greedy(three(), SETTING, density=0.1, recalibrate=False)[0].ticket.alive == round(
        0.1 * trained(0).total
    )
    assert not asked[-1][1]


def test_same_mask_soups_stay_on_their_mask() -> None:
    tickets = [trained(seed, mask_seed=7) for seed in range(2)]
    assert same_mask(tickets)
    assert not same_mask(three())
    made = combine(tickets, SETTING, "soup")
    assert made.union_density == made.ticket.density == tickets[0].density
    assert same_mask([made.ticket, tickets[0]])
    assert made.pruned == made.unpruned


def test_weights_by_score_are_validation_accuracies() -> None:
    scores = [SETTING.accuracy(ticket) for ticket in three()]
    assert len(set(scores)) > 1
    assert combine(three(), SETTING, "score").ticket.id == superpose(three(), SETTING, scores).ticket.id


def test_a_place_on_a_line_is_pruned_back() -> None:
    first, second, _ = three()
    made = combine([first, second], SETTING, "interpolate", at=0.25)
    assert made.ticket.id == superpose([first, second], SETTING, [3.0, 1.0]).ticket.id
    assert made.unpruned == SETTING.accuracy(interpolate(first, second, 0.25))
    for at, end in ((0.0, first), (1.0, second)):
        found = combine([first, second], SETTING, "interpolate", at=at, recalibrate=False).ticket
        assert (found.id, found.provenance.parents) == (end.id, (end.id,))


def test_greedy_keeps_what_raises_the_validation_score(monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = sorted(three(), key=SETTING.accuracy, reverse=True)
    scores = {(0,): 0.5, (0, 1): 0.5, (0, 2): 0.6}  # a tie does not stay
    tried = []

    def scored(chosen: list[Ticket], *_: object, **__: object) -> module.Superposed:
        places = tuple(next(i for i, each in enumerate(tickets) if each is ticket) for ticket in chosen)
        tried.append(places)
        return module.Superposed(chosen[-1], 0.0, 0.0, 0.0, scores[places])

    monkeypatch.setattr(module, "superpose", scored)
    best, chosen = greedy(three(), SETTING)
    assert tried == [(0,), (0, 1), (0, 2)]
    assert [ticket.id for ticket in chosen] == [tickets[0].id, tickets[2].id]
    assert best.recalibrated == 0.6


def test_greedy_is_never_worse_than_its_best_ticket_on_validation() -> None:
    best, chosen = greedy(three(), SETTING)
    assert best.recalibrated >= max(SETTING.accuracy(ticket) for ticket in three())
    assert best.ticket.provenance.parents == tuple(ticket.id for ticket in chosen)


def test_tickets_are_left_as_they_are() -> None:
    tickets = three()
    before = [replace(ticket).id for ticket in tickets]
    combine(tickets, SETTING, "greedy")
    assert [replace(ticket).id for ticket in tickets] == before


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: superpose([], SETTING), "no ticket"),
        (lambda: greedy([], SETTING), "no ticket"),
        (
            lambda: superpose([trained(0), trained(0, model="lenet-300-100")], SETTING),
            r"different networks .*wrn-10-1 \(3, 8, 8\), 10 classes; lenet-300-100",
        ),
        (
            lambda: superpose([trained(0), trained(1, keep_dense=("conv1.weight",))], SETTING),
            r"different networks .*: conv1\.weight is kept dense in one alone",
        ),
        (lambda: superpose([trained(0), trained(1, 0.1)], SETTING), "different density"),
        (lambda: superpose(three(), SETTING, [1.0, 2.0]), "3 tickets need as many weights"),
        (lambda: superpose(three(), SETTING, [1.0, -1.0, 1.0]), "none negative"),
        (lambda: superpose(three(), SETTING, [0.0, 0.0, 0.0]), "not all 0"),
        (lambda: superpose(three(), SETTING, density=0.9), "all tickets together have"),
        (lambda: superpose(three(), SETTING, density=0.1, scope="layer"), "'layer' keeps the density"),
        (lambda: superpose(three(), SETTING, density=0.0), r"got 0\.0"),
        (lambda: superpose(three(), SETTING, scope="erk"), "'erk'"),
        (lambda: combine(three(), SETTING, "soup"), "share one mask"),
        (lambda: combine(three(), SETTING, "best"), "'best'.*uniform"),
        (lambda: combine(three(), SETTING, "interpolate"), "2 tickets, and there are 3: name two"),
        (lambda: combine(three()[:2], SETTING, "interpolate", at=1.5), r"at=1\.5 is no place on a line"),
    ],
)
def test_what_cannot_be_superposed_is_refused(make: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()  # type: ignore[operator]

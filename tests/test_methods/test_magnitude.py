"""Gradual magnitude pruning: the smallest go, exactly as many as the schedule says, and none comes back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparsepop.masks import Masks
from sparsepop.member import Member
from sparsepop.methods import Magnitude
from sparsepop.methods.magnitude import prune
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cubic, Every, Linear
from tests.cases import BATCH, TASK, go, run
from tests.cases import Toy as Data
from tests.test_methods.small import alive, assign, eight, push


def two_layers() -> Masks:
    small = nn.Parameter(torch.tensor([[0.1, -0.2], [0.3, 0.05]]))
    large = nn.Parameter(torch.tensor([1.0, -2.0, 0.25, 4.0, 0.15, 6.0]).view(3, 2))
    return Masks({"small": small, "large": large})


def test_global_pruning_ranks_all_weights_together() -> None:
    masks = two_layers()
    prune(masks, 0.5, "global")
    assert masks.tensors["small"].tolist() == [[False, False], [True, False]]
    assert masks.tensors["large"].flatten().tolist() == [True, True, False, True, False, True]
    assert torch.equal(masks.params["small"].detach(), torch.tensor([[0.0, 0.0], [0.3, 0.0]]))


def test_no_layer_is_ever_emptied() -> None:
    masks = two_layers()
    prune(masks, 0.2, "global")
    assert masks.tensors["small"].tolist() == [[False, False], [True, False]]
    assert masks.tensors["large"].flatten().tolist() == [False] * 5 + [True]
    zeros = Masks({"a": nn.Parameter(torch.zeros(4)), "b": nn.Parameter(torch.ones(4))})
    prune(zeros, 0.5, "global")
    assert zeros.counts == {"a": 1, "b": 3}
    zeros.set({"a": torch.tensor([False, False, True, False])})
    prune(zeros, 0.25, "global")
    assert zeros.tensors["a"].tolist() == [False, False, True, False]


def test_fewer_weights_than_layers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"keeps 1 of 10 weights.*the 2 layers: use at least 0\.2"):
        prune(two_layers(), 0.1, "global")


def test_layer_budgets_rank_each_layer_by_itself() -> None:
    masks = two_layers()
    prune(masks, 0.5, "uniform")
    assert masks.tensors["small"].tolist() == [[False, True], [True, False]]
    assert masks.tensors["large"].flatten().tolist() == [False, True, False, True, False, True]


def test_what_one_layer_lacks_others_keep() -> None:
    """A state that comes from a member which ranked all layers together has layers below their share."""
    masks = two_layers()
    masks.set({"small": torch.tensor([[False, False], [True, False]])})
    prune(masks, 0.5, "uniform")
    assert masks.counts == {"small": 1, "large": 4}
    assert masks.alive == 5
    assert masks.tensors["large"].flatten().tolist() == [True, True, False, True, False, True]


@pytest.mark.parametrize("scope", ["global", "uniform"])
def test_pruning_never_brings_a_weight_back(scope: str) -> None:
    masks = two_layers()
    prune(masks, 0.5, scope)
    before = {name: mask.clone() for name, mask in masks.tensors.items()}
    with torch.no_grad():
        for param in masks.params.values():
            param.add_(9.0)  # dead weights too: they must not be ranked
    prune(masks, 0.3, scope)
    assert masks.alive == 3
    assert not any((mask & ~before[name]).any() for name, mask in masks.tensors.items())
    prune(masks, 0.9, scope)
    assert masks.alive == 3


def test_one_step_on_eight_weights() -> None:
    member = eight(Magnitude(0.5, Every(1)))
    assign(member, [0.3, -0.1, 0.5, -0.7, 0.2, 0.6, -0.4, 0.8], range(8))
    # weight 1 learns to be large before the ranking, weight 7 to be small
    push(member, [0.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.9])
    assert alive(member) == [1, 2, 3, 5]


def test_density_follows_the_cubic_curve_from_dense_to_its_end() -> None:
    """Zhu & Gupta 2017, equation 1: half way, an eighth of the way is left."""
    curve = Cubic(1.0, 0.1, 20, 4)
    member = Member.build(Recipe("wrn-10-1", 24, (Magnitude(curve, Every(4, 4)),), batch=BATCH), 0, TASK)
    seen = {step: member.masks.alive for step in go(member, Data(), 24)}
    assert seen[0] == seen[4] == member.masks.total
    assert seen[12] == seen[15] == round((0.1 + 0.9 / 8) * member.masks.total)
    assert seen[16] == round((0.1 + 0.9 / 64) * member.masks.total)
    assert seen[20] == seen[24] == round(0.1 * member.masks.total)


def test_the_end_is_reached_where_no_update_is_due() -> None:
    ramp = Linear(1.0, 0.2, 7)
    member = Member.build(Recipe("wrn-10-1", 9, (Magnitude(ramp, Every(4)),), batch=BATCH), 0, TASK)
    run(member, 7)
    assert member.masks.alive == round(0.2 * member.masks.total)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0.0}, r"got 0\.0"),
        ({"density": Cubic(1.0, 0.0, 9)}, r"got 0\.0"),
        ({"density": 0.5, "scope": "layer"}, "'layer'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Magnitude(**settings)  # type: ignore[arg-type]


def test_who_takes_over_a_network_still_to_be_pruned_prunes_it_a_step_later() -> None:
    def recipe(end: int) -> Recipe:
        return Recipe("lenet-300-100", 12, (Magnitude(Cubic(1.0, 0.1, end), Every(2, 2, end)),), batch=BATCH)

    donor = run(Member.build(recipe(10), 1, TASK), 7)
    assert donor.masks.density > 0.1
    receiver = run(Member.restore(recipe(4), 2, TASK, donor.state()), 1)
    assert receiver.masks.alive == round(0.1 * 88_600)

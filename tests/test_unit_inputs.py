"""Networks fed with pixels from 0 to 1."""

from __future__ import annotations

import torch

from sparsepop.member import Member, Task
from sparsepop.methods import static
from sparsepop.models import build
from sparsepop.models.unit import FedUnits
from sparsepop.recipe import Recipe
from sparsepop.tickets.network import load, take_plain


def test_the_network_sees_pixels_again() -> None:
    torch.manual_seed(0)
    model = FedUnits("lenet-300-100")(Task((1, 8, 8), 10))
    torch.manual_seed(0)
    bare = build("lenet-300-100", (1, 8, 8), 10)
    pixels = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(model((pixels - 0.1307) / 0.3081), bare(pixels))


def test_it_is_a_recipes_model() -> None:
    recipe = Recipe(FedUnits("lenet-300-100"), 4, static(0.1))
    assert recipe == Recipe(FedUnits("lenet-300-100"), 4, static(0.1))
    member = Member.build(recipe, 0, Task((1, 8, 8), 10))
    assert list(member.masks.params) == ["net.1.weight", "net.3.weight", "net.5.weight"]


def test_its_tickets_make_it_again() -> None:
    member = Member.build(Recipe(FedUnits("lenet-300-100", 0.5), 4, static(0.1)), 0, Task((1, 8, 8), 10))
    network, _ = load(take_plain(member))
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(network(x), member.model.eval()(x))

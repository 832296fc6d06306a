"""What HALO does to a network in training, on the digits: the directions that are known from MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest
import torch

from sparsepop.data import open_data
from sparsepop.member import Member, Task
from sparsepop.methods import AtDensity, Halo, Lasso, Method, NearZero, halo_rates
from sparsepop.methods.coefficients import pairs
from sparsepop.methods.shrinkage import flat
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.train import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
STEPS = 2000
PSI_DRIVEN = Halo(1e-4, 1e-3)


def grown(*methods: Method) -> Member:
    """A member that is one step before its end, so that nothing is hardened yet."""
    data = open_data("digits")
    lr, _ = halo_rates(0.1, (STEPS // 2, STEPS * 3 // 4))
    seen = (NearZero(), AtDensity((0.05, 0.02, 0.01)))
    member = Member.build(
        Recipe("lenet-300-100", STEPS, (*methods, *seen), SGD(lr), batch=64),
        0,
        Task(data.shape, data.classes),
    )
    list(train(member, data, every=STEPS, until=STEPS - 1))
    return member


@cache
def numbers(*methods: Method) -> Mapping[str, float]:
    """What `grown` reports, and its uncut validation accuracy as `uncut`."""
    data, member = open_data("digits"), grown(*methods)
    found = {k: n for m in member.recipe.methods for k, n in m.measure(member).items()}
    for method in (*member.recipe.methods, AtDensity((1.0,))):
        found |= method.examine(member, data)
    return {**found, "uncut": found["accuracy_at_1"]}


def test_a_cut_costs_halo_nothing_where_it_breaks_a_plain_network() -> None:
    halo, plain = numbers(PSI_DRIVEN), numbers()
    assert plain["uncut"] > 0.97
    assert halo["uncut"] > 0.97
    assert halo["accuracy_at_0.02"] >= halo["uncut"] - 0.01
    assert halo["accuracy_at_0.01"] >= halo["uncut"] - 0.02
    assert plain["accuracy_at_0.02"] < 0.75


def test_psi_shrinks_weights_once_it_has_the_time() -> None:
    """psi x sum of lr / (1 - momentum) is 0.01, 0.3 and 1; with too little it is a lasso of strength xi."""
    shares = [numbers(Halo(1e-5, psi))["near_zero_0.001"] for psi in (1e-5, 3e-4, 1e-3)]
    lasso = numbers(Lasso(1e-5))
    assert shares == sorted(shares)
    assert shares[2] > shares[0] + 0.5
    assert shares[0] == pytest.approx(lasso["near_zero_0.001"], abs=0.01)
    under_timed = numbers(Halo(1e-5, 1e-5))
    assert under_timed["accuracy_at_0.02"] == pytest.approx(lasso["accuracy_at_0.02"], abs=0.03)


def test_coefficients_follow_the_cube_root_of_their_weights() -> None:
    member = grown(PSI_DRIVEN)
    w, c = (flat(each).double().abs() for each in pairs(member.model, member.masks.params))
    large = w > 0.05
    correlation = torch.corrcoef(torch.stack([w[large] ** (1 / 3), c[large]]))[0, 1].item()
    assert correlation > 0.9
    expected = (2 * PSI_DRIVEN.xi * w[large] / 1e-3) ** (1 / 3)
    assert (c[large] / expected).median().item() == pytest.approx(1.0, abs=0.1)


def test_the_published_setting_without_decay_is_plain_training() -> None:
    halo, plain = numbers(Halo(1e-8, 1e-8)), numbers()
    assert halo["coefficient_05"] == pytest.approx(1.0, abs=1e-4)
    for name, number in plain.items():
        assert halo[name] == pytest.approx(number, abs=0.02)

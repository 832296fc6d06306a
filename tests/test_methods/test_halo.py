"""HALO's penalty and coefficients against closed forms: what each weight's coefficient balances at."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsepop.ledger import learnables
from sparsepop.masks import prunable_names
from sparsepop.member import Member
from sparsepop.methods import Cut, Halo, Method
from sparsepop.methods.adaptive_lasso import adaptive_lasso
from sparsepop.methods.coefficients import attach, keep_above, mark, pairs
from sparsepop.methods.penalties import size
from sparsepop.models import build
from sparsepop.models.resnet import Basic, projection, resnet, small_stem
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Linear, Milestones
from sparsepop.train import train
from tests.cases import BATCH, TASK, Toy, go, run
from tests.test_methods.small import eight, push, weights

SIZES = (1e-4, 1e-3, 1e-2, 5e-2, 2e-1)


def drawn(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def settled(xi: float, psi: float, decay: float, steps: int, lr: float = 0.1, start: float = 1.0) -> Tensor:
    """Coefficients of fixed weights of the sizes SIZES after `steps` steps of SGD with momentum 0.9."""
    fixed = torch.tensor(SIZES, dtype=torch.float64)
    coefficient = nn.Parameter(torch.full_like(fixed, start))
    optimizer = SGD(lr, weight_decay=7.0).build([mark(coefficient, decay, 1.0)])
    for _ in range(steps):
        optimizer.zero_grad()
        adaptive_lasso(xi, psi, [fixed], [coefficient]).backward()
        optimizer.step()
    return coefficient.detach()


def balance(xi: float, psi: float, decay: float, size: float) -> float:
    """The positive root of decay c^4 + psi c^3 = 2 xi |w|, by bisection."""
    low, high = 0.0, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        above = decay * middle**4 + psi * middle**3 > 2 * xi * size
        low, high = (low, middle) if above else (middle, high)
    return low


# --- the penalty


def test_gradients_are_those_of_the_paper() -> None:
    one, other, c, d = drawn(0, (4, 3), (5,), (4, 3), (5,))
    adaptive_lasso(0.3, 0.7, [one, other], [c, d]).backward()
    for w, coefficient in ((one, c), (other, d)):
        on_weight = 0.3 * w.sign() / coefficient**2
        on_coefficient = -2 * 0.3 * w.abs() / coefficient**3 + 0.7 * coefficient.sign()
        torch.testing.assert_close(w.grad, on_weight.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(coefficient.grad, on_coefficient.detach(), rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences_and_of_autograd() -> None:
    tensors = drawn(1, (3, 2), (4,), (3, 2), (4,))

    def penalty(*tensors: Tensor) -> Tensor:
        return adaptive_lasso(0.3, 0.7, tensors[:2], tensors[2:])

    assert torch.autograd.gradcheck(penalty, tensors)
    plain = sum(
        0.3 * (w.abs() / c**2).sum() + 0.7 * c.abs().sum()
        for w, c in zip(tensors[:2], tensors[2:], strict=True)
    )
    assert isinstance(plain, Tensor)
    torch.testing.assert_close(penalty(*tensors), plain, rtol=1e-13, atol=0)
    mine, autograd = (torch.autograd.grad(2.5 * value, tensors) for value in (penalty(*tensors), plain))
    torch.testing.assert_close(mine, autograd, rtol=1e-12, atol=1e-12)


def test_a_weight_of_exactly_zero_is_not_pushed() -> None:
    w = torch.zeros(3, requires_grad=True)
    c = torch.tensor([1.0, -0.1, 1e-4], requires_grad=True)
    adaptive_lasso(1e-8, 1e-3, [w], [c]).backward()
    assert w.grad is not None
    assert c.grad is not None
    assert w.grad.tolist() == [0.0] * 3
    assert c.grad.tolist() == pytest.approx([1e-3, -1e-3, 1e-3])


def test_coefficients_fixed_at_one_number_make_a_lasso() -> None:
    one, other = drawn(2, (7, 3), (5,))
    fixed = [torch.full_like(w, 0.25) for w in (one, other)]
    halo, lasso = adaptive_lasso(1e-3, 0.0, [one, other], fixed), 1e-3 / 0.25**2 * size([one, other])
    torch.testing.assert_close(halo, lasso, rtol=1e-13, atol=0)
    gradients = (torch.autograd.grad(value, (one, other)) for value in (halo, lasso))
    torch.testing.assert_close(*gradients, rtol=1e-13, atol=0)


def test_the_penalty_is_computed_in_the_weights_type_under_autocast() -> None:
    w = torch.tensor([1e-5, -0.3, 1e-6], requires_grad=True)
    c = torch.tensor([1e-4, 0.7, 2e-4], requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = adaptive_lasso(1e-8, 1e-8, [w], [c])
    value.backward()
    exact = [t.detach().double().requires_grad_() for t in (w, c)]
    expected = adaptive_lasso(1e-8, 1e-8, exact[:1], exact[1:])
    expected.backward()
    assert value.dtype == torch.float32
    for mine, double in zip((value, w.grad, c.grad), (expected, *[t.grad for t in exact]), strict=True):
        assert mine is not None
        assert double is not None
        torch.testing.assert_close(mine.detach().double(), double.detach(), rtol=1e-6, atol=0)


# --- what coefficients balance at


@pytest.mark.parametrize(
    ("xi", "psi", "decay"), [(1e-2, 1e-2, 0.0), (1e-3, 0.0, 0.1), (1e-2, 2e-2, 0.1)], ids=str
)
def test_coefficients_of_fixed_weights_go_to_the_balance(xi: float, psi: float, decay: float) -> None:
    found = settled(xi, psi, decay, 4000, lr=0.01)
    expected = torch.tensor([balance(xi, psi, decay, each) for each in SIZES], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    sizes = torch.tensor(SIZES, dtype=torch.float64)
    if decay == 0.0:
        torch.testing.assert_close(expected, (2 * xi * sizes / psi) ** (1 / 3))
    if psi == 0.0:
        torch.testing.assert_close(expected, (2 * xi * sizes / decay) ** (1 / 4))
    shrinkage = xi / found**2
    assert bool((found.diff() > 0).all())
    assert bool((shrinkage.diff() < 0).all())


@pytest.mark.parametrize("decayed", [False, True], ids=["psi", "decay"])
def test_what_a_balanced_weight_pays_is_concave(decayed: bool) -> None:
    """Seto et al. 2021, coefficients eliminated: |w|^(1/3) with psi alone, |w|^(1/2) with decay alone."""
    xi, psi, decay = (2e-3, 0.0, 0.05) if decayed else (1e-3, 1e-2, 0.0)
    sizes = torch.linspace(0.01, 1.0, 200, dtype=torch.float64).requires_grad_()
    best = torch.tensor([balance(xi, psi, decay, float(each)) for each in sizes.detach()]).double()
    pairs = zip(sizes.unbind(), best.unbind(), strict=True)
    shrinking = torch.stack([adaptive_lasso(xi, psi, [weight], [each]) for weight, each in pairs])
    paid = shrinking + decay / 2 * best**2
    closed = (
        (2 * xi * decay * sizes).sqrt() if decayed else 1.5 * psi ** (2 / 3) * (2 * xi * sizes) ** (1 / 3)
    )
    torch.testing.assert_close(paid, closed, rtol=1e-6, atol=0)
    (slope,) = torch.autograd.grad(closed.sum(), sizes)
    (pulled,) = torch.autograd.grad(shrinking.sum(), sizes)
    torch.testing.assert_close(pulled, xi / best**2, rtol=1e-12, atol=0)
    torch.testing.assert_close(slope, pulled, rtol=1e-5, atol=0)
    assert bool((closed.detach().diff().diff() < 0).all())
    at_tenth = 1.5 * 1e-2 ** (2 / 3) * (2 * 1e-3 * 0.1) ** (1 / 3)
    assert (at_tenth, balance(1e-3, 1e-2, 0.0, 0.1)) == pytest.approx((0.0040716, 0.27144), rel=1e-4)


def replayed(xi: float, psi: float, decay: float, steps: int, size: float) -> float:
    """`settled` for one weight, in plain numbers."""
    momentum, coefficient = 0.0, 1.0
    for _ in range(steps):
        momentum = 0.9 * momentum - 2 * xi * size / coefficient**3 + psi + decay * coefficient
        coefficient -= 0.1 * momentum
    return coefficient


def test_the_published_setting_over_eighty_epochs() -> None:
    """xi = psi = 1e-8, SGD 0.1 / 0.9, 782 steps an epoch: decay 1e-4 alone moves coefficients."""
    for decay in (0.0, 1e-4):
        stepped = settled(1e-8, 1e-8, decay, 200).tolist()
        assert stepped == pytest.approx([replayed(1e-8, 1e-8, decay, 200, w) for w in SIZES], rel=1e-12)
    still = [replayed(1e-8, 1e-8, 0.0, 782 * 80, w) for w in SIZES[:4]]
    assert still == pytest.approx([0.9994] * 4, abs=1e-4)
    moved = [replayed(1e-8, 1e-8, 1e-4, 782 * 80, w) for w in SIZES]
    assert moved == pytest.approx([0.0119, 0.0211, 0.0376, 0.0562, 0.0795], rel=0.01)
    course = [replayed(1e-8, 1e-8, 1e-4, 782 * n, 0.05) for n in (1, 10, 20, 40)]
    assert course == pytest.approx([0.926, 0.458, 0.209, 0.061], abs=1e-3)


# --- coefficients beside their weights


def vgg_with_biases() -> nn.Sequential:
    """The convolutions of the published VGG-16, which have biases, and its classifier."""
    widths = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    layers = [nn.Conv2d(a, b, 3) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*layers, nn.Linear(512, 10))


def thin_resnet_50() -> nn.Sequential:
    """The published "ResNet-50": 6n + 2 layers of 16, 32 and 64 channels with projections."""
    return resnet(small_stem(3, 16), Basic, 1, [8] * 3, 16, 100, projection)


@pytest.mark.parametrize(
    ("model", "classifier", "count"),
    [
        (vgg_with_biases, "13.weight", 14_714_688),
        (thin_resnet_50, "fc.weight", 754_096),
        (lambda: build("lenet-300-100", (1, 28, 28), 10), "", 266_610),
    ],
    ids=["vgg-16", "resnet-50", "lenet-300-100"],
)
def test_every_penalised_number_has_one_coefficient(model: Any, classifier: str, count: int) -> None:
    with torch.device("meta"):
        net = model()
    names = [name for name in prunable_names(net) if name != classifier]
    prunable = [net.get_parameter(name) for name in names]
    attach(net, names, True, 1.0, None, 1.0)
    assert learnables(net, prunable)["coefficient"] == count
    ours, theirs = pairs(net, names)
    assert [w.shape for w in ours] == [c.shape for c in theirs]
    assert sum(w.numel() for w in ours) == count


def test_biases_can_be_left_alone() -> None:
    member = eight_hundred(Halo(1e-5, 1e-3, biases=False))
    assert [n for n, _ in member.model.named_parameters() if n.endswith("bias_coefficient")] == []
    assert learnables(member.model, member.masks.params.values())["coefficient"] == member.masks.total


def eight_hundred(*methods: Method, **more: Any) -> Member:
    """A new member of the small table's task."""
    return Member.build(Recipe("lenet-300-100", 12, methods, batch=BATCH, **more), 3, TASK)


def test_coefficients_decay_as_weights_do_though_norms_and_biases_are_spared() -> None:
    optimizer = SGD(weight_decay=0.01, decay_norms=False)

    def decays(method: Halo) -> dict[str, float]:
        member = eight_hundred(method, optimizer=optimizer)
        groups = member.optimizer.param_groups
        found = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        return {name: found[id(p)] for name, p in member.model.named_parameters()}

    usual = decays(Halo(1e-8, 1e-8))
    assert (usual["1.weight"], usual["1.bias"]) == (0.01, 0.0)
    assert (usual["1.weight_coefficient"], usual["1.bias_coefficient"]) == (0.01, 0.01)
    own = decays(Halo(1e-8, 1e-8, decay=0.0))
    assert (own["1.weight"], own["1.weight_coefficient"], own["1.bias_coefficient"]) == (0.01, 0.0, 0.0)


def test_a_penalty_of_nothing_trains_bit_for_bit_as_without_it() -> None:
    more: dict[str, Any] = {"optimizer": SGD(0.1, weight_decay=1e-3), "clip": 0.1}
    plain, halo = run(eight_hundred(**more), 12), run(eight_hundred(Halo(0.0, 0.0), **more), 12)
    for name, param in plain.model.named_parameters():
        assert torch.equal(param, halo.model.get_parameter(name))
    assert plain.forward_flops == halo.forward_flops
    assert plain.train_flops == halo.train_flops


def test_one_step_on_eight_weights() -> None:
    """Momentum 0, rate 0.1: w moves by 0.1 xi / c^2, c by 0.1 (2 xi |w| / c^3 - psi - decay c)."""
    member = eight(Halo(0.04, 0.3, decay=0.02, initial=0.5), optimizer=SGD(0.1, momentum=0.0))
    penalty = member.recipe.methods[0].penalty(member)
    assert penalty is not None
    assert penalty.item() == pytest.approx(0.04 * 36 / 0.25 + 0.3 * 4)
    penalty.backward()
    on_weights = member.masks.params["weight"].grad
    assert on_weights is not None
    push(member, on_weights.flatten().tolist())
    assert weights(member).tolist() == pytest.approx([w - 0.1 * 0.16 for w in range(1, 9)])
    after = [0.5 + 0.1 * (2 * 0.04 * w / 0.125 - 0.3 - 0.02 * 0.5) for w in range(1, 9)]
    assert pairs(member.model, ["weight"])[1][0].flatten().tolist() == pytest.approx(after)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_weights_of_exactly_zero_never_make_numbers_infinite(decay: float) -> None:
    w = nn.Parameter(torch.tensor([0.0, 0.0, 1e-3, -0.1]))
    c = mark(nn.Parameter(torch.ones(4)), decay, 1.0)
    method, optimizer = Halo(1e-6, 1e-3), SGD(0.1).build([w, c])
    for step in range(2000):
        optimizer.zero_grad()
        adaptive_lasso(1e-6, 1e-3, [w], [c]).backward()
        optimizer.step()
        keep_above(method.least, [c])
        if step % 100 == 0:
            assert bool(torch.cat([w, c]).isfinite().all())
    assert method.least == pytest.approx(1e-3)
    assert c.abs().min().item() >= 0.999e-3
    assert w[:2].tolist() == [0.0, 0.0]
    assert w.abs().max().item() <= 0.1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_weights_of_exactly_zero_through_a_hundred_thousand_steps() -> None:
    # a step of psi x lr / (1 - momentum) = 1e-4 is below the floor: no coefficient swings through 0
    member = eight(Halo(1e-6, 1e-4), optimizer=SGD(0.1, weight_decay=1e-3), steps=100_000)
    with torch.no_grad():
        member.masks.params["weight"].fill_(0.0)
    for _ in range(100_000):
        member.optimizer.zero_grad()
        penalty = member.recipe.methods[0].penalty(member)
        assert penalty is not None
        penalty.backward()
        push(member, [0.0] * 8)
    assert weights(member).tolist() == [0.0] * 8
    assert pairs(member.model, ["weight"])[1][0].abs().flatten().tolist() == pytest.approx([1e-3] * 8)


def test_the_floor_keeps_the_side_of_zero() -> None:
    c = torch.tensor([0.5, -0.5, 1e-9, -1e-9, 0.0])
    keep_above(0.1, [c])
    assert c.tolist() == pytest.approx([0.5, -0.5, 0.1, -0.1, 0.1])
    assert Halo(1e-4, 0.0).least == pytest.approx(1e-2)
    assert Halo(0.0, 0.0).least == 1e-8
    assert Halo(1e-4, 0.0, floor=1e-3).least == 1e-3


# --- the cut


def test_the_cut_is_exact_and_spares_what_is_not_prunable() -> None:
    """The published cut would keep one weight fewer: the largest n - int(n p) - 1."""
    recipe = Recipe("wrn-10-1", 5, (Halo(1e-5, 1e-3), Cut(0.05, 5)), batch=BATCH, keep_dense=("fc.weight",))
    member = Member.build(recipe, 3, TASK)
    before: dict[str, Tensor] = {}
    for step in go(member, Toy(), 4):
        if step == 4:
            before = {name: p.detach().clone() for name, p in member.model.named_parameters()}
    twin = Member.build(replace(recipe, steps=6, methods=(recipe.methods[0], Cut(0.05, 6))), 3, TASK)
    run(twin, 5)
    run(member, 1)
    total = member.masks.total
    sizes = torch.cat([twin.masks.params[name].detach().abs().flatten() for name in member.masks.params])
    published = sizes > sizes.sort().values[int(0.95 * total)]
    assert member.masks.alive == round(0.05 * total)
    assert int(published.sum()) == total - int(0.95 * total) - 1
    kept = torch.cat([mask.flatten() for mask in member.masks.tensors.values()])
    layers = len(member.masks.counts)
    assert int((published & ~kept).sum()) <= layers
    assert int((kept & ~published).sum()) <= layers + 2
    for name, param in member.model.named_parameters():
        if name not in member.masks.params:
            assert torch.equal(param, twin.model.get_parameter(name))
        assert not torch.equal(param, before[name])


def test_what_is_extracted_is_the_network_with_zeroed_weights() -> None:
    methods = (Halo(1e-5, 1e-3), Cut(0.1, 12))
    member, twin = (eight_hundred(methods[0], *rest) for rest in ((methods[1],), ()))
    list(train(member, Toy(), every=12))
    run(twin, 12)
    plain = build("lenet-300-100", TASK.shape, TASK.classes)
    plain.load_state_dict(member.model.state_dict(), strict=True)
    assert not any("coefficient" in name for name in member.state()["model"])
    with torch.no_grad():
        for name, param in twin.masks.params.items():
            param.masked_fill_(~member.masks.tensors[name], 0.0)
    images, _ = Toy().batch(0, 0, 8)
    assert torch.equal(plain(images), twin.model(images))
    assert torch.equal(plain(images), member.model(images))


def test_coefficients_and_their_momentum_end_at_the_cut() -> None:
    member = eight_hundred(Halo(1e-5, 1e-3), Cut(0.1, 8))
    held = {}
    for step in go(member, Toy(), 9):
        state = member.state()
        held[step] = {name for name in state["model"] if name.endswith("coefficient")}
        assert {name for name in state["optimizer"]["buffers"] if name.endswith("coefficient")} == held[step]
        groups = {id(p) for group in member.optimizer.param_groups for p in group["params"]}
        assert groups == {id(p) for p in member.model.parameters()}
        if step == 7:
            buffers = state["optimizer"]["buffers"]
            assert all(buffers[name]["momentum_buffer"].any() for name in held[step])
    assert len(held[7]) == 6
    assert held[8] == held[9] == set()
    assert all(method.penalty(member) is None for method in member.recipe.methods)
    assert [note.kind for note in member.take_notes()] == ["cut"]


def test_a_state_from_before_the_cut_brings_coefficients_back() -> None:
    recipe = Recipe("lenet-300-100", 12, (Halo(1e-5, 1e-3), Cut(0.1, 8)), batch=BATCH)
    early, late = run(Member.build(recipe, 1, TASK), 4), run(Member.build(recipe, 2, TASK), 10)
    values = {name: tensor.clone() for name, tensor in early.state()["model"].items()}
    late.load(early.state())
    assert all(torch.equal(tensor, values[name]) for name, tensor in late.state()["model"].items())
    assert not late.masks.enforced
    run(late, 8)
    assert late.masks.alive == round(0.1 * late.masks.total)


# --- what is reported


def test_reports_tell_of_coefficients() -> None:
    member = eight_hundred(Halo(1e-5, 1e-1, initial=0.3), optimizer=SGD(0.05, momentum=0.8))
    *_, before, _ = train(member, Toy(), every=1)
    numbers, layer = before.numbers, before.layers[0].numbers
    assert numbers["coefficient_time"] == pytest.approx(11 * 0.05 / 0.2)
    assert numbers["coefficient_05"] <= numbers["coefficient_50"] <= numbers["coefficient_95"]
    assert numbers["coefficient_50"] < 0.3
    assert (numbers["coefficient_negative"], numbers["coefficient_floored"]) == (0.0, 0.0)
    assert {"coefficient_50", "coefficient_slope", "coefficient_1e-2"} <= set(layer)


@pytest.mark.parametrize(("psi", "decay", "slope"), [(1e-2, 0.0, 1 / 3), (0.0, 0.1, 1 / 4)])
def test_reported_slopes_are_the_balances(psi: float, decay: float, slope: float) -> None:
    method = Halo(1e-3, psi, biases=False)
    member = eight(method)
    (w,), (c,) = pairs(member.model, ["weight"])
    with torch.no_grad():
        w.copy_(torch.logspace(-4.5, -1, 8).view(1, 8))
        c.copy_(torch.tensor([[balance(1e-3, psi, decay, float(each)) for each in w.flatten()]]))
        c[0, 0].neg_()
    numbers = method.measure(member)
    assert numbers["coefficient_slope"] == pytest.approx(slope, abs=1e-5)
    assert numbers["coefficient_negative"] == 1 / 8
    assert numbers["coefficient_largest"] == pytest.approx(balance(1e-3, psi, decay, 0.1))
    layer = method.measure_layers(member)["weight"]
    assert layer["coefficient_1e-5"] == pytest.approx(c[0, 0].abs().item())
    assert layer["coefficient_1e-1"] == pytest.approx(c[0, 7].item())
    with torch.no_grad():
        c[0, :2].fill_(method.least)
    assert method.measure(member)["coefficient_floored"] == 2 / 8


def test_after_the_cut_there_is_nothing_to_tell() -> None:
    member = run(eight_hundred(Halo(1e-5, 1e-3), Cut(0.1, 8)), 9)
    method = member.recipe.methods[0]
    assert (method.measure(member), method.measure_layers(member)) == ({}, {})


# --- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"xi": -1e-8, "psi": 0.1}, "xi must not be negative, got -1e-08"),
        ({"xi": 0.1, "psi": Milestones(-1.0, ())}, r"psi must not be negative, got -1\.0"),
        ({"xi": 0.1, "psi": Linear(0.1, -1.0, 10)}, r"psi must not be negative, got -1\.0"),
        ({"xi": 0.1, "psi": 0.1, "decay": -0.1}, "decay must not be negative"),
        ({"xi": 0.1, "psi": 0.1, "floor": 0.0}, "floor must be at least 1e-08, got 0"),
        ({"xi": 0.1, "psi": 0.1, "initial": 0.0}, r"at least the floor 0\.316, got 0\.0"),
        ({"xi": 0.1, "psi": 0.1, "lr_factor": 0.0}, r"lr_factor must be positive, got 0\.0"),
        (
            {"xi": 0.1, "psi": 0.1, "lr_factor": Linear(1.0, -1.0, 9)},
            r"lr_factor must be positive, got -1\.0",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Halo(**settings)


def test_two_in_one_recipe_are_refused() -> None:
    with pytest.raises(ValueError, match="use one method of this kind"):
        eight(Halo(1e-5, 1e-3), Halo(1e-6, 1e-3))

"""Phased DyReLUs: the unit against its formula, the phase, and its end (EAST, Li et al. 2025)."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sparsepop.ledger import learnables
from sparsepop.member import Member, Task
from sparsepop.methods import PhaseDyReLU, east, rigl, static
from sparsepop.methods.dyrelu import DyReLU
from sparsepop.models import build
from sparsepop.nn import Act
from sparsepop.recipe import Recipe
from sparsepop.schedule import Linear
from sparsepop.train import train
from tests.cases import BATCH, TASK, Toy, run

END = 6
FADING = PhaseDyReLU(Linear(1.0, 0.0, END, 2))


def unit(channels: int = 8, beta: float = 1.0, blend: str = "coefficients") -> DyReLU:
    torch.manual_seed(0)
    made = DyReLU(channels, blend=blend)
    made.beta = beta
    return made


def inputs(channels: int = 8) -> Tensor:
    """Negative, zero and large values among normal ones."""
    x = torch.randn(3, channels, 4, 5, generator=torch.Generator().manual_seed(1))
    x[0, :, 0, :3] = torch.tensor([0.0, 1e30, -1e30])
    return x


@torch.no_grad()
def reference(made: DyReLU, x: Tensor, share: float) -> Tensor:
    """The specification's formula, coefficients blended with a ReLU's by `share`, one number at a time."""
    y = torch.empty_like(x)
    first, second = made.squeeze, made.expand
    scale, plain = (1.0, 1.0, 0.5, 0.5), (1.0, 0.0, 0.0, 0.0)
    for n in range(len(x)):
        h = (first.weight @ x[n].mean((1, 2)) + first.bias).clamp(min=0)
        theta = (2 / (1 + torch.exp(-(second.weight @ h + second.bias))) - 1).view(-1, 4)
        for c in range(x.shape[1]):
            a1, a2, b1, b2 = (share * theta[c, i] * scale[i] + plain[i] for i in range(4))
            y[n, c] = torch.stack([a1 * x[n, c] + b1, a2 * x[n, c] + b2]).amax(0)
    return y


# --- the unit


@pytest.mark.parametrize("blend", ["coefficients", "outputs"])
def test_a_unit_whose_last_layer_is_zero_is_a_relu_bit_for_bit(blend: str) -> None:
    made = unit(blend=blend)
    for param in made.expand.parameters():
        nn.init.zeros_(param)
    assert torch.equal(made(inputs()), inputs().relu())


@pytest.mark.parametrize("blend", ["coefficients", "outputs"])
def test_at_beta_0_it_is_a_relu_bit_for_bit(blend: str) -> None:
    assert torch.equal(unit(beta=0.0, blend=blend)(inputs()), inputs().relu())


@torch.no_grad()
def test_the_way_there_leads_to_the_relu() -> None:
    x = torch.randn(4, 8, 3, 3)
    for blend in ("coefficients", "outputs"):
        gaps = [float((unit(beta=b, blend=blend)(x) - x.relu()).abs().max()) for b in (1.0, 0.5, 0.1, 1e-7)]
        assert gaps == sorted(gaps, reverse=True)
        assert gaps[0] > 0.1
        assert gaps[-1] < 1e-5


@pytest.mark.parametrize("beta", [1.0, 0.7, 0.25])
def test_the_unit_is_its_formula(beta: float) -> None:
    x = torch.randn(2, 8, 2, 3)
    torch.testing.assert_close(unit(beta=beta)(x), reference(unit(), x, beta))
    blended = beta * reference(unit(), x, 1.0) + (1 - beta) * x.relu()
    torch.testing.assert_close(unit(beta=beta, blend="outputs")(x), blended)
    assert beta == 1.0 or not torch.allclose(blended, reference(unit(), x, beta), atol=1e-3)


def test_vectors_are_their_own_means() -> None:
    x = torch.randn(5, 8)
    torch.testing.assert_close(unit()(x), unit()(x[:, :, None, None])[:, :, 0, 0])


@pytest.mark.parametrize("blend", ["coefficients", "outputs"])
def test_gradients_flow_while_beta_is_above_0_alone(blend: str) -> None:
    for beta in (1.0, 0.01, 0.0):
        made, x = unit(beta=beta, blend=blend), torch.randn(3, 8, 4, 5, requires_grad=True)
        made(x).pow(2).sum().backward()
        assert all((p.grad is not None and bool(p.grad.any())) == (beta > 0) for p in made.parameters())
        assert x.grad is not None
        assert x.grad.any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("blend", ["coefficients", "outputs"])
def test_it_differentiates_as_finite_differences_say(blend: str, layout: torch.memory_format) -> None:
    made = unit(4, 0.6, blend).double()
    generator = torch.Generator().manual_seed(2)
    square = torch.randn(2, 4, 3, 2, dtype=torch.float64, generator=generator)
    for x in (square.contiguous(memory_format=layout), square[..., 0], square[..., 0, 0]):
        leaf = x.detach().requires_grad_()
        assert torch.autograd.gradcheck(made, (leaf,))
        assert torch.autograd.gradcheck(lambda *_, leaf=leaf: made(leaf), tuple(made.parameters()))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_coefficients_its_gradient_is_a_relus(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    made, wanted = unit(), torch.randn(3, 8, 4, 5).to(dtype).contiguous(memory_format=layout)
    for param in made.expand.parameters():
        nn.init.zeros_(param)
    x = inputs().to(dtype).contiguous(memory_format=layout).requires_grad_()
    y = made(x)
    (gradient,) = torch.autograd.grad(y, x, wanted)
    assert torch.equal(y, x.relu())
    assert torch.equal(gradient, wanted * (x > 0))
    assert y.stride() == gradient.stride() == x.stride()


def test_autocast_changes_no_more_than_the_inputs_rounding() -> None:
    x = torch.randn(3, 8, 4, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = unit()(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), unit()(x.float()), rtol=0.03, atol=0.03)


@pytest.mark.parametrize(("channels", "count"), [(64, 5_392), (128, 21_024), (256, 83_008), (512, 329_856)])
def test_parameters_of_a_unit(channels: int, count: int) -> None:
    assert (
        sum(p.numel() for p in DyReLU(channels).parameters()) == count == 1.25 * channels**2 + 4.25 * channels
    )


# --- in a network


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("lenet-300-100", 2),
        ("lenet-5", 3),
        ("vgg-16-w4", 13),
        ("resnet-20-w4", 19),
        ("resnet-50-w4", 49),
        ("wrn-10-1", 7),
    ],
)
def test_every_slot_of_every_network_gets_a_unit_of_its_width(name: str, units: int) -> None:
    model = build(name, (3, 32, 32), 10)
    PhaseDyReLU(Linear(1.0, 0.0, 9)).surgery(model, [])
    found = [part for part in model.modules() if isinstance(part, Act)]
    assert [type(part) for part in found] == [DyReLU] * units
    assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_resnet_34_has_33_units_with_15_percent_more_parameters() -> None:
    with torch.device("meta"):
        model = build("resnet-34", (3, 32, 32), 10)
        backbone = sum(p.numel() for p in model.parameters())
        PhaseDyReLU(Linear(1.0, 0.0, 9)).surgery(model, [])
    assert sum(isinstance(part, DyReLU) for part in model.modules()) == 33
    assert learnables(model, [])["dyrelu"] == 3_181_168
    assert 3_181_168 / backbone == pytest.approx(0.1495, abs=1e-4)


def member(*, phase: PhaseDyReLU = FADING, steps: int = 12, seed: int = 1) -> Member:
    methods = (*rigl(0.1, steps, interval=3), phase)
    return Member.build(Recipe("resnet-20-w4", steps, methods, batch=BATCH), seed, TASK)


def units(of: Member) -> list[DyReLU]:
    return [part for part in of.model.modules() if isinstance(part, DyReLU)]


def test_masks_and_counts_know_nothing_of_the_units() -> None:
    plain = Recipe("resnet-20-w4", 12, rigl(0.1, 12, interval=3), batch=BATCH)
    bare, phased = Member.build(plain, 1, TASK), member()
    assert phased.masks.counts == bare.masks.counts
    assert phased.masks.digest() == bare.masks.digest()
    assert all(torch.equal(p, bare.masks.params[n]) for n, p in phased.masks.params.items())
    extra = learnables(phased.model, phased.masks.params.values())
    assert extra.pop("dyrelu") == sum(p.numel() for unit in units(phased) for p in unit.parameters())
    assert extra == learnables(bare.model, bare.masks.params.values())
    macs = sum(u.squeeze.weight.numel() + u.expand.weight.numel() for u in units(phased))
    assert phased.costs.other_macs == bare.costs.other_macs + macs


def test_beta_follows_the_step() -> None:
    living, betas = member(), []
    for _ in range(END):
        betas.append({each.beta for each in units(living)})
        assert FADING.measure(living) == {"beta": next(iter(betas[-1]))}
        run(living, 1)
    assert betas == [{b} for b in (1.0, 1.0, 1.0, 0.75, 0.5, 0.25)]


def test_the_papers_phase_in_epochs() -> None:
    """250 epochs, epoch e = steps (e - 1) S to e S: 1 up to epoch 62, 0 from epoch 124 on."""
    per_epoch = 352
    (phase,) = (m for m in east(0.001, 250 * per_epoch) if isinstance(m, PhaseDyReLU))
    beta = {epoch: phase.beta(round((epoch - 1) * per_epoch)) for epoch in (1, 62, 62.5, 63, 93.25, 124, 250)}
    assert beta[1] == beta[62] == beta[62.5] == 1.0
    assert beta[63] == pytest.approx(0.9919, abs=5e-5)
    assert beta[93.25] == pytest.approx(0.5)
    assert beta[124] == beta[250] == 0.0
    way = [phase.beta(step) for step in range(0, 250 * per_epoch, 50)]
    assert way == sorted(way, reverse=True)


def test_at_the_phases_end_everything_of_it_is_gone() -> None:
    living = member()
    run(living, END - 1)
    gone = {id(p) for unit in units(living) for p in unit.parameters()}
    kept = {p: living.optimizer.state[p]["momentum_buffer"].clone() for p in living.masks.params.values()}
    before = living.costs.other_macs
    saved = io.BytesIO()
    torch.save(living.model, saved)
    run(living, 1)
    assert not units(living)
    held = [p for group in living.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in living.model.parameters()}
    assert not gone & {id(p) for p in [*held, *living.optimizer.state]}
    assert not any("squeeze" in name for name in living.state()["optimizer"]["buffers"])
    assert kept.keys() <= living.optimizer.state.keys()
    assert "dyrelu" not in learnables(living.model, living.masks.params.values())
    assert living.costs.other_macs < before
    (note,) = living.take_notes()
    assert (note.step, note.kind) == (END, "phase")
    assert note.numbers["parameters"] == sum(
        p.numel()
        for part in torch.load(io.BytesIO(saved.getvalue()), weights_only=False).modules()
        if isinstance(part, DyReLU)
        for p in part.parameters()
    )


def test_dropping_the_units_changes_no_output_bit() -> None:
    living = member()
    run(living, END)
    other = build("resnet-20-w4", TASK.shape, TASK.classes)
    PhaseDyReLU(Linear(1.0, 0.0, 9)).surgery(other, [])
    missing = other.load_state_dict(living.model.state_dict(), strict=False).missing_keys
    assert missing
    assert all(".squeeze." in name or ".expand." in name for name in missing)
    for part in other.modules():
        if isinstance(part, DyReLU):
            part.beta = 0.0
    images, _ = Toy().batch(0, 0, 8)
    assert torch.equal(other.eval()(images), living.model.eval()(images))


def test_training_after_the_phase_is_training_of_the_plain_network() -> None:
    living = member()
    run(living, END)
    plain = Recipe("resnet-20-w4", 12, rigl(0.1, 12, interval=3), batch=BATCH)
    bare = Member.restore(plain, 1, TASK, living.state())
    run(living, 4)
    run(bare, 4)
    pairs = zip(bare.model.state_dict().items(), living.model.state_dict().items(), strict=True)
    assert all(one == other and torch.equal(a, b) for (one, a), (other, b) in pairs)


@pytest.mark.parametrize(("donors_end", "own_end"), [(8, 4), (4, 8)])
def test_a_donors_phase_may_be_longer_or_shorter(donors_end: int, own_end: int) -> None:
    donor = member(phase=replace(FADING, beta=Linear(1.0, 0.0, donors_end)))
    run(donor, 6)
    own = replace(donor.recipe, methods=(donor.recipe.methods[0], PhaseDyReLU(Linear(1.0, 0.0, own_end))))
    receiver = Member.restore(own, 2, TASK, donor.state())
    assert bool(units(receiver)) == (donors_end == 8)
    assert own.methods[1].measure(receiver) == {
        "beta": 0.0
    }  # its own schedule is over, or the units are gone
    images, _ = Toy().batch(0, 0, 8)
    if own_end == 4:
        assert all(not p.requires_grad for unit in units(receiver) for p in unit.parameters())
    run(receiver, 1)
    assert not units(receiver)
    assert receiver.model.eval()(images).isfinite().all()
    run(receiver, 5)


def test_a_phase_that_ends_with_the_run_leaves_a_bare_network() -> None:
    living = member(phase=PhaseDyReLU(Linear(1.0, 0.0, 5)), steps=5)
    (report,) = train(living, Toy(), every=5)
    assert "dyrelu" not in report.learnables
    assert [note.kind for note in report.notes] == ["phase"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": Linear(1.0, 0.1, 9)}, "end at 0.*final=0.1"),
        ({"beta": Linear(2.0, 0.0, 9)}, r"\[0, 1\].*start=2.0"),
        ({"beta": 0.5}, "end at 0, got 0.5"),
        ({"beta": Linear(1.0, 0.0, 9), "reduction": 0}, "got 0"),
        ({"beta": Linear(1.0, 0.0, 9), "blend": "both"}, "'both'.*coefficients, outputs"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhaseDyReLU(**settings)  # type: ignore[arg-type]


def test_a_phase_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="PhaseDyReLU settles at step 20"):
        Recipe("resnet-20", 19, (*static(0.1), PhaseDyReLU(Linear(1.0, 0.0, 20))))


def test_task_shapes_do_not_matter() -> None:
    recipe = Recipe("lenet-300-100", 9, (PhaseDyReLU(Linear(1.0, 0.0, 9)),))
    assert len(units(Member.build(recipe, 0, Task((1, 12, 12), 4)))) == 2

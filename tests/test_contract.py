"""Every case of the table through every promise that the house makes."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from sparsepop.masks import Masks
from sparsepop.member import Member, State
from sparsepop.methods import Method
from sparsepop.models import build
from sparsepop.optim import SGD, AdamW
from sparsepop.recipe import Recipe
from sparsepop.tickets import broken_off, take_plain
from sparsepop.train import Report, train
from tests.cases import CASES, STEPS, TASK, Case, Toy, cases, go, run

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
CUTS = (1, 4, 7, 10, STEPS)


def shipped(state: State) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpacked(data: bytes) -> State:
    state: State = torch.load(io.BytesIO(data), weights_only=True)
    return state


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where two nested values differ, bit for bit."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            yield f"{path}: keys {one.keys() ^ other.keys()}"
        for key in one.keys() & other.keys():
            yield from differences(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield path
    elif one != other:
        yield f"{path}: {one} != {other}"


def assert_same(one: Any, other: Any) -> None:
    assert list(differences(one, other)) == []


def timeless(reports: list[Report]) -> list[Report]:
    return [replace(report, seconds=0.0) for report in reports]


# --- resuming


@every_case
def test_a_resumed_member_is_bit_for_bit_the_member_that_went_on(case: Case) -> None:
    undisturbed = Member.build(case.recipe, 5, TASK)
    saved: dict[int, bytes] = {}
    reports = []
    for report in train(undisturbed, Toy(), every=1):
        reports.append(report)
        saved[report.step] = shipped(undisturbed.state())
    for cut in CUTS:
        torch.manual_seed(cut)
        resumed = Member.restore(case.recipe, 5, TASK, unpacked(saved[cut]))
        assert_same(resumed.state(), unpacked(saved[cut]))
        assert timeless(list(train(resumed, Toy(), every=1))) == timeless(reports[cut:])
        assert_same(resumed.state(), undisturbed.state())


def is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def strange(value: Any, path: str = "memory") -> Iterator[str]:
    """Where in nested dicts there is what neither moves to another device nor is a plain value."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from strange(each, f"{path}/{key}") if isinstance(key, str) else [f"{path}/{key!r}"]
    elif not (isinstance(value, torch.Tensor) or is_plain(value)):
        yield f"{path}: {type(value).__name__}"


@every_case
def test_methods_remember_tensors_and_plain_values_alone(case: Case) -> None:
    member = Member.build(case.recipe, 5, TASK)
    for _ in train(member, Toy(), every=1):
        assert list(strange(member.memory)) == []


@every_case
def test_a_seed_decides_everything_and_reports_change_nothing(case: Case) -> None:
    torch.manual_seed(1)
    often, seldom = Member.build(case.recipe, 5, TASK), Member.build(case.recipe, 5, TASK)
    before = torch.get_rng_state()
    seen = list(train(often, Toy(), every=1))
    assert len(seen) == STEPS
    (last,) = train(seldom, Toy(), every=STEPS)
    assert_same(uncounted(often), uncounted(seldom))
    assert torch.equal(before, torch.get_rng_state())
    assert last.validation == seen[-1].validation
    other = run(Member.build(case.recipe, 6, TASK), 1)
    assert list(differences(other.state()["model"], often.state()["model"]))


def uncounted(member: Member) -> State:
    """The state, without how often masks were set: those of soft methods are at every report."""
    state = member.state()
    if any(method.soft for method in member.recipe.methods):
        del state["masks"]["version"]
    return state


# --- exchanging


def other_settings(recipe: Recipe) -> Recipe:
    """`recipe` with every hyperparameter of its optimizer changed that may differ between members."""
    if isinstance(recipe.optimizer, AdamW):
        changed: SGD | AdamW = AdamW(3e-3, (0.8, 0.9), 0.2, not recipe.optimizer.decay_norms)
    else:
        changed = SGD(0.03, 0.5, False, 1e-3, not recipe.optimizer.decay_norms)
    return replace(recipe, optimizer=changed, clip=0.1, label_smoothing=0.2)


def settings(member: Member) -> list[dict[str, Any]]:
    groups = member.optimizer.param_groups
    return [{**group, "params": [tuple(p.shape) for p in group["params"]]} for group in groups]


@every_case
def test_hyperparameters_survive_loading_a_foreign_state(case: Case) -> None:
    donor = run(Member.build(other_settings(case.recipe), 1, TASK), 4)
    before = unpacked(shipped(donor.state()))
    living = run(Member.build(case.recipe, 2, TASK), 2)
    living.load(donor.state())
    restored = Member.restore(case.recipe, 2, TASK, donor.state())
    fresh = Member.build(case.recipe, 2, TASK)
    fresh.step = donor.step
    fresh.set_learning_rate()
    for receiver in (living, restored):
        assert_same(receiver.state(), before)
        receiver.set_learning_rate()
        assert settings(receiver) == settings(fresh)
        assert receiver.recipe == case.recipe
        run(receiver, STEPS - 4)
        assert_same(donor.state(), before)
    assert_same(living.state(), restored.state())


def test_a_receiver_draws_batches_and_growth_from_its_own_seed() -> None:
    recipe = CASES["set"].recipe
    donor = run(Member.build(recipe, 1, TASK), 3)
    state = unpacked(shipped(donor.state()))

    def grown(seed: int) -> str:
        member = Member.restore(recipe, seed, TASK, state)

        class SameBatches(Toy):
            def batch(self, seed: int, *args: Any, **more: Any) -> tuple[Tensor, Tensor]:
                assert seed == member.seed
                return super().batch(0, *args, **more)

        return run(member, 1, SameBatches()).masks.digest()

    assert grown(2) == grown(2)
    assert grown(2) != grown(3)


@pytest.mark.parametrize("optimizers", [(SGD(), AdamW()), (AdamW(), SGD())], ids=["to-adamw", "to-sgd"])
def test_another_type_of_optimizer_starts_without_buffers(
    optimizers: tuple[SGD | AdamW, SGD | AdamW],
) -> None:
    theirs, own = (replace(CASES["static"].recipe, optimizer=each) for each in optimizers)
    donor = run(Member.build(theirs, 1, TASK), 2)
    living = run(Member.build(own, 2, TASK), 2)
    living.load(donor.state())
    restored = Member.restore(own, 2, TASK, donor.state())
    assert not living.optimizer.state
    run(living, 2)
    run(restored, 2)
    assert_same(living.state(), restored.state())


def test_a_receiver_costs_what_its_donors_masks_cost() -> None:
    recipe = CASES["gmp-late"].recipe
    donor, receiver = (run(Member.build(recipe, seed, TASK), 9) for seed in (1, 2))
    assert receiver.masks.version == donor.masks.version
    assert receiver.forward_flops != donor.forward_flops
    receiver.load(donor.state())
    assert receiver.forward_flops == donor.forward_flops


def test_buffers_follow_the_receivers_memory_format() -> None:
    """Fused optimizers walk memory in order: a buffer of another layout would silently be shuffled."""
    rows = CASES["static"].recipe
    donor = run(Member.build(rows, 1, TASK), 3)
    for recipe in (rows, replace(rows, channels_last=True)):
        receiver = Member.restore(recipe, 1, TASK, donor.state())
        for param in receiver.masks.params.values():
            assert receiver.optimizer.state[param]["momentum_buffer"].stride() == param.stride()
    run(receiver, 1)
    run(donor, 1)
    for name, param in donor.masks.params.items():
        torch.testing.assert_close(receiver.masks.params[name], param, rtol=1e-3, atol=1e-5)


# --- counts and zeros


@every_case
def test_as_many_weights_are_alive_as_the_recipe_promises_after_every_step(case: Case) -> None:
    member = Member.build(case.recipe, 3, TASK)
    promised = {}
    for step in go(member, Toy(), STEPS):
        promised[step] = case.recipe.density_at(step)
        masks = observed(member)
        assert masks.counts == {name: int(mask.sum()) for name, mask in masks.tensors.items()}
        if masks.enforced:
            assert masks.alive == case.alive.get(step, round(promised[step] * masks.total))
            assert min(masks.counts.values()) >= 1
        else:
            assert any(method.soft for method in case.recipe.methods)
    assert case.densities == pytest.approx({step: promised[step] for step in case.densities})
    assert case.recipe.density == promised[STEPS]


def observed(member: Member) -> Masks:
    """The masks, as a report would find them."""
    for method in member.recipe.methods:
        method.measure(member)
    return member.masks


@every_case
def test_pruned_weights_their_gradients_and_momentum_are_exactly_zero(case: Case) -> None:
    member = Member.build(case.recipe, 3, TASK)
    masks = member.masks
    stepped = []

    def check_gradients(*_: Any) -> None:
        for name, param in masks.params.items() if masks.enforced else ():
            assert param.grad is not None
            assert not param.grad[~masks.tensors[name]].any()
        stepped.append(member.step)

    hook = register_optimizer_step_pre_hook(check_gradients)
    try:
        for _ in go(member, Toy(), STEPS):
            check_zeros(member)
    finally:
        hook.remove()
    assert stepped == list(range(STEPS))


def check_zeros(member: Member) -> None:
    masks, optimizer = member.masks, member.optimizer
    if masks.enforced:
        for name, param in masks.params.items():
            dead = ~masks.tensors[name]
            buffers = [b for b in optimizer.state[param].values() if b.shape == param.shape]
            assert not any(value[dead].any() for value in (param.detach(), *buffers))
            assert len(buffers) == (0 if member.step == 0 else 1 + isinstance(optimizer, torch.optim.AdamW))


# --- finishing


@every_case
def test_finish_leaves_the_bare_module_tree(case: Case) -> None:
    member = Member.build(case.recipe, 3, TASK)
    reports = list(train(member, Toy(), every=5))
    assert [report.step for report in reports] == [5, 10, 12]
    bare = build(case.recipe.model, TASK.shape, TASK.classes)
    assert [(n, type(m)) for n, m in member.model.named_modules()] == [
        (n, type(m)) for n, m in bare.named_modules()
    ]
    bare.load_state_dict(member.model.state_dict(), strict=True)
    images, _ = Toy().batch(0, 0, 8)
    with torch.no_grad():
        assert torch.equal(bare.eval()(images).isfinite().all(), torch.tensor(True))
        torch.testing.assert_close(
            member.model.eval()(member.prepare(images)), bare(images), rtol=1e-4, atol=1e-4
        )


@every_case
def test_a_copy_can_be_broken_off_and_the_member_is_left_as_it_was(case: Case) -> None:
    member, undisturbed = (Member.build(case.recipe, 3, TASK) for _ in range(2))
    bare = build(case.recipe.model, TASK.shape, TASK.classes)
    for _ in train(undisturbed, Toy(), every=3):
        pass
    for report in train(member, Toy(), every=3):
        if report.final:
            break
        before = unpacked(shipped(member.state()))
        if all(method.plain_at(member.step) for method in case.recipe.methods):
            copy = broken_off(member, Toy())
            ticket = take_plain(copy)
            bare.load_state_dict(ticket.state(), strict=True)
            assert ticket.alive == copy.masks.alive
        else:
            with pytest.raises(ValueError, match=r"has modules of its own in the network up to step"):
                broken_off(member, Toy())
        assert_same(member.state(), before)
    assert_same(member.state(), undisturbed.state())


# --- recipes as values


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_pickles_hashes_and_compares_equal(name: str) -> None:
    recipe, again = CASES[name].recipe, cases()[name].recipe
    assert recipe is not again
    for twin in (
        again,
        pickle.loads(pickle.dumps(recipe)),
        pickle.loads(cloudpickle.dumps(recipe)),
        replace(recipe),
    ):
        assert twin == recipe
        assert hash(twin) == hash(recipe)
    assert replace(recipe, batch=recipe.batch + 1) != recipe


def test_no_two_cases_are_the_same() -> None:
    assert len({case.recipe for case in CASES.values()}) == len(CASES)


# --- waiting for the device


class WaitedForDevice(AssertionError):
    """An operation that has to wait for the device to finish."""


class NoWaiting(TorchDispatchMode):
    """Refuses the operations whose result the host needs, so that they would wait for a GPU."""

    WAITS = frozenset(
        {
            "_local_scalar_dense",
            "item",
            "is_nonzero",
            "nonzero",
            "masked_select",
            "equal",
            "_unique2",
            "unique_dim",
        }
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        chosen = args[1] if name in ("index", "index_put", "index_put_") else ()
        if name in self.WAITS or any(i is not None and i.dtype == torch.bool for i in chosen):
            raise WaitedForDevice(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting() -> Iterator[None]:
    def refuse(self: Tensor, *_: Any, **__: Any) -> None:
        raise WaitedForDevice("copied to the host")

    with pytest.MonkeyPatch.context() as patch, NoWaiting():
        for name in ("tolist", "numpy", "cpu"):
            patch.setattr(Tensor, name, refuse)
        yield


def waits(case: Case, state: State) -> bool:
    """Whether the next step from `state` needs the host."""
    member = Member.restore(case.recipe, 3, TASK, state)
    try:
        with no_waiting():
            run(member, 1)
    except WaitedForDevice:
        return True
    return False


@every_case
def test_no_step_waits_for_the_device_unless_it_is_due(case: Case) -> None:
    member = Member.build(case.recipe, 3, TASK)
    waiting = set()
    for step in range(STEPS):
        if waits(case, member.state()):
            waiting.add(step)
        run(member, 1)
    assert waiting <= case.due
    assert bool(waiting) == bool(case.due)


# --- ranks


@dataclass(frozen=True)
class AverageGradients(Method):
    """What data-parallel training does to gradients, by hand."""

    def after_backward(self, member: Member) -> None:
        params = list(member.model.parameters())
        summed = torch.cat([param.grad.flatten() for param in params if param.grad is not None])
        dist.all_reduce(summed)
        for param, part in zip(params, summed.split([param.numel() for param in params]), strict=True):
            param.grad = (part / dist.get_world_size()).view_as(param)


def digests(recipe: Recipe, rank: int) -> list[str]:
    """One rank's masks after each step; it sees its half of the data and has a random state of its own."""
    member = Member.build(recipe, 3, TASK)
    torch.manual_seed(rank)

    class Half(Toy):
        def batch(self, seed: int, step: int, size: int, **_: Any) -> tuple[Tensor, Tensor]:
            return super().batch(seed, step, size, rank=rank, world=2)

    return [observed(member).digest() for _ in go(member, Half(), STEPS)]


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    seen = {
        name: digests(replace(case.recipe, methods=(AverageGradients(), *case.recipe.methods)), rank)
        for name, case in CASES.items()
    }
    seen["alone"] = digests(CASES["rigl"].recipe, rank)
    torch.save(seen, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_with_different_data_agree_on_masks(tmp_path: Path) -> None:
    mp.spawn(one_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first.pop("alone") != second.pop("alone")
    assert first == second
    moved = {name for name, case in CASES.items() if case.due and len(set(first[name])) > 1}
    assert moved == {name for name, case in CASES.items() if case.due and not case.still}

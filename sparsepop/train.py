"""The training loop: a generator of reports that knows neither files nor Ray."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsepop.averaging import fresh_statistics
from sparsepop.ledger import learnables, state_bytes
from sparsepop.member import Member, Note
from sparsepop.methods.base import Batches
from sparsepop.optim import clippable
from sparsepop.outputs import Score, evaluate, own_part, wide


@dataclass(frozen=True)
class Layer:
    """How many weights of one layer are alive, and what the methods measured of it."""

    name: str
    size: int
    alive: int
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What is known of a member after `step` steps, and what its methods noted since the report before.

    step: optimizer steps completed.
    epoch: passes over the training images; fractions between them.
    seconds: device-seconds of training (wall time times the member's processes) that this member has spent
        itself so far; evaluation, saving and waiting for others are left out.
    lr: the learning rate of the last step.
    train_loss: mean cross-entropy (nats) of the batches since the report before, in training mode, with label
        smoothing, without the methods' penalties.
    validation: on the validation split, after the step.
    test: on the test split; None in all reports but the last.
    density: share of prunable weights alive, 0..1.
    alive: prunable weights that are not masked.
    prunable: the weights that `density` is a share of.
    learnables: how many learnable numbers there are beside these, by kind (`norm`, `bias`, `dense`, ...).
    train_flops: FLOPs of all training so far, forward and backward, over all samples, spent by this member.
    inference_flops: FLOPs of one sample's forward pass, with the masks as they are.
    dense_flops: FLOPs of one sample's forward pass through the dense network.
    bytes: what weights (dead ones too), buffers and masks take in memory, the optimizer's state left out.
    layers: the prunable layers, in the model's order.
    numbers: what the methods measured, by their own names.
    notes: what they noted, in the order in which it happened.
    """

    step: int
    epoch: float
    seconds: float
    lr: float
    train_loss: float
    validation: Score
    test: Score | None
    density: float
    alive: int
    prunable: int
    learnables: Mapping[str, int]
    train_flops: float
    inference_flops: float
    dense_flops: float
    bytes: int
    layers: tuple[Layer, ...]
    numbers: Mapping[str, float]
    notes: tuple[Note, ...] = ()

    @property
    def final(self) -> bool:
        return self.test is not None


def train(member: Member, data: Batches, *, every: int, until: int | None = None) -> Iterator[Report]:
    """Train `member` to step `until` (default: the recipe's end), yielding a report at each multiple of
    `every` and at the end.

    At the recipe's last step the methods finish, in reverse order, and the report carries the test score.
    Nothing is kept between reports but the member, so the caller may save, exchange or stop at any of them.
    """
    if every < 1:
        raise ValueError(f"reports need at least one step between them, got every={every}")
    if member.recipe.batch % member.ranks.world:
        raise ValueError(
            f"a batch of {member.recipe.batch} images has no equal parts for {member.ranks.world} workers: "
            "use a multiple"
        )
    last = member.recipe.steps
    until = last if until is None else min(until, last)
    while member.step < until:
        stop = min(until, (member.step // every + 1) * every)
        member.start_clock()
        loss, lr = _train_to(member, data, stop)
        _note_divergence(member, loss)
        if member.step == last:
            for method in reversed(member.recipe.methods):
                method.finish(member, data)
        member.ranks.share_buffers(member.model)
        member.book_seconds()
        # at the end `finish` has seen to it
        outdated = member.step < last and any(each.outdates(member) for each in member.recipe.methods)
        with fresh_statistics(member, data) if outdated else nullcontext():
            report = _report(member, data, loss, lr)
        yield report


def train_step(member: Member, images: Tensor, labels: Tensor) -> Tensor:
    """One optimizer step on this rank's part of a batch (N, C, H, W), (N,); returns its loss, a detached
    scalar. No host sync unless a method's update is due.
    """
    recipe, masks = member.recipe, member.masks
    member.optimizer.zero_grad(set_to_none=True)
    with member.autocast():
        output = member.network(member.prepare(images))
    loss = F.cross_entropy(wide(output), labels, label_smoothing=recipe.label_smoothing)
    penalties = [each for method in recipe.methods if (each := method.penalty(member)) is not None]
    (loss if not penalties else torch.stack([loss, *penalties]).sum()).backward()
    for method in recipe.methods:
        method.after_backward(member)
    masks.mask_gradients()
    if recipe.clip is not None:
        torch.nn.utils.clip_grad_norm_(clippable(member.model.parameters()), recipe.clip)
    member.optimizer.step()
    member.losses += loss.detach()
    member.count_step()
    for method in recipe.methods:
        method.after_step(member)
    return loss.detach()


def _train_to(member: Member, data: Batches, stop: int) -> tuple[float, float]:
    """Train to step `stop`; returns the mean loss since the last report and the last learning rate."""
    member.model.train()
    recipe, ranks = member.recipe, member.ranks
    part = {"rank": ranks.rank, "world": ranks.world}
    lr = 0.0
    member.agree()
    while member.step < stop:
        lr = member.set_learning_rate()
        member.seed_forward()
        batch = data.batch(member.seed, member.step, recipe.batch, augment=recipe.augment, **part)
        train_step(member, *batch)
        member.agree()
    mean = float(ranks.total(member.losses)) / ranks.world / (member.step - member.reported)
    member.reported = member.step
    member.losses.zero_()
    return mean, lr


def _note_divergence(member: Member, loss: float) -> None:
    """Tell once, in whatever state is handed on, that the training loss is no finite number any more."""
    if math.isfinite(loss) or "diverged" in member.memory:
        return
    member.memory["diverged"] = {"step": member.step}
    message = (
        f"the training loss is {loss}: use a smaller learning rate, Recipe(clip=1.0) or a weaker penalty"
    )
    member.note("diverged", message)


def _report(member: Member, data: Batches, loss: float, lr: float) -> Report:
    recipe, masks = member.recipe, member.masks
    numbers = {name: number for method in recipe.methods for name, number in method.measure(member).items()}
    for method in recipe.methods:
        numbers |= method.examine(member, data)
    final = member.step == recipe.steps
    return Report(
        step=member.step,
        epoch=member.step / data.steps_per_epoch(recipe.batch),
        seconds=member.seconds,
        lr=lr,
        train_loss=loss,
        validation=evaluate(member, own_part(member, data, "validation")),
        test=evaluate(member, own_part(member, data, "test")) if final else None,
        density=masks.density,
        alive=masks.alive,
        prunable=masks.total,
        learnables=learnables(member.model, masks.params.values()),
        train_flops=member.train_flops,
        inference_flops=member.forward_flops,
        dense_flops=member.costs.dense_flops,
        bytes=state_bytes(member.model.state_dict().values()) + state_bytes(masks.tensors.values()),
        layers=_layers(member),
        numbers=numbers,
        notes=member.take_notes(),
    )


def _layers(member: Member) -> tuple[Layer, ...]:
    measured: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for method in member.recipe.methods:
        for name, numbers in method.measure_layers(member).items():
            measured[name].update(numbers)
    masks = member.masks
    return tuple(Layer(n, p.numel(), masks.counts[n], measured[n]) for n, p in masks.params.items())

"""The table that every contract runs over: name -> a short run's recipe and what is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparsepop.member import Member, Task
from sparsepop.methods import (
    DropGrow,
    Magnitude,
    Method,
    Static,
    dense,
    gmp,
    granet,
    rigl,
    rigl_itop,
    sparse_evolution,
    static,
    sup_tickets,
)
from sparsepop.optim import SGD, AdamW
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Every, Linear, Milestones, Phases, Triangular
from sparsepop.seeds import mix
from sparsepop.tickets import from_ticket
from sparsepop.train import train_step
from tests.test_tickets.made import shared_store

STEPS = 12
BATCH = 16
TASK = Task((3, 8, 8), 10)


@dataclass(frozen=True)
class Case:
    """`due`: at which `member.step` a step may wait for the device; `densities`: promised after n steps;
    `still`: masks stay what they are, whatever is due."""

    recipe: Recipe
    due: frozenset[int] = frozenset()
    densities: Mapping[int, float] = field(default_factory=dict)
    still: bool = False


class Toy:
    """Random images whose class a fixed linear map decides; batches depend on (seed, step, size) alone."""

    sizes: Mapping[str, int] = {"train": 4 * BATCH, "validation": 20, "test": 30}

    def steps_per_epoch(self, size: int) -> int:
        return self.sizes["train"] // size

    def batch(
        self, seed: int, step: int, size: int, *, augment: bool = True, rank: int = 0, world: int = 1
    ) -> tuple[Tensor, Tensor]:
        images, labels = _draw(mix(seed, step), size)
        part = slice(rank * size // world, (rank + 1) * size // world)
        return images[part], labels[part]

    def batches(self, split: str, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = _draw(mix(len(split)), self.sizes[split])
        yield from zip(images.split(size), labels.split(size), strict=True)


def _draw(seed: int, size: int) -> tuple[Tensor, Tensor]:
    images = torch.randn(size, *TASK.shape, generator=torch.Generator().manual_seed(seed))
    truth = torch.randn(images[0].numel(), TASK.classes, generator=torch.Generator().manual_seed(0))
    return images, (images.flatten(1) @ truth).argmax(1)


def go(member: Member, data: Toy, steps: int) -> Iterator[int]:
    """Take `steps` optimizer steps, yielding before the first and after each how many are done."""
    member.model.train()
    yield member.step
    for _ in range(steps):
        member.set_learning_rate()
        train_step(member, *data.batch(member.seed, member.step, member.recipe.batch))
        yield member.step


def run(member: Member, steps: int, data: Toy | None = None) -> Member:
    """`go` to the end."""
    for _ in go(member, data or Toy(), steps):
        pass
    return member


def _case(
    methods: tuple[Method, ...],
    due: tuple[int, ...] = (),
    densities: Mapping[int, float] | None = None,
    *,
    model: str = "lenet-300-100",
    still: bool = False,
    **more: Any,
) -> Case:
    return Case(Recipe(model, STEPS, methods, batch=BATCH, **more), frozenset(due), densities or {}, still)


def cases() -> dict[str, Case]:
    """The table, made anew at each call: equal, never the same objects."""
    return {**_fixed(), **_drop_grow(), **_gradual(), **_superposed(), **_from_tickets()}


def _fixed() -> dict[str, Case]:
    return {
        "dense": _case(dense(), densities={0: 1.0, 12: 1.0}, optimizer=SGD(0.05)),
        "static": _case(
            static(0.1),
            densities={0: 0.1, 12: 0.1},
            model="wrn-10-1",
            optimizer=SGD(0.1, nesterov=True, weight_decay=5e-4),
        ),
        "static-uniform-adamw": _case(
            static(0.3, "uniform"), densities={0: 0.3, 12: 0.3}, optimizer=AdamW(decay_norms=False)
        ),
    }


def _drop_grow() -> dict[str, Case]:
    quarters = (0, 3, 6, 9)
    falling = DropGrow(Linear(0.5, 0.1, end=7), 0.3, Every(3))
    rising = DropGrow(Cosine(0.05, 0.3, end=8), 0.2, Every(2, end=10), "random")
    wrn: dict[str, Any] = {"model": "wrn-10-1", "optimizer": SGD(0.1, weight_decay=5e-4)}
    return {
        "set": _case(sparse_evolution(0.2, STEPS, interval=3), quarters, {0: 0.2, 12: 0.2}),
        "set-er": _case(sparse_evolution(0.1, STEPS, interval=3, distribution="er"), quarters, **wrn),
        "rigl": _case(rigl(0.1, STEPS, interval=3), quarters, {0: 0.1, 12: 0.1}, channels_last=True, **wrn),
        "rigl-adamw": _case(
            rigl(0.1, STEPS, interval=3), quarters, optimizer=AdamW(1e-2), clip=0.5, label_smoothing=0.1
        ),
        "rigl-bfloat16": _case(rigl(0.1, STEPS, interval=3), quarters, precision="bfloat16", **wrn),
        "keep-dense": _case(rigl(0.05, STEPS, interval=3), quarters, keep_dense=("conv1.weight",), **wrn),
        "rigl-itop": _case(rigl_itop(0.1, STEPS, interval=4), (4, 8), {0: 0.1, 12: 0.1}),
        "falling": _case((falling,), quarters, {0: 0.5, 1: 0.5, 4: 0.5 - 0.4 * 3 / 7, 7: 0.1, 12: 0.1}),
        "rising": _case((rising,), (0, 2, 4, 6, 7, 8, 10), {0: 0.05, 5: 0.175, 6: 0.175, 8: 0.3, 12: 0.3}),
        "near-dense": _case((DropGrow(0.97, 0.5, Every(2)),), tuple(range(0, 12, 2)), {12: 0.97}),
        "extreme": _case((DropGrow(0.0002, 0.5, Every(3)),), quarters, {12: 0.0002}),
    }


def _gradual() -> dict[str, Case]:
    def cubic(left: float, initial: float = 1.0) -> float:
        return 0.1 + (initial - 0.1) * left**3

    layers = Magnitude(0.2, Every(5), "erk")
    after = Magnitude(0.2, Every(4, begin=8))
    granet_due = (1, 2, 3, 4, 5, 6, 8, 10)
    return {
        "gmp": _case(
            gmp(0.1, STEPS, interval=2),
            (1, 3, 5, 7, 8),
            {0: 1.0, 1: 1.0, 2: cubic(7 / 9), 3: cubic(7 / 9), 9: 0.1, 12: 0.1},
        ),
        "gmp-late": _case(
            gmp(0.1, STEPS, interval=2, begin=0.25),
            (2, 4, 6, 8),
            {4: 1.0, 5: cubic(4 / 6), 6: cubic(4 / 6), 9: 0.1},
            model="wrn-10-1",
        ),
        "magnitude-layers": _case((layers,), (4, 9), {4: 1.0, 5: 0.2, 12: 0.2}),
        "magnitude-after-static": _case((Static(0.6), after), (7, 11), {7: 0.6, 8: 0.2, 12: 0.2}),
        "granet": _case(
            granet(0.1, STEPS, interval=2), granet_due, {1: 1.0, 2: cubic(4 / 6), 4: cubic(2 / 6), 6: 0.1}
        ),
        "granet-sparse-adamw": _case(
            granet(0.1, STEPS, initial=0.5, interval=2),
            granet_due,
            {0: 0.5, 1: 0.5, 2: cubic(4 / 6, 0.5), 4: cubic(2 / 6, 0.5), 6: 0.1, 12: 0.1},
            optimizer=AdamW(),
        ),
    }


def _superposed() -> dict[str, Case]:
    phases = Phases(4, 4, 2)
    lr = Triangular(0.001, 0.05, phases, Milestones(0.1, (2, 3)))
    wrn: dict[str, Any] = {"model": "wrn-10-1", "optimizer": SGD(lr, weight_decay=5e-4)}
    due = (0, 3, 4, 7, 8, 11)  # RigL's only update, ticket 0, then two cycles: a jump and a ticket each
    return {
        "sup-tickets": _case(sup_tickets(rigl(0.1, 4, interval=4), phases), due, {0: 0.1, 12: 0.1}, **wrn),
        "sup-tickets-each": _case(
            sup_tickets(
                sparse_evolution(0.1, 4, interval=4), phases, average="cima", prune="each", grow="random"
            ),
            due,
            optimizer=AdamW(1e-2),
        ),
        "sup-tickets-static": _case(
            sup_tickets(static(0.3), phases, explore=0.0, scope="layer"),
            (3, 7, 11),
            still=True,
            channels_last=True,
            **wrn,
        ),
        "sup-tickets-granet": _case(
            sup_tickets(granet(0.1, 4, interval=2), phases, grow="random"), (1, 2, 3, 4, 7, 8, 11), {4: 0.1}
        ),
        "sup-tickets-gmp": _case(sup_tickets(gmp(0.1, 4, interval=2), phases), (1, 2, 3, 4, 7, 8, 11)),
        "superpose-dense": _case(sup_tickets(dense(), phases), (3, 7, 11), {12: 1.0}, still=True),
    }


def _from_tickets() -> dict[str, Case]:
    folder, sparse, denser = shared_store()
    wrn: dict[str, Any] = {"model": "wrn-10-1", "optimizer": SGD(0.1)}
    prune = Magnitude(0.1, Every(4, begin=4))
    return {
        "from-ticket": _case((from_ticket(folder, sparse),), **wrn),
        "from-ticket-masks": _case((from_ticket(folder, denser, weights=False), prune), (3, 7, 11), **wrn),
    }


CASES = cases()

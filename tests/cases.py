"""The table that every contract runs over: name -> a short run's recipe and what is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sparsepop.member import Member, Task
from sparsepop.methods import (
    MCP,
    AtDensity,
    Cut,
    DropGrow,
    Explored,
    GradientFlow,
    GrowPrune,
    Halo,
    Lasso,
    Magnitude,
    Method,
    MinFanIn,
    NearZero,
    Partition,
    PhaseDyReLU,
    Reachable,
    SharedLasso,
    ShareWeights,
    Static,
    Thresholds,
    Toward,
    dense,
    east,
    gmp,
    granet,
    one_shot,
    parallel_gap,
    rigl,
    rigl_itop,
    sparse_evolution,
    static,
    sup_tickets,
)
from sparsepop.optim import SGD, AdamW
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Cyclic, Every, Linear, Milestones, Phases, Triangular, TwoPhases
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
    `alive`: weights alive after n steps, where that depends on the network and the recipe promises nothing.

    `still`: masks stay what they are, whatever is due.
    """

    recipe: Recipe
    due: frozenset[int] = frozenset()
    densities: Mapping[int, float] = field(default_factory=dict)
    alive: Mapping[int, int] = field(default_factory=dict)
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

    def batches(
        self, split: str, size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = _draw(mix(len(split)), self.sizes[split])
        yield from list(zip(images.split(size), labels.split(size), strict=True))[rank::world]


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
    return Case(
        Recipe(model, STEPS, methods, batch=BATCH, **more), frozenset(due), densities or {}, still=still
    )


def cases() -> dict[str, Case]:
    """The table, made anew at each call: equal, never the same objects."""
    found = {**_fixed(), **_drop_grow(), **_gradual(), **_cut(), **_soft(), **_halo()}
    return {**found, **_grow_prune(), **_east(), **_superposed(), **_from_tickets()}


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


def _cut() -> dict[str, Case]:
    return {
        "cut-dense": _case((Cut(0.1, 5),), (4,), {4: 1.0, 5: 0.1, 12: 0.1}),
        "cut-grows-adamw": _case(
            (Static(0.1), Cut(0.2, 5, "erk")), (4,), {4: 0.1, 5: 0.2}, optimizer=AdamW()
        ),
    }


def _halo() -> dict[str, Case]:
    cut, seen = Cut(0.1, 8), {7: 1.0, 8: 0.1, 12: 0.1}
    wrn: dict[str, Any] = {"model": "wrn-10-1", "channels_last": True}
    return {
        "halo": _case(
            (Halo(1e-5, 1e-3), cut, NearZero(), AtDensity((0.1, 0.5))),
            (7,),
            seen,
            optimizer=SGD(0.05, weight_decay=1e-3),
        ),
        "halo-bfloat16": _case(
            (Halo(1e-6, Linear(0.1, 1.0, end=6), 0.01, 0.5, 0.3), cut),
            (7,),
            seen,
            precision="bfloat16",
            optimizer=SGD(0.1, decay_norms=False),
            clip=0.5,
            **wrn,
        ),
        "halo-adamw": _case((Halo(1e-4, 1e-2, biases=False), cut), (7,), seen, optimizer=AdamW()),
        "halo-cut-last": _case((Halo(1e-5, 1e-3), Cut(0.2, STEPS)), (11,), {11: 1.0, 12: 0.2}),
        "halo-uncut": _case((Halo(1e-5, 1e-3),), keep_dense=("5.weight",)),
        "lasso": _case((Lasso(1e-4), cut), (7,), seen),
        "mcp": _case((MCP(1e-3, 10.0), cut), (7,), seen, optimizer=SGD(0.05), **wrn),
        "shared-lasso": _case((SharedLasso(1e-4, 1e-3), cut), (7,), seen),
    }


def _soft() -> dict[str, Case]:
    """Methods whose masks are only observed, alone and until a cut."""
    wrn: dict[str, Any] = {"model": "wrn-10-1", "optimizer": SGD(0.1, weight_decay=5e-4)}
    steered = Thresholds(Toward(0.2, 6, alpha=0.05))
    return {
        "dst": _case((Thresholds(0.05),), optimizer=SGD(0.05, weight_decay=1e-4)),
        "dst-matrix-adamw": _case(
            (Thresholds(Linear(0.0, 0.01, 6), "matrix", 0.3, decay=False),), optimizer=AdamW(1e-2)
        ),
        "dst-cut": _case((Thresholds(0.05), Cut(0.1, 7)), (6,), {0: 1.0, 7: 0.1, 12: 0.1}, **wrn),
        "dst-scalar-grown": _case(
            (Thresholds(5.0, "scalar", None), Cut(0.3, 5, "erk")), (4,), precision="bfloat16", **wrn
        ),
        "dst-lstm": _case(
            (Thresholds(0.05), Cut(0.05, 6)), (5,), model="lstm-a", keep_dense=("fc.weight",), clip=1.0
        ),
        "dst-toward": _case((steered, Cut(0.2, 9)), (8,), channels_last=True, **wrn),
    }


def _grow_prune() -> dict[str, Case]:
    # LeNet-300-100 has layers of 57,600, 30,000 and 1,000 weights here; 10% are 5,760, 3,000 and 100
    first, second, third = 57_600 + 3_100, 30_000 + 5_860, 1_000 + 8_760
    turns = GrowPrune(0.1, Partition(3), Phases.regular(2, 5))
    random = GrowPrune(
        0.1, Partition(4), Phases.regular(1, 8, 1), order="random", scope="global", initial="magnitude"
    )
    some = Phases(((2, 3), (5, 6), (8, 9)))
    layers = GrowPrune(0.1, Partition(2, "count"), some, order="layers", grown=0.4, fresh=False)
    stages = GrowPrune(0.1, Partition(3, "stage"), Phases.regular(1, 7, 1), scope="erk", initial="magnitude")
    acdc = GrowPrune(0.1, Partition(1), Phases(((0, 2), (4, 6), (8, 9))), scope="global", initial="magnitude")
    # a rate at which a weight grows large enough to stay within the one step of its phase
    wrn: dict[str, Any] = {"model": "wrn-10-1", "optimizer": SGD(1.0, weight_decay=5e-4), "clip": 5.0}
    own = parallel_gap(0.1, Phases.regular(3, 3, begin=1), 1, parts=3)
    found = {
        "gap": _case((turns, Explored()), tuple(range(10)), {0: 0.1, 2: 0.1, 10: 0.1}),
        "gap-random-global": _case((random,), tuple(range(1, 9)), {0: 0.1, 1: 0.1, 12: 0.1}, **wrn),
        "gap-layers-adamw": _case((layers,), (2, 5, 8), {0: 0.1, 12: 0.1}, optimizer=AdamW()),
        "gap-stages": _case((stages,), tuple(range(1, 8)), {0: 0.1, 1: 0.1}, precision="bfloat16", **wrn),
        "acdc": _case((acdc,), (1, 4, 5, 8), {0: 1.0, 1: 1.0, 2: 0.1, 4: 0.1, 5: 1.0, 12: 0.1}),
        "one-shot": _case(one_shot(0.1, STEPS), (9,), {0: 1.0, 9: 1.0, 10: 0.1, 12: 0.1}),
        "p-gap": _case(own, (1, 4, 7, 10), {1: 0.1, 11: 0.1, 12: 0.1}, optimizer=AdamW()),
    }
    found["gap"] = replace(found["gap"], alive={1: first, 3: second, 5: third, 7: first, 9: second})
    found["p-gap"] = replace(found["p-gap"], alive=dict.fromkeys(range(2, 11), second))
    return found


def _east() -> dict[str, Case]:
    quarters = (0, 3, 6, 9)
    fading = PhaseDyReLU(Linear(1.0, 0.0, 8, 3), blend="outputs")
    cycles = DropGrow(Cyclic(0.05, 5, 2, shape="triangular"), 0.0, Every(3, 3, 9))
    deep: dict[str, Any] = {"model": "resnet-20-w4", "optimizer": SGD(0.1, weight_decay=5e-4)}
    return {
        "east": _case(
            east(0.05, STEPS, cycles=1, cyclic=0.5, cyclic_interval=2, interval=4),
            (2, 3, 4, 5, 8),
            {0: 0.05, 2: 0.05, 3: 0.125, 4: 0.15, 5: 0.125, 6: 0.05, 12: 0.05},
            **deep,
        ),
        "dyrelu": _case((*rigl(0.1, STEPS, interval=3), fading), quarters, {12: 0.1}),
        "sharing": _case(
            (ShareWeights(), *rigl(0.05, STEPS, interval=3)),
            quarters,
            {0: 0.05, 12: 0.05},
            model="wrn-22-1",
            optimizer=AdamW(1e-2),
        ),
        "cyclic": _case(
            (cycles, GradientFlow()),
            (2, 3, 4, 6, 7, 9),
            {2: 0.05, 3: 0.15, 4: 0.35 / 3, 5: 0.05, 7: 0.1, 8: 0.15, 10: 0.05},
        ),
        "guarded": _case(
            (*rigl(0.002, STEPS, interval=3), MinFanIn(), GradientFlow(), Reachable()), quarters, {12: 0.002}
        ),
    }


def _superposed() -> dict[str, Case]:
    phases = TwoPhases(4, 4, 2)
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

"""The baselines by their published names, as tuples of methods with their papers' settings, scaled to a run
of `steps`. An `interval` of None is the paper's share of the run; one with a number for default is as many
steps in every run.
"""

from __future__ import annotations

from dataclasses import replace

from sparsepop.methods.base import Method
from sparsepop.methods.drop_grow import DropGrow
from sparsepop.methods.dyrelu import PhaseDyReLU
from sparsepop.methods.explored import Explored
from sparsepop.methods.gradient_flow import GradientFlow
from sparsepop.methods.grow_prune import GrowPrune
from sparsepop.methods.magnitude import Magnitude
from sparsepop.methods.partition import Partition
from sparsepop.methods.partition_grow import PartitionGrow
from sparsepop.methods.reach import Reachable
from sparsepop.methods.sharing import ShareWeights
from sparsepop.methods.static import Static
from sparsepop.methods.superpose import Superpose
from sparsepop.schedule import Cosine, Cubic, Cyclic, Every, Linear, Phases, Ramp, TwoPhases

Methods = tuple[Method, ...]
_EPOCH = 352  # steps on CIFAR: 45,000 images in batches of 128
_ITOP = 250 * _EPOCH
_GRANET = 160 * _EPOCH


def dense() -> Methods:
    """No sparsity at all."""
    return ()


def static(density: float, distribution: str = "erk") -> Methods:
    """A random mask, fixed."""
    return (Static(density, distribution),)


def sparse_evolution(
    density: float, steps: int, *, fraction: float = 0.3, interval: int = 100, distribution: str = "erk"
) -> Methods:
    """SET (Mocanu et al. 2018) on RigL's timetable, as in RigL's own comparison: random growth until 3/4 of
    the run.
    """
    return (DropGrow(density, *_until_three_quarters(fraction, interval, steps), "random", distribution),)


def rigl(
    density: float, steps: int, *, fraction: float = 0.3, interval: int = 100, distribution: str = "erk"
) -> Methods:
    """RigL (Evci et al. 2020): growth by gradient, the fraction falls by a cosine to 0 at 3/4 of the run."""
    return (DropGrow(density, *_until_three_quarters(fraction, interval, steps), "gradient", distribution),)


def rigl_itop(
    density: float,
    steps: int,
    *,
    fraction: float = 0.5,
    interval: int | None = None,
    distribution: str = "erk",
) -> Methods:
    """RigL-ITOP (Liu et al. 2021): rare updates to the very end (None: every 22nd of the run, 4000 steps of
    the paper's 250 epochs on CIFAR), the fraction falls by a cosine to 0.005."""
    interval = interval or _scaled(4000, _ITOP, steps)
    annealed, every = Cosine(fraction, 0.005, steps), Every(interval, begin=interval)
    return (DropGrow(density, annealed, every, "gradient", distribution, up=True), Explored())


def east(
    density: float,
    steps: int,
    *,
    dyrelu: bool = True,
    phase: float = 123 / 250,
    blend: str = "coefficients",
    ratio: int | None = 2,
    cycles: int = 2,
    peak: float = 3.0,
    cyclic: float = 0.4,
    cyclic_interval: int | None = None,
    shape: str = "cosine",
    fraction: float = 0.5,
    interval: int | None = None,
    distribution: str = "erk",
) -> Methods:
    """EAST (Li et al. 2025): RigL-ITOP, whose activations are DyReLUs in the first `phase` (a share of the
    run; faded out in its second half), whose blocks share weights, and whose density cycles up to `peak`
    times its own in the first `cyclic` share of the run.

    Each part can be left out: `dyrelu=False`, `ratio=None`, `cycles=0`; without any this trains as
    `rigl_itop` does, bit for bit. While the density cycles, masks change every `cyclic_interval` steps and
    nothing is replaced; every `interval` steps after that RigL explores. Gradient norms, connected classes
    and collapses are recorded. The timetable is that of the paper's code, its 250 epochs scaled to `steps`,
    the intervals (None) with them: 100 and 4000 of its 88,000 steps, 0.11% and 4.5% of the run.

    Deviations: erk redistributes what saturated layers cannot hold, and has no floor but one weight a layer.
    The paper's code also clips to norm 1, over dense gradients; a recipe's `clip` sees the alive ones alone.
    """
    interval = interval or _scaled(4000, _ITOP, steps)
    cyclic_interval = cyclic_interval or _scaled(100, _ITOP, steps)
    parts: list[Method] = []
    if ratio is not None:
        parts.append(ShareWeights(ratio))
    if dyrelu:
        beta = Linear(1.0, 0.0, round(phase * steps), round(phase / 2 * steps))
        parts.append(PhaseDyReLU(beta, blend=blend))
    first, held = interval, density if cycles == 0 else None
    if cycles:
        cycle = Cyclic(density, max(2, round(cyclic * steps / cycles)), cycles, peak, shape=shape)
        every = Every(cyclic_interval, cyclic_interval, cycle.end - 1)
        parts.append(DropGrow(cycle, 0.0, every, "gradient", distribution))
        first = (cycle.end // interval + 1) * interval
    annealed = Cosine(fraction, 0.005, steps)
    explore = DropGrow(held, annealed, Every(interval, begin=first), "gradient", distribution, up=True)
    return (*parts, explore, Explored(), GradientFlow(), Reachable())


def gmp(density: float, steps: int, *, interval: int = 100, begin: float = 0.0, end: float = 0.75) -> Methods:
    """Gradual magnitude pruning (Zhu & Gupta 2017) from dense, global; `begin` and `end` are shares of the
    run.
    """
    first, last = round(begin * steps), round(end * steps)
    return (Magnitude(Cubic(1.0, density, last, first), Every(interval, first, last)),)


def granet(
    density: float,
    steps: int,
    *,
    initial: float = 1.0,
    fraction: float = 0.5,
    interval: int | None = None,
    end: float = 0.5,
) -> Methods:
    """GraNet (Liu et al. 2021): gradual pruning until `end` of the run, each pruning step followed by
    regrowing by gradient. `interval` None: 1.8% of the run, 1000 steps of the paper's 160 epochs on CIFAR.

    `initial=1` is dense to sparse, `initial=0.5` sparse to sparse (random masks by erk).
    """
    interval = interval or _scaled(1000, _GRANET, steps)
    start: Methods = (Static(initial),) if initial < 1.0 else ()
    prune = Magnitude(
        Cubic(initial, density, round(end * steps)), Every(interval, interval, round(end * steps))
    )
    regrow = DropGrow(None, Cosine(fraction, 0.005, steps), Every(interval, interval), "gradient", up=True)
    return (*start, prune, regrow)


def gap(
    density: float,
    steps: int,
    *,
    parts: int = 4,
    length: int | None = None,
    fine_tune: float = 0.15,
    by: str = "size",
    order: str = "cyclic",
    scope: str = "uniform",
) -> Methods:
    """C-GaP (Ma et al. 2022) with as many phases of `length` steps as fit before the last `fine_tune` (a
    share of the run); without a length, seven rounds, or as much of them as fits. The learning rate starts
    anew with each phase when the recipe says so: `Restarts`. With fewer phases than `parts` some layers are
    never grown: `explored` then stays below 1. ValueError where not a single phase fits.
    """
    partition, room, count = Partition(parts, by), _before_the_last(fine_tune, steps), 7 * parts
    if length is None:
        length = max(1, room // count)
    elif 1 <= length <= room:
        count = room // length
    else:
        raise ValueError(
            f"phases of length={length} do not fit into the {room} steps before the fine-tuning: "
            f"make them 1 to {room} steps long, or train longer"
        )
    phases = Phases.regular(length, min(count, room))
    return (GrowPrune(density, partition, phases, order, scope), Explored())


def parallel_gap(
    density: float, rounds: Phases, own: int, *, parts: int = 4, by: str = "size", scope: str = "uniform"
) -> Methods:
    """P-GaP (Ma et al. 2022), for the member that grows partition `own` of `parts` in each of `rounds`; for
    populations under `PartitionParallel`. The paper's four partitions of ResNet-50 are its stages (`by`).
    """
    return (PartitionGrow(density, Partition(parts, by), own, rounds, scope), Explored())


def acdc(density: float, steps: int) -> Methods:
    """AC/DC (Peste et al. 2021), which is GaP with all layers in one partition and sparse stretches between
    the phases: the timetable of its ImageNet runs (in 20ths of the run: dense to 2, from 3 to 4, 5 to 6, ...,
    13 to 14, 15 to 17), global.

    Momentum starts anew with each dense phase, as in the authors' code; here also with the last sparse one.
    ValueError for a run of fewer than 20 steps.
    """
    if steps < 20:
        raise ValueError(f"AC/DC divides its run into 20 parts, and {steps} steps are fewer: train longer")
    twentieths = ((0, 2), *((begin, begin + 1) for begin in range(3, 14, 2)), (15, 17))
    spans = tuple((round(begin * steps / 20), round(end * steps / 20)) for begin, end in twentieths)
    return (GrowPrune(density, Partition(1), Phases(spans), scope="global", initial="magnitude"),)


def one_shot(density: float, steps: int, *, fine_tune: float = 0.15, scope: str = "uniform") -> Methods:
    """Dense training, then the smallest weights pruned at once, and the last `fine_tune` (a share of the run)
    on that mask.
    """
    phases = Phases.regular(_before_the_last(fine_tune, steps), 1)
    return (GrowPrune(density, Partition(1), phases, scope=scope, initial="magnitude"),)


def sup_tickets(
    base: Methods,
    phases: TwoPhases,
    *,
    explore: float = 0.5,
    grow: str = "gradient",
    average: str = "caa",
    factor: float = 0.5,
    prune: str = "end",
    scope: str = "global",
) -> Methods:
    """Sup-tickets (Yin et al. 2022) on `base`, the methods of the first phase: at the start of each cycle the
    `explore` weakest share of each layer is replaced, at its end a ticket is taken, and the tickets become
    one network.

    `base` changes no connection during the cycles; nothing does with `explore` 0. Use it with the learning
    rate `Triangular(lr_low, lr_high, phases, before)`. The paper: split(steps, 0.1, 8 epochs), explore 0.5,
    growth by gradient whatever the base's own, rates 0.001 and 0.005. Raises ValueError where `base` reaches
    its density only after phase 1, and for an `explore` outside [0, 1).
    """
    if late := [method for method in base if method.settled_at() > phases.before]:
        raise ValueError(
            f"{type(late[0]).__name__} reaches its density at step {late[0].settled_at()}, after the first "
            f"phase's {phases.before}: have it settle by step {phases.before}, or begin the cycles later"
        )
    first = tuple(_before(method, phases.before) for method in base)
    # also where nothing is explored: what a method remembers is known by its place in the tuple
    jump = DropGrow(None, explore, phases.starts, grow, up=True)
    return (*first, jump, Superpose(phases, average, factor, prune, scope))


def _before(method: Method, step: int) -> Method:
    """The method without the updates that it would make from `step` on."""
    if not isinstance(method, DropGrow):
        return method
    last = step - 1 if method.every.end is None else min(step - 1, method.every.end)
    return replace(method, every=replace(method.every, end=last))


def _before_the_last(fine_tune: float, steps: int) -> int:
    """How many of the `steps` come before those of the last `fine_tune`, a share of them; ValueError where
    none do.
    """
    if not 0.0 <= fine_tune < 1.0:
        raise ValueError(f"fine_tune={fine_tune} is no share of the run: give one from 0 to below 1")
    if (room := steps - round(fine_tune * steps)) < 1:
        raise ValueError(
            f"fine_tune={fine_tune} leaves none of the {steps} steps for what comes before: give it less"
        )
    return room


def _scaled(interval: int, published: int, steps: int) -> int:
    """The `interval` of a run of `published` steps in one of `steps`."""
    return max(1, round(interval / published * steps))


def _until_three_quarters(fraction: float, interval: int, steps: int) -> tuple[Ramp, Every]:
    end = round(0.75 * steps)
    return Cosine(fraction, 0.0, end), Every(interval, end=end)

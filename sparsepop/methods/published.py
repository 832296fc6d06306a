"""The baselines by their published names, as tuples of methods with their papers' settings, scaled to a run
of `steps`.
"""

from __future__ import annotations

from dataclasses import replace

from sparsepop.methods.base import Method
from sparsepop.methods.drop_grow import DropGrow
from sparsepop.methods.explored import Explored
from sparsepop.methods.magnitude import Magnitude
from sparsepop.methods.static import Static
from sparsepop.methods.superpose import Superpose
from sparsepop.schedule import Cosine, Cubic, Every, Phases, Ramp

Methods = tuple[Method, ...]


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
    density: float, steps: int, *, fraction: float = 0.5, interval: int = 4000, distribution: str = "erk"
) -> Methods:
    """RigL-ITOP (Liu et al. 2021): rare updates to the very end, the fraction falls by a cosine to 0.005."""
    every = Every(interval, begin=interval)
    return (DropGrow(density, Cosine(fraction, 0.005, steps), every, "gradient", distribution), Explored())


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
    interval: int = 1000,
    end: float = 0.5,
) -> Methods:
    """GraNet (Liu et al. 2021): gradual pruning until `end` of the run, each pruning step followed by
    regrowing by gradient.

    `initial=1` is dense to sparse, `initial=0.5` sparse to sparse (random masks by erk).
    """
    start: Methods = (Static(initial),) if initial < 1.0 else ()
    prune = Magnitude(
        Cubic(initial, density, round(end * steps)), Every(interval, interval, round(end * steps))
    )
    regrow = DropGrow(None, Cosine(fraction, 0.005, steps), Every(interval, interval), "gradient")
    return (*start, prune, regrow)


def sup_tickets(
    base: Methods,
    phases: Phases,
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

    `base` changes no connection during the cycles. Use it with the learning rate `Triangular(lr_low, lr_high,
    phases, before)`. The paper: split(steps, 0.1, 8 epochs), explore 0.5, growth by gradient whatever the
    base's own, rates 0.001 and 0.005. Raises ValueError where `base` reaches its density only after phase 1.
    """
    if late := [method for method in base if method.settled_at() > phases.before]:
        raise ValueError(
            f"{type(late[0]).__name__} reaches its density at step {late[0].settled_at()}, after the first "
            f"phase's {phases.before}: build the base methods with steps={phases.before}"
        )
    first = tuple(_before(method, phases.before) for method in base)
    jump: Methods = (DropGrow(None, explore, phases.starts, grow),) if explore > 0 else ()
    return (*first, *jump, Superpose(phases, average, factor, prune, scope))


def _before(method: Method, step: int) -> Method:
    """The method without the updates that it would make from `step` on."""
    if not isinstance(method, DropGrow):
        return method
    last = step - 1 if method.every.end is None else min(step - 1, method.every.end)
    return replace(method, every=replace(method.every, end=last))


def _until_three_quarters(fraction: float, interval: int, steps: int) -> tuple[Ramp, Every]:
    end = round(0.75 * steps)
    return Cosine(fraction, 0.0, end), Every(interval, end=end)

"""How long other methods have to train to spend as much: the control at an equal budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sparsepop.methods.base import Method
from sparsepop.methods.grow_prune import GrowPrune


def promised_density(methods: Sequence[Method], step: int) -> float | None:
    """The density after `step` steps, by the last method that promises one; None where none does."""
    promises = [method.density_at(step) for method in methods]
    return next((promise for promise in reversed(promises) if promise is not None), None)


def weight_steps(methods: Sequence[Method], steps: int) -> float:
    """What `methods` spend in a run of `steps`: the sum over its steps of the density, so 50 for a half of
    the weights in a hundred steps. Nearly the training FLOPs where layers cost as much for each weight.

    In a phase of grow-and-prune one partition is dense, which counts as one of equal ones. Where nothing is
    promised a network counts as dense, as it is before a first pruning.
    """
    return sum(_density(methods, step) for step in range(steps))


def steps_to_spend(budget: float, methods: Callable[[int], Sequence[Method]]) -> int:
    """The number of steps for which `methods`, given it, spend `budget` in `weight_steps`, to within a step
    or two, as timetables round. Raises ValueError for a budget under one dense step.
    """
    if budget < 1:
        raise ValueError(f"a budget of {budget} weight-steps is under one step of a dense network")
    steps, tried = round(budget), dict[int, float]()
    while steps not in tried:  # a timetable is not quite in proportion to its run, so scaling once misses
        tried[steps] = weight_steps(methods(steps), steps)
        steps = round(steps * budget / tried[steps])
    return min(tried, key=lambda steps: abs(tried[steps] - budget))


def _density(methods: Sequence[Method], step: int) -> float:
    for method in methods:
        if isinstance(method, GrowPrune) and _grows(method, step):
            return method.density + (method.grown - method.density) / method.partition.parts
    promise = promised_density(methods, step)
    return 1.0 if promise is None else promise


def _grows(method: GrowPrune, step: int) -> bool:
    return method.phases.beginning(step) is not None or method.phases.within(step)

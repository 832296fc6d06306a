"""How long other methods have to train to spend as much: the control at an equal budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sparsepop.methods.base import Method


def promised_density(methods: Sequence[Method], step: int) -> float | None:
    """The density after `step` steps, by the last method that promises one; None where none does."""
    promises = [method.density_at(step) for method in methods]
    return next((promise for promise in reversed(promises) if promise is not None), None)


def steps_to_spend(weight_steps: float, methods: Callable[[int], Sequence[Method]]) -> int:
    """The number of steps for which `methods`, given it, spends `weight_steps`: the sum over steps of the
    density, so 50 for a half of the weights in a hundred steps. To within a step or two, as timetables round.

    Nearly the training FLOPs where layers cost as much for each weight. Where nothing is promised a network
    counts as dense: right before a first pruning, but too much inside a phase of `gap`, where only a run can
    tell. Raises ValueError for a budget under one dense step.
    """
    if weight_steps < 1:
        raise ValueError(f"a budget of {weight_steps} weight-steps is under one step of a dense network")
    steps, tried = round(weight_steps), dict[int, float]()
    while steps not in tried:  # a timetable is not quite in proportion to its run, so scaling once misses
        tried[steps] = _spent(methods(steps), steps)
        steps = round(steps * weight_steps / tried[steps])
    return min(tried, key=lambda steps: abs(tried[steps] - weight_steps))


def _spent(methods: Sequence[Method], steps: int) -> float:
    densities = (promised_density(methods, step) for step in range(steps))
    return sum(1.0 if density is None else density for density in densities)

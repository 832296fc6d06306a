"""HALO's learning rates: one clean schedule for weights and coefficients, or those that its published scripts
run with.
"""

from __future__ import annotations

from sparsepop.schedule import Milestones, Schedule

MODES = ("clean", "cifar", "mnist")


def halo_rates(
    start: float, milestones: tuple[int, ...], mode: str = "clean", factor: float = 0.1
) -> tuple[Schedule, float | Schedule]:
    """The optimizer's learning rate and the `lr_factor` of the coefficients, for drops at the steps
    `milestones`.

    `clean`: both drop by `factor` at each milestone. `cifar`: the CIFAR script multiplies one shared value
    for the weights and then once more for the coefficients, so weights drop once at the first milestone and
    twice at the later ones, coefficients twice at each (0.1, 0.01, 1e-4 and 0.1, 1e-3, 1e-5). `mnist`: both
    of the MNIST script's schedulers act on the weights, which drop twice at each; coefficients never do.
    Plain and lasso runs of both scripts have the clean schedule, so only `clean` compares like with like.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r} of learning rates: choose one of {', '.join(MODES)}")
    twice = tuple(step for step in milestones for _ in range(2))
    if mode == "clean" or not milestones:
        return Milestones(start, milestones, factor), 1.0
    if mode == "cifar":
        return Milestones(start, twice[1:], factor), Milestones(1.0, milestones[:1], factor)
    return Milestones(start, twice, factor), Milestones(1.0, twice, 1.0 / factor)

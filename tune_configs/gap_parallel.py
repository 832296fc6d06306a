"""Parallel grow-and-prune (P-GaP): members that each grow a part of one network, merged after every round."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PARTITION, Experiment, PartitionParallel
from sparsepop.methods import parallel_gap
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Phases, Restarts, Warmup

MODELS = {"mnist": "lenet-300-100", "cifar10": "resnet-20"}


def experiment(
    data: str = "digits",
    density: float = 0.05,
    epochs: int = 4,
    parts: int = 4,
    rounds: int = 8,
    smoke: bool = False,
) -> Experiment:
    """Rounds of `epochs`, after four times as long of common sparse training, before three times as long of
    fine-tuning; --smoke: two members, two rounds of five steps after as many."""
    parts, rounds, warm = (2, 2, 1) if smoke else (parts, rounds, 4)
    length = 5 if smoke else epochs * open_data(data).steps_per_epoch(128)
    phases = Phases.regular(length, rounds, warm * length)
    steps, name = phases.end + 3 * length, PurePath(data).name

    def falling(steps: int) -> Warmup:
        return Warmup(Cosine(0.1, 0.0, steps), length // 4)

    def recipe(hp: dict[str, Any]) -> Recipe:
        rate = Restarts(falling(length), length, rounds, falling(3 * length))
        rate = Restarts(falling(warm * length), warm * length, 1, rate)
        methods = parallel_gap(density, phases, hp[PARTITION], parts=parts)
        return Recipe(MODELS.get(name, "wrn-10-1"), steps, methods, SGD(rate, weight_decay=5e-4), clip=1.0)

    return Experiment(f"gap-parallel-{name}", recipe, data, PartitionParallel(parts), generation=length)

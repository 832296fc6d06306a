"""Parallel grow-and-prune (P-GaP): members that each grow a part of one network, merged after every round."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PARTITION, Experiment, PartitionParallel
from sparsepop.methods import parallel_gap
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Phases, Restarts, Warmup

FAST: Any = {"precision": "bfloat16", "channels_last": True}
NETWORKS: Any = {"mnist": ("lenet-300-100", 3, {}), "cifar10": ("resnet-20", 4, FAST)}  # and partitions


def experiment(
    data: str = "digits",
    density: float = 0.05,
    epochs: int = 4,
    parts: int = 0,
    rounds: int = 8,
    around: tuple[int, int] = (4, 3),
    model: str = "",
    scope: str = "uniform",
    smoke: bool = False,
) -> Experiment:
    """Rounds of `epochs`; `around` them, in rounds: common sparse training, fine-tuning. --smoke: tiny."""
    net, cuts, fast = NETWORKS.get(name := PurePath(data).name, ("wrn-10-1", 4, {}))
    parts, rounds, around = (2, 2, (1, 3)) if smoke else (parts or cuts, rounds, around)
    length = 5 if smoke else epochs * open_data(data).steps_per_epoch(128)
    phases, last = Phases.regular(length, rounds, first := length * around[0]), length * around[1]

    def recipe(hp: dict[str, Any]) -> Recipe:
        once, cycle, tail = (Warmup(Cosine(0.1, 0.0, n), length // 4 or 1) for n in (first, length, last))
        lr = Restarts(once, first or 1, min(first, 1), Restarts(cycle, length, rounds, tail))
        methods = parallel_gap(density, phases, hp[PARTITION], parts=parts, scope=scope)
        return Recipe(model or net, phases.end + last, methods, SGD(lr, weight_decay=5e-4), clip=1.0, **fast)

    return Experiment(f"gap-parallel-{name}", recipe, data, PartitionParallel(parts), generation=length)

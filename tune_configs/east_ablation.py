"""What each part of EAST does: RigL-ITOP with every subset of phased DyReLUs, shared weights and cycles."""

from itertools import combinations
from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import east
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine

PARTS = [c for size in range(4) for c in combinations(("dyrelu", "sharing", "cycles"), size)]


def experiment(data: str = "digits", epochs: int = 60, smoke: bool = False) -> Experiment:
    """Eight settings, three seeds each, equal weights and steps; --smoke: one seed, a tenth as long."""
    name = PurePath(data).name
    small = name == "digits"
    batch = 64 if small else 128
    generation = max(5, round(epochs * open_data(data).steps_per_epoch(batch) / (100 if smoke else 10)))
    steps = 10 * generation
    timing: dict[str, Any] = {"interval": max(1, steps // 100), "cyclic_interval": max(1, steps // 400)}

    def recipe(hp: dict[str, Any]) -> Recipe:
        dyrelu, sharing, cycles = (part in hp["parts"] for part in ("dyrelu", "sharing", "cycles"))
        chosen: dict[str, Any] = {"dyrelu": dyrelu, "ratio": 2 if sharing else None, "cycles": 2 * cycles}
        methods = east(0.01 if small else 0.001, steps, **chosen, **timing)
        optimizer = SGD(Cosine(0.1, 0.0, steps), nesterov=True, weight_decay=1e-4)
        model = "resnet-20-w8" if small else "resnet-34"
        more: dict[str, Any] = {} if small else {"precision": "bfloat16", "channels_last": True}
        return Recipe(model, steps, methods, optimizer, batch, clip=1.0, **more)

    search = Grid({"parts": PARTS}, seeds=1 if smoke else 3)
    return Experiment(f"east-ablation-{name}", recipe, data, search, generation)

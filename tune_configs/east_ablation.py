"""What each part of EAST does: RigL-ITOP with every subset of phased DyReLUs, shared weights and cycles."""

from itertools import combinations
from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import east, sparse_evolution
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine

PARTS = [c for size in range(4) for c in combinations(("dyrelu", "sharing", "cycles"), size)]
MODELS = {"digits": "residual-mlp", "cifar10": "resnet-20"}


def experiment(
    data: str = "digits", density: float = 0.01, epochs: int = 40, smoke: bool = False
) -> Experiment:
    """Eight settings and SET, five seeds each, equal weights and steps; --smoke: one seed, a tenth of it."""
    name = PurePath(data).name
    batch = 64 if name == "digits" else 128
    generation = max(5, round(epochs * open_data(data).steps_per_epoch(batch) / (100 if smoke else 10)))
    steps = 10 * generation
    timing: dict[str, Any] = {"interval": max(1, steps // 60), "cyclic_interval": max(1, steps // 400)}

    def recipe(hp: dict[str, Any]) -> Recipe:
        parts = hp["parts"]
        dyrelu, sharing, cycles = (part in parts for part in ("dyrelu", "sharing", "cycles"))
        chosen: dict[str, Any] = {"dyrelu": dyrelu, "ratio": 2 if sharing else None, "cycles": 2 * cycles}
        methods = east(density, steps, **chosen, **timing)
        if parts == "set":
            methods = sparse_evolution(density, steps, interval=timing["interval"])
        optimizer = SGD(Cosine(0.1, 0.0, steps), nesterov=True, weight_decay=1e-4)
        return Recipe(MODELS.get(name, "resnet-34"), steps, methods, optimizer, batch, clip=1.0)

    search = Grid({"parts": [*PARTS, "set"]}, seeds=1 if smoke else 5)
    return Experiment(f"east-ablation-{name}-{density:g}", recipe, data, search, generation)

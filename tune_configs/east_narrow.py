"""EAST against RigL-ITOP and SET on a ResNet-34 an eighth as wide, which CPUs train too: three seeds each."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import Method, east, rigl_itop, sparse_evolution
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine

FAST: Any = {"precision": "bfloat16", "channels_last": True}


def methods(name: str, density: float, steps: int) -> tuple[Method, ...]:
    """Intervals between updates, of the run, as in EAST's paper: a 58th for SET, a 22nd for RigL and EAST."""
    return {
        "set": sparse_evolution(density, steps, interval=max(1, steps // 58)),
        "rigl": rigl_itop(density, steps),
        "east": east(density, steps),
    }[name]


def experiment(
    data: str = "cifar10", density: float = 0.01, epochs: int = 10, smoke: bool = False
) -> Experiment:
    """Equal epochs and alive weights; --smoke: one seed and epoch."""
    name = PurePath(data).name
    epoch = open_data(data).steps_per_epoch(128)
    steps = epoch * (1 if smoke else epochs)

    def recipe(hp: dict[str, Any]) -> Recipe:
        optimizer = SGD(Cosine(0.1, 0.0, steps), nesterov=True, weight_decay=1e-4)
        chosen = methods(hp["run"], density, steps)
        return Recipe("resnet-34-w8", steps, chosen, optimizer, clip=1.0, **FAST)

    search = Grid({"run": ["set", "rigl", "east"]}, seeds=1 if smoke else 3)
    return Experiment(f"east-narrow-{name}-{density:g}", recipe, data, search, epoch)

"""DST: a population searches alpha, the granularity and the learning rate at 5% density.

Until the cut, at half of the run, densities differ and nobody copies anybody; from there on all members have
the same, exactly, and the worse ones go on from the better ones' networks: alpha is chosen by what it leaves.
"""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PBT, Experiment, Grid
from sparsepop.methods import Cut, Thresholds
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine
from sparsepop.space import Choice, LogUniform, Space

DENSITY = 0.05
SPACE: Space = {
    "alpha": LogUniform(1e-5, 3e-2),
    "granularity": Choice(("vector", "matrix")),
    "lr": LogUniform(0.01, 0.2),
}
PUBLISHED: Any = {"alpha": [5e-4], "granularity": ["vector"], "lr": [0.01, 0.1]}


def experiment(data: str = "digits", epochs: int = 60, pbt: bool = True, smoke: bool = False) -> Experiment:
    """Eight members in ten generations (`pbt=False`: of the published alpha); --smoke: two, two epochs."""
    name = PurePath(data).name
    model = "lenet-300-100" if name in ("digits", "mnist") else "resnet-20"
    steps = open_data(data).steps_per_epoch(64) * (2 if smoke else epochs)

    def recipe(hp: dict[str, Any]) -> Recipe:
        methods = (Thresholds(hp["alpha"], hp["granularity"], floor=0.001), Cut(DENSITY, steps // 2))
        optimizer = SGD(lr=Cosine(hp["lr"], 0.0, steps), weight_decay=1e-4)
        return Recipe(model, steps, methods, optimizer, batch=64)

    search = PBT(SPACE, members=2 if smoke else 8) if pbt else Grid(PUBLISHED, seeds=4)
    return Experiment(f"dst-{name}", recipe, data, search, steps // (2 if smoke else 10))

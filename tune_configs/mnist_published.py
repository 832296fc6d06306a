"""DST at its published settings and HALO against Lasso and no penalty, on MNIST: three seeds of each."""

from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import Cut, Halo, Lasso, Method, Thresholds
from sparsepop.models.unit import FedUnits
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Milestones

RUNS = [("dst", 1.0), *((name, density) for density in (0.02, 0.01) for name in ("none", "lasso", "halo"))]
PENALTIES: dict[str, tuple[Method, ...]] = {"none": (), "lasso": (Lasso(1e-4),), "halo": (Halo(1e-7, 1e-3),)}


def experiment(data: str = "mnist", smoke: bool = False) -> Experiment:
    """Seven settings; the penalised ones are cut after their last step. --smoke: one seed, 2% of an epoch."""
    epoch = 10 if smoke else open_data(data).steps_per_epoch(100)

    def recipe(hp: dict[str, Any]) -> Recipe:
        name, density = hp["run"]
        if name == "dst":  # the steps of 20 epochs of all 60,000 images
            return Recipe(FedUnits("lenet-300-100"), epoch * 34, (Thresholds(5e-4),), SGD(0.01), 64)
        sgd = SGD(Milestones(0.1, (epoch * 10, epoch * 15)))
        methods = (*PENALTIES[name], Cut(density, epoch * 20))
        return Recipe(FedUnits("lenet-300-100"), epoch * 20, methods, sgd, 100)

    return Experiment("mnist-published", recipe, data, Grid({"run": RUNS}, 1 if smoke else 3), epoch)

"""DST at its published settings and HALO against Lasso and no penalty, on MNIST: three seeds of each."""

from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import Cut, Halo, Lasso, Method, Thresholds, halo_rates
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe

THRESHOLDS = {  # DST: model, alpha, epochs
    "dst-20": ("lenet-300-100", 5e-4, 20),
    "dst-60": ("lenet-300-100", 5e-4, 60),
}
PENALTIES: dict[str, tuple[Method, ...]] = {"none": (), "lasso": (Lasso(1e-4),), "halo": (Halo(1e-7, 1e-3),)}
RUNS = (*THRESHOLDS, *(f"{name}-{density}" for density in (0.02, 0.01) for name in PENALTIES))


def experiment(data: str = "mnist", smoke: bool = False) -> Experiment:
    """Eight settings; the penalised ones are cut after their last step. --smoke: three, 2% of the steps."""
    examples = open_data(data).steps_per_epoch(1) // (50 if smoke else 1)

    def recipe(hp: dict[str, Any]) -> Recipe:
        run: str = hp["run"]
        if run not in THRESHOLDS:
            name, density = run.split("-")
            steps = examples * 20 // 100
            lr, _ = halo_rates(0.1, (steps // 2, steps * 3 // 4))
            return Recipe(
                "lenet-300-100", steps, (*PENALTIES[name], Cut(float(density), steps)), SGD(lr), 100
            )
        model, alpha, epochs = THRESHOLDS[run]
        return Recipe(model, examples * epochs // 64, (Thresholds(alpha),), SGD(0.01), 64)

    grid = Grid({"run": ["dst-20", "lasso-0.02", "halo-0.02"]}) if smoke else Grid({"run": RUNS}, seeds=3)
    return Experiment("mnist-published", recipe, data, grid, generation=examples // 5)

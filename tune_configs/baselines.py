"""Dense, static, SET, RigL, GMP and GraNet at 90 to 99% sparsity on MNIST: equal budgets, three seeds."""

from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import Method, dense, gmp, granet, rigl, sparse_evolution, static
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine


def methods(name: str, density: float, steps: int) -> tuple[Method, ...]:
    return {
        "dense": dense,
        "static": lambda: static(density),
        "set": lambda: sparse_evolution(density, steps),
        "rigl": lambda: rigl(density, steps),
        "gmp": lambda: gmp(density, steps),
        "granet": lambda: granet(density, steps, initial=0.5, interval=100),
    }[name]()


def experiment(data: str = "mnist", smoke: bool = False) -> Experiment:
    """All baselines, 20 epochs each; --smoke: one seed and 20 steps."""
    epoch = open_data(data).steps_per_epoch(128)
    steps = 20 if smoke else 20 * epoch

    def recipe(hp: dict[str, Any]) -> Recipe:
        name, density = hp["run"]
        optimizer = SGD(lr=Cosine(0.1, 0.0, steps), weight_decay=5e-4)
        return Recipe("lenet-300-100", steps, methods(name, density, steps), optimizer)

    names = ("static", "set", "rigl", "gmp", "granet")
    runs = [("dense", 1.0), *((name, density) for density in (0.1, 0.05, 0.02, 0.01) for name in names)]
    return Experiment(
        "baselines", recipe, data, Grid({"run": runs}, seeds=1 if smoke else 3), generation=steps
    )

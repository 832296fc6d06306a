"""ResNet-20 on CIFAR-10: dense, static and RigL at 90 and 95% sparsity, ten epochs, three seeds each."""

from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid, Resources
from sparsepop.methods import dense, rigl, static
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine

RUNS = (("dense", 1.0), ("static", 0.1), ("rigl", 0.1), ("static", 0.05), ("rigl", 0.05))


def experiment(data: str = "cifar10", epochs: int = 10) -> Experiment:
    epoch = open_data(data).steps_per_epoch(128)
    steps = epochs * epoch

    def recipe(hp: dict[str, Any]) -> Recipe:
        name, density = hp["run"]
        methods = {"dense": dense(), "static": static(density), "rigl": rigl(density, steps)}[name]
        optimizer = SGD(lr=Cosine(0.1, 0.0, steps), nesterov=True, weight_decay=5e-4)
        return Recipe("resnet-20", steps, methods, optimizer, precision="bfloat16", channels_last=True)

    return Experiment(
        "cifar-baselines", recipe, data, Grid({"run": RUNS}, seeds=3), epoch, resources=Resources(cpus=1)
    )

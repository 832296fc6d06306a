"""Random search for RigL at 95% sparsity in which successive halving (ASHA) ends the weak members early."""

from typing import Any

from ray.tune.schedulers import ASHAScheduler

from sparsepop.experiment import Experiment, Tuned
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine
from sparsepop.space import Integers, LogUniform, Space, Uniform

SPACE: Space = {
    "lr": LogUniform(1e-3, 0.3),
    "fraction": Uniform(0.05, 0.6),
    "interval": Integers(10, 200, log=True),
}


def experiment(data: str = "digits", smoke: bool = False) -> Experiment:
    """16 members, a choice between them after 1, 2, 4 and 8 of 16 generations; --smoke: 4 members, 2 of 4."""
    members, generation = (4, 10) if smoke else (16, 100)
    steps = members * generation

    def recipe(hp: dict[str, Any]) -> Recipe:
        methods = rigl(0.05, steps, fraction=hp["fraction"], interval=hp["interval"])
        optimizer = SGD(lr=Cosine(hp["lr"], 0.0, steps), momentum=0.9, weight_decay=5e-4)
        return Recipe("lenet-300-100", steps, methods, optimizer, batch=64)

    def halving() -> ASHAScheduler:
        return ASHAScheduler(time_attr="generation", max_t=members, reduction_factor=2)

    return Experiment("asha", recipe, data, Tuned(SPACE, members, scheduler=halving), generation)

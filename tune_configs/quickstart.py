"""Eight digit readers with 5% of their weights under population-based training of RigL, in about a minute."""

from typing import Any

from sparsepop.experiment import PBT, Experiment
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine
from sparsepop.space import Integers, LogUniform, Space, Uniform

STEPS = 1600


def recipe(hp: dict[str, Any]) -> Recipe:
    return Recipe(
        model="lenet-300-100",
        steps=STEPS,
        methods=rigl(0.05, STEPS, fraction=hp["fraction"], interval=hp["interval"]),
        optimizer=SGD(lr=Cosine(hp["lr"], 0.0, STEPS), momentum=0.9, weight_decay=5e-4),
        batch=64,
    )


SPACE: Space = {
    "lr": LogUniform(1e-3, 0.3),
    "fraction": Uniform(0.05, 0.6),
    "interval": Integers(10, 200, log=True),
}
EXPERIMENT = Experiment("quickstart", recipe, "digits", PBT(SPACE, members=8), generation=200)

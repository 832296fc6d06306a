"""Two small digit readers that exchange, each on a whole CPU; slow enough for things to happen to them."""

from typing import Any

from sparsepop.experiment import PBT, Experiment, Resources
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.space import LogUniform

STEPS, GENERATION, MEMBERS = 8000, 1000, 2


def recipe(hp: dict[str, Any]) -> Recipe:
    methods = rigl(0.05, STEPS, interval=50)
    return Recipe("lenet-300-100", STEPS, methods, SGD(lr=hp["lr"], momentum=0.9), batch=64)


SEARCH = PBT({"lr": LogUniform(1e-3, 0.1)}, members=MEMBERS)
EXPERIMENT = Experiment("small", recipe, "digits", SEARCH, generation=GENERATION, resources=Resources(cpus=1))

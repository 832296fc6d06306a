"""Sup-tickets on RigL at 90% sparsity: cycles, their learning rate and exploration searched at random."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Sampled
from sparsepop.methods import rigl, sup_tickets
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Milestones, Triangular, split
from sparsepop.space import Integers, LogUniform, Space, Uniform

SPACE: Space = {"epochs": Integers(1, 4), "lr_high": LogUniform(0.001, 0.05), "explore": Uniform(0.0, 0.6)}


def experiment(data: str = "digits", epochs: int = 60, smoke: bool = False) -> Experiment:
    """Eight members, the last fifth of `epochs` in cycles of 1 to 4 epochs; --smoke: two members, 5."""
    name, epochs = PurePath(data).name, 5 if smoke else epochs
    model = {"mnist": "lenet-300-100", "digits": "lenet-300-100"}.get(name, "resnet-20")
    epoch = open_data(data).steps_per_epoch(128)

    def recipe(hp: dict[str, Any]) -> Recipe:
        length = (1 if smoke else hp["epochs"]) * epoch
        phases = split(epochs * epoch, 0.2, length)
        before = Milestones(0.1, (phases.before // 2, 3 * phases.before // 4))
        lr = Triangular(0.001, hp["lr_high"], phases, before)
        methods = sup_tickets(rigl(0.1, phases.before), phases, explore=hp["explore"])
        return Recipe(model, epochs * epoch, methods, SGD(lr, weight_decay=5e-4))

    search = Sampled(SPACE, members=2 if smoke else 8)
    return Experiment(f"sup-tickets-{name}", recipe, data, search, generation=epochs * epoch // 5)

"""Tickets of RigL; then `python -m sparsepop.superpose results/harvest-digits --how vote`."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine
from sparsepop.tickets import from_ticket


def experiment(
    data: str = "digits", epochs: int = 40, density: float = 0.1, parent: str = "", smoke: bool = False
) -> Experiment:
    """Four seeds. With `--set parent=EXPERIMENT:ID` they retrain that ticket, connections and weights, at a
    tenth of the learning rate: four members on one mask, for `--how soup`."""
    name = PurePath(data).name
    model = {"mnist": "lenet-300-100", "digits": "lenet-300-100"}.get(name, "resnet-20")
    steps = (2 if smoke else epochs) * open_data(data).steps_per_epoch(128)
    store, _, ticket = str(parent).rpartition(":")

    def recipe(hp: dict[str, Any]) -> Recipe:
        methods = (from_ticket(store, ticket),) if parent else rigl(density, steps)
        lr = Cosine(0.01 if parent else 0.1, 0.0, steps)
        return Recipe(model, steps, methods, SGD(lr, weight_decay=5e-4))

    kind = "soup" if parent else "harvest"
    return Experiment(f"{kind}-{name}", recipe, data, Grid({}, seeds=4), steps // 2)

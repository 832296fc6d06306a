"""Which guard helps at extreme sparsity: RigL-ITOP and EAST without one, with a floor under the classifier's
fan-ins, and with the classifier dense, which are 1,280 weights beside those counted."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import MinFanIn, east
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine

BASES: dict[str, dict[str, Any]] = {
    "rigl": {"dyrelu": False, "ratio": None, "cycles": 0},
    "sharing-cycles": {"dyrelu": False},
    "east": {},
}
GUARDS = ("none", "fan-in", "dense")


def experiment(
    data: str = "digits", density: float = 0.0015, epochs: int = 40, smoke: bool = False
) -> Experiment:
    """Three methods by three guards, five seeds; --smoke: one, a tenth as long. The tables have connected
    classes and collapses. Below 0.14% density RigL's classifier has fewer weights than classes."""
    generation = max(5, epochs * open_data(data).steps_per_epoch(64) // (100 if smoke else 10))
    steps = 10 * generation

    def recipe(hp: dict[str, Any]) -> Recipe:
        *changing, flow, reachable = east(density, steps, **BASES[hp["base"]], interval=max(1, steps // 60))
        floor = (MinFanIn(layers=("fc.weight",)),) if hp["guard"] == "fan-in" else ()
        optimizer = SGD(Cosine(0.1, 0.0, steps), nesterov=True, weight_decay=1e-4)
        dense = ("fc.weight",) if hp["guard"] == "dense" else ()
        methods = (*changing, *floor, flow, reachable)
        return Recipe("residual-mlp", steps, methods, optimizer, 64, clip=1.0, keep_dense=dense)

    search = Grid({"base": [*BASES], "guard": GUARDS}, seeds=1 if smoke else 5)
    return Experiment(f"guards-{PurePath(data).name}-{density:g}", recipe, data, search, generation)

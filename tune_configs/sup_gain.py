"""Does superposing pay? Sup-tickets, in cycles for the last fifth, beside their base alone: five pairs."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import DropGrow, rigl, sup_tickets
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Every, Milestones, Triangular, split

# name: highest learning rate of the cycles, share explored (0: one mask, only weights are averaged)
CYCLES = dict(paper=(0.005, 0.5), little=(0.005, 0.1), fast=(0.05, 0.5), both=(0.05, 0.1), same=(0.05, 0.0))
GRID = {"density": [0.05, 0.02], "run": ["rigl", *CYCLES]}
FAST: Any = {"precision": "bfloat16", "channels_last": True}


def experiment(
    data: str = "digits", epochs: int = 60, base: str = "rigl", grid: Any = GRID, smoke: bool = False
) -> Experiment:
    """Base `rigl`: ever fewer weights replaced, a cosine; `paper`: half to the end, a rate in steps."""
    model, fast = ("resnet-20", FAST) if (name := PurePath(data).name) == "cifar10" else ("lenet-300-100", {})
    steps = (10 if smoke else epochs) * open_data(data).steps_per_epoch(128)
    phases, often = split(steps, 0.2, steps // 20), steps // 20

    def alone(density: float, steps: int, low: float) -> tuple[Any, Any]:
        if base == "paper":
            updates = DropGrow(density, 0.5, Every(often, often, steps - often))  # the last is trained, too
            return (updates,), Milestones(0.1, (steps // 2, 3 * steps // 4))
        return rigl(density, steps), Cosine(0.1, low, steps)

    def recipe(hp: dict[str, Any]) -> Recipe:
        methods, lr = alone(hp["density"], steps, 0.0)
        if hp["run"] != "rigl":
            (high, explore), (first, before) = CYCLES[hp["run"]], alone(hp["density"], phases.before, 0.001)
            methods, lr = sup_tickets(first, phases, explore=explore), Triangular(0.001, high, phases, before)
        return Recipe(model, steps, methods, SGD(lr, weight_decay=5e-4), **fast)

    return Experiment(f"sup-gain-{name}", recipe, data, Grid(grid, 1 if smoke else 5), generation=2 * often)

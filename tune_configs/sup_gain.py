"""Does superposing pay? Sup-tickets against RigL of the same length, five paired seeds of each setting."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import rigl, sup_tickets
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Triangular, split

# name: highest learning rate of the cycles, share explored (0: one mask, only weights are averaged)
CYCLES = {
    "paper": (0.005, 0.5),
    "little": (0.005, 0.1),
    "fast": (0.05, 0.5),
    "both": (0.05, 0.1),
    "same": (0.05, 0.0),
}


def experiment(data: str = "digits", smoke: bool = False) -> Experiment:
    """5% and 2% density, 20 epochs (digits: 60), the last fifth in cycles. --smoke: one seed, ten epochs."""
    name = PurePath(data).name
    model = {"mnist": "lenet-300-100", "digits": "lenet-300-100"}.get(name, "resnet-20")
    steps = (10 if smoke else 60 if name == "digits" else 20) * open_data(data).steps_per_epoch(128)
    phases = split(steps, 0.2, steps // 20)

    def recipe(hp: dict[str, Any]) -> Recipe:
        density = hp["density"]
        if hp["run"] == "rigl":
            return Recipe(model, steps, rigl(density, steps), SGD(Cosine(0.1, 0.0, steps), weight_decay=5e-4))
        high, explore = CYCLES[hp["run"]]
        lr = Triangular(0.001, high, phases, Cosine(0.1, 0.001, phases.before))
        methods = sup_tickets(rigl(density, phases.before), phases, explore=explore)
        return Recipe(model, steps, methods, SGD(lr, weight_decay=5e-4))

    grid = Grid({"density": [0.05, 0.02], "run": ["rigl", *CYCLES]}, seeds=1 if smoke else 5)
    return Experiment(f"sup-gain-{name}", recipe, data, grid, generation=steps)

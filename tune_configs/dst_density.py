"""Three ways to a density that DST does not know: a cut of dense training, a fixed alpha and a steered one.

Each is cut to the density at 2/3 of the run; `found` in the table of events is what the cut found.
"""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import Cut, Method, Thresholds, Toward, gmp
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine


def methods(name: str, density: float, steps: int) -> tuple[Method, ...]:
    cut = Cut(density, steps * 2 // 3)
    return {
        "dense": (cut,),
        "alpha": (Thresholds(1e-3, floor=0.0), cut),
        "steered": (Thresholds(Toward(density, steps // 2), floor=0.0), cut),
        "gmp": gmp(density, steps),
    }[name]


def experiment(
    data: str = "digits", epochs: int = 60, densities: Any = (0.1, 0.02, 0.005), smoke: bool = False
) -> Experiment:
    """Three seeds each; gradual magnitude pruning beside them. --smoke: one seed."""
    name = PurePath(data).name
    model = "lenet-300-100" if name in ("digits", "mnist") else "resnet-20"
    steps = open_data(data).steps_per_epoch(64) * (2 if smoke else epochs)

    def recipe(hp: dict[str, Any]) -> Recipe:
        optimizer = SGD(lr=Cosine(0.1, 0.0, steps), weight_decay=5e-4)
        return Recipe(model, steps, methods(hp["way"], hp["density"], steps), optimizer, batch=64)

    values = {"density": densities, "way": ("dense", "alpha", "steered", "gmp")}
    return Experiment(f"dst-density-{name}", recipe, data, Grid(values, 1 if smoke else 3), steps // 6)

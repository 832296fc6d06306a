"""C-GaP beside RigL, GMP, AC/DC and one-shot, at equal epochs and at equal weight-steps; three seeds."""

from pathlib import PurePath
from statistics import mean
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import acdc, gap, gmp, one_shot, rigl
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Restarts

OTHERS: dict[str, Any] = {"rigl": rigl, "gmp": gmp, "acdc": acdc, "one-shot": one_shot}
RUNS = [("gap", "epochs"), *((name, budget) for name in OTHERS for budget in ("epochs", "flops"))]
FAST: Any = {"precision": "bfloat16", "channels_last": True}
GRID = {"density": [0.1, 0.05, 0.01], "run": RUNS}


def experiment(data: str = "digits", epochs: int = 20, grid: Any = GRID, smoke: bool = False) -> Experiment:
    """Budget `flops`: equal sums of alive weights over steps. --smoke: one seed, epochs of five steps."""
    name, epoch = PurePath(data).name, 5 if smoke else open_data(data).steps_per_epoch(128)
    model, parts, fast = ("resnet-20", 4, FAST) if name == "cifar10" else ("lenet-300-100", 3, {})
    equal, tail = epochs * epoch, round(0.15 * epochs) * epoch

    def recipe(hp: dict[str, Any]) -> Recipe:
        (method, budget), density, steps = hp["run"], hp["density"], equal
        if method == "gap":
            rate = Restarts(Cosine(0.1, 0.0, epoch), epoch, epochs - tail // epoch, Cosine(0.1, 0.0, tail))
            methods = gap(density, steps, parts=parts, length=epoch, fine_tune=tail / steps)
            return Recipe(model, steps, methods, SGD(rate, weight_decay=5e-4), **fast)
        if budget == "flops":
            plain = Recipe(model, steps, OTHERS[method](density, steps))
            # what C-GaP's one dense partition of equal size costs, over what this method's schedule does
            gap_cost = density + (1 - density) * (1 - tail / steps) / parts
            steps = round(steps * gap_cost / mean(map(plain.density_at, range(steps))))
        optimizer = SGD(Cosine(0.1, 0.0, steps), weight_decay=5e-4)
        return Recipe(model, steps, OTHERS[method](density, steps), optimizer, **fast)

    return Experiment(f"gap-equal-{name}", recipe, data, Grid(grid, 1 if smoke else 3), generation=epoch)

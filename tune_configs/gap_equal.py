"""C-GaP beside RigL, GMP, AC/DC and one-shot, at equal epochs and at equal weight-steps; three seeds."""

from functools import partial
from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import acdc, gap, gmp, one_shot, rigl, steps_to_spend
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Restarts

OTHERS: dict[str, Any] = {"rigl": rigl, "gmp": gmp, "acdc": acdc, "one-shot": one_shot}
OTHERS["one-shot-global"] = partial(one_shot, scope="global")
RUNS = [(name, budget) for name in OTHERS for budget in ("epochs", "flops")]
GRID = {"density": [0.1, 0.05, 0.01], "run": [("gap", "epochs"), ("gap-global", "epochs"), *RUNS]}
CIFAR: Any = ("resnet-20", 4, {"precision": "bfloat16", "channels_last": True})


def experiment(
    data: str = "digits", epochs: int = 20, model: str = "", grid: Any = GRID, smoke: bool = False
) -> Experiment:
    """Budget `flops`: equal sums of alive weights over steps. --smoke: one seed, epochs of five steps."""
    epoch, last = 5 if smoke else open_data(data).steps_per_epoch(128), round(0.15 * epochs)
    usual, parts, fast = CIFAR if (name := PurePath(data).name) == "cifar10" else ("lenet-300-100", 3, {})

    def recipe(hp: dict[str, Any]) -> Recipe:
        (method, budget), density, steps = hp["run"], hp["density"], epochs * epoch
        if method in ("gap", "gap-global"):
            cut: Any = {"scope": "uniform" if method == "gap" else "global", "fine_tune": last / epochs}
            methods = gap(density, steps, parts=parts, length=epoch, **cut)
            lr: Any = Restarts(Cosine(0.1, 0.0, epoch), epoch, epochs - last, Cosine(0.1, 0.0, last * epoch))
        else:
            spent = steps * (density + (1 - density) * (1 - last / epochs) / parts)  # C-GaP's, equal cuts
            steps = steps_to_spend(spent, partial(OTHERS[method], density)) if budget == "flops" else steps
            methods, lr = OTHERS[method](density, steps), Cosine(0.1, 0.0, steps)
        return Recipe(model or usual, steps, methods, SGD(lr, weight_decay=5e-4), **fast)

    return Experiment(f"gap-equal-{name}", recipe, data, Grid(grid, 1 if smoke else 3), generation=epoch)

"""C-GaP beside RigL, GMP, AC/DC and one-shot, at equal epochs and at equal weight-steps; three seeds."""

from functools import partial
from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import acdc, gap, gmp, one_shot, rigl, steps_to_spend, weight_steps
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Restarts, Warmup

METHODS: Any = {"gap": gap, "rigl": rigl, "gmp": gmp, "acdc": acdc, "one-shot": one_shot}
METHODS |= {f"{name}-global": partial(METHODS[name], scope="global") for name in ("gap", "one-shot")}
RUNS = [(name, at) for name in METHODS for at in ("epochs", "flops")[: 1 if "gap" in name else 2]]
GRID = {"density": [0.1, 0.05, 0.01], "run": RUNS}
CIFAR: Any = ("resnet-20", 4, {"precision": "bfloat16", "channels_last": True})


def experiment(
    data: str = "digits", epochs: int = 20, model: str = "", grid: Any = GRID, smoke: bool = False
) -> Experiment:
    """Budget `flops`: equal sums of alive weights over steps. --smoke: one seed, epochs of five steps."""
    epoch = 5 if smoke else open_data(data).steps_per_epoch(128)
    usual, parts, fast = CIFAR if (name := PurePath(data).name) == "cifar10" else ("lenet-300-100", 3, {})

    def recipe(hp: dict[str, Any]) -> Recipe:
        (method, budget), density, steps = hp["run"], hp["density"], epochs * epoch
        own = {"parts": parts, "length": epoch} if "gap" in method else {}
        make, lr = partial(METHODS[method], density, **own), partial(Cosine, 0.1, 0.0)
        if budget == "flops":  # C-GaP's
            steps = steps_to_spend(weight_steps(gap(density, steps, parts=parts, length=epoch), steps), make)
        rate: Any = lr(steps)
        if "gap" in method or "one-shot" in method:  # anew with each phase and the fine-tuning
            first, end, warm = make(steps)[0].phases.spans[0][1], make(steps)[0].phases.end, epoch // 4 or 1
            rate = Restarts(Warmup(lr(first), warm), first, end // first, Warmup(lr(steps - end), warm))
        return Recipe(model or usual, steps, make(steps), SGD(rate, weight_decay=5e-4), **fast)

    return Experiment(f"gap-equal-{name}", recipe, data, Grid(grid, 1 if smoke else 3), generation=epoch)

"""EAST at 99% sparsity (99.9% beyond digits): a population that searches its cycles and its updates."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PBT, Experiment, Grid
from sparsepop.methods import east
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine
from sparsepop.space import Choice, LogUniform, Space, Uniform

SPACE: Space = {
    "lr": LogUniform(0.02, 0.4),
    "peak": Uniform(1.5, 5.0),
    "cycles": Choice((2, 4, 8)),  # in two generations, so that all members are at one density when they meet
    "interval": LogUniform(0.003, 0.03),  # between two updates of the masks, as a share of the run
    "fraction": Uniform(0.1, 0.6),
}
LARGE: Any = ("resnet-34", 128, 0.001, {"precision": "bfloat16", "channels_last": True})
PUBLISHED: Any = {"lr": [0.1], "peak": [3.0], "cycles": [2], "interval": [0.01], "fraction": [0.5]}


def experiment(data: str = "digits", epochs: int = 60, pbt: bool = True, smoke: bool = False) -> Experiment:
    """Eight members, five generations, cycles in the first two; --smoke: four members, a tenth as long.
    `pbt=False`: as many seeds of the published setting instead."""
    name = PurePath(data).name
    model, batch, density, fast = ("resnet-20-w8", 64, 0.01, {}) if name == "digits" else LARGE
    epoch = open_data(data).steps_per_epoch(batch)
    steps = 5 * (generation := 8 * max(1, round(epochs * epoch / (400 if smoke else 40))))

    def recipe(hp: dict[str, Any]) -> Recipe:
        own = dict.fromkeys(("interval", "cyclic_interval"), max(1, round(hp["interval"] * steps)))
        methods = east(density, steps, **own, **{key: hp[key] for key in ("peak", "cycles", "fraction")})
        optimizer = SGD(Cosine(hp["lr"], 0.0, steps), nesterov=True, weight_decay=1e-4)
        return Recipe(model, steps, methods, optimizer, batch, clip=1.0, **fast)

    search = PBT(SPACE, 4 if smoke else 8) if pbt else Grid(PUBLISHED, seeds=8)
    return Experiment(f"east-{name}", recipe, data, search, generation)

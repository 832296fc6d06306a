"""EAST at 99% sparsity (99.9% beyond digits): a population that searches its cycles and its updates."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PBT, Experiment
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


def experiment(data: str = "digits", epochs: int = 60, smoke: bool = False) -> Experiment:
    """Eight members, five generations, cycles in the first two; --smoke: four members, a tenth as long."""
    name = PurePath(data).name
    small = name == "digits"
    batch = 64 if small else 128
    generation = 8 * max(1, round(epochs * open_data(data).steps_per_epoch(batch) / (400 if smoke else 40)))
    steps = 5 * generation

    def recipe(hp: dict[str, Any]) -> Recipe:
        own = {key: hp[key] for key in ("peak", "cycles", "fraction")}
        own |= dict.fromkeys(("interval", "cyclic_interval"), max(1, round(hp["interval"] * steps)))
        methods = east(0.01 if small else 0.001, steps, **own)
        optimizer = SGD(Cosine(hp["lr"], 0.0, steps), nesterov=True, weight_decay=1e-4)
        model = "resnet-20-w8" if small else "resnet-34"
        more: dict[str, Any] = {} if small else {"precision": "bfloat16", "channels_last": True}
        return Recipe(model, steps, methods, optimizer, batch, clip=1.0, **more)

    return Experiment(f"east-{name}", recipe, data, PBT(SPACE, 4 if smoke else 8), generation)

"""EAST at 99% sparsity (99.9% beyond digits): a population that searches its cycles and its updates."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PBT, Experiment, Grid
from sparsepop.methods import east
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Milestones
from sparsepop.space import Choice, LogUniform, Space, Uniform

SPACE: Space = {
    "lr": LogUniform(0.02, 0.4),
    "peak": Uniform(1.5, 5.0),
    "cycles": Choice((2, 4, 8)),  # in two generations, so that all members are at one density when they meet
    "interval": LogUniform(0.003, 0.03),  # between two updates of the masks, as a share of the run
    "fraction": Uniform(0.1, 0.6),
}
LARGE: Any = ("resnet-34", 128, 0.001, {"precision": "bfloat16", "channels_last": True})


def experiment(data: str = "digits", epochs: int = 60, pbt: bool = True, smoke: bool = False) -> Experiment:
    """Eight members, five generations, cycles in the first two; --smoke: four, a tenth as long. `pbt=False`:
    the published setting, but for its epochs, precision, and on digits network and batch."""
    name = PurePath(data).name
    model, batch, density, fast = ("resnet-20-w8", 64, 0.01, {}) if name == "digits" else LARGE
    steps = 40 * max(1, round(epochs * open_data(data).steps_per_epoch(batch) / (400 if smoke else 40)))

    def recipe(hp: dict[str, Any]) -> Recipe:
        own = {key: hp[key] for key in ("peak", "cycles", "fraction") if pbt}
        own |= {key: round(hp["interval"] * steps) or 1 for key in ("interval", "cyclic_interval") if pbt}
        lr = Cosine(hp["lr"], 0.0, steps) if pbt else Milestones(0.1, (steps // 2, steps * 187 // 250))
        optimizer = SGD(lr, nesterov=True, weight_decay=1e-4)
        return Recipe(model, steps, east(density, steps, **own), optimizer, batch, clip=1.0, **fast)

    search = PBT(SPACE, 4 if smoke else 8) if pbt else Grid({}, seeds=4 if smoke else 8)
    return Experiment(f"east-{name}", recipe, data, search, steps // 5)

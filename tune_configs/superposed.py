"""Members that are superposed while they train: RigL from one common state, averaged every few epochs."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, SuperposeParallel
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Every
from sparsepop.space import LogUniform

MODELS = {"mnist": "lenet-300-100", "digits": "lenet-300-100", "cifar10": "resnet-20"}


def experiment(
    data: str = "digits", density: float = 0.1, epochs: int = 60, share: str = "all", smoke: bool = False
) -> Experiment:
    """A third of the run is trained once for all; then all four are superposed every five epochs, until a
    sixth of the run is left. --smoke: two members, twelve epochs, two superpositions."""
    epochs, members, every = (12, 2, 3) if smoke else (epochs, 4, 5)
    length = every * open_data(data).steps_per_epoch(128)
    ends = epochs // every
    common, last = ends // 3 * length, (ends - max(1, ends // 6)) * length
    steps, name = ends * length, PurePath(data).name

    def recipe(hp: dict[str, Any]) -> Recipe:
        optimizer = SGD(Cosine(hp["lr"], 0.0, steps), weight_decay=5e-4)
        return Recipe(
            MODELS.get(name, "wrn-10-1"), steps, rigl(density, steps, interval=length // 5), optimizer
        )

    at = Every(length, common + length, last)
    search = SuperposeParallel({"lr": LogUniform(0.03, 0.2)}, members, at, common, share=share)
    return Experiment(f"superposed-{name}", recipe, data, search, generation=length)

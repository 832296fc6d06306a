"""Population-based search over grow-and-prune at 95% sparsity: partitions, epochs for each, order, rate."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PBT, Experiment
from sparsepop.methods import gap
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Restarts
from sparsepop.space import Choice, LogUniform, Space

SPACE: Space = {
    "parts": Choice((1, 2, 4, 6)),
    "epochs": Choice((1, 2, 4)),  # each divides a generation, at whose end all are sparse
    "order": Choice(("cyclic", "random", "layers")),
    "lr": LogUniform(0.02, 0.4),
}


def experiment(data: str = "digits", generations: int = 8, smoke: bool = False) -> Experiment:
    """Four members, generations of four epochs, then two of fine-tuning; --smoke: two members of five steps
    for an epoch, two generations and two."""
    epoch = 1 if smoke else open_data(data).steps_per_epoch(128)
    generation = 4 * epoch
    end = (2 if smoke else generations) * generation
    steps = end + 2 * generation

    def recipe(hp: dict[str, Any]) -> Recipe:
        length = hp["epochs"] * epoch
        methods = gap(
            0.05, steps, parts=hp["parts"], length=length, order=hp["order"], fine_tune=1 - end / steps
        )
        rate = Restarts(Cosine(hp["lr"], 0.0, length), length, end // length, Cosine(0.1, 0.0, steps - end))
        return Recipe("wrn-10-1", steps, methods, SGD(rate, weight_decay=5e-4), clip=1.0)

    return Experiment(
        f"gap-search-{PurePath(data).name}", recipe, data, PBT(SPACE, members=2 if smoke else 4), generation
    )

"""Random search over grow-and-prune at 95% sparsity: partitions, epochs for each, order; equal lengths."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Sampled
from sparsepop.methods import GrowPrune, gap
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Restarts
from sparsepop.space import Choice, Space

SPACE: Space = {
    "parts": Choice((1, 2, 4)),
    "epochs": Choice((1, 2, 4)),
    "order": Choice(("cyclic", "random", "layers")),
}


def experiment(data: str = "digits", epochs: int = 40, smoke: bool = False) -> Experiment:
    """Eight members of 40 epochs, the last six to eight fine-tuning; --smoke: two members of 20 steps."""
    epoch = 1 if smoke else open_data(data).steps_per_epoch(128)
    steps = 20 if smoke else epochs * epoch

    def recipe(hp: dict[str, Any]) -> Recipe:
        length = hp["epochs"] * epoch
        methods = gap(0.05, steps, parts=hp["parts"], length=length, order=hp["order"])
        assert isinstance(methods[0], GrowPrune)
        end = methods[0].phases.end
        rate = Restarts(Cosine(0.1, 0.0, length), length, end // length, Cosine(0.1, 0.0, steps - end))
        return Recipe("wrn-10-1", steps, methods, SGD(rate, weight_decay=5e-4), clip=1.0)

    search = Sampled(SPACE, members=2 if smoke else 8)
    return Experiment(f"gap-{PurePath(data).name}", recipe, data, search, generation=epoch)

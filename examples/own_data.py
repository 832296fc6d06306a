"""Images of one's own: a folder of Parquet files, or of class folders (shapes/train/CLASS/*.png)."""

from pathlib import Path
from typing import Any

from sparsepop.experiment import Experiment, Sampled
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.space import LogUniform

DATA = str(Path(__file__).parent / "shapes")  # written by make_shapes.py


def experiment(data: str = DATA, smoke: bool = False) -> Experiment:
    def recipe(hp: dict[str, Any]) -> Recipe:
        return Recipe("lenet-300-100", steps, rigl(0.05, steps), SGD(hp["lr"]), batch=32)

    steps, members = (20, 2) if smoke else (300, 4)
    return Experiment("own-data", recipe, data, Sampled({"lr": LogUniform(0.01, 0.3)}, members), steps // 2)

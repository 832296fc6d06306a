"""Population-based training of RigL at a tenth of the weights, or as many as --set density says."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PBT, Experiment
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine
from sparsepop.space import Integers, LogUniform, Space, Uniform

SPACE: Space = {
    "lr": LogUniform(0.01, 0.4),
    "fraction": Uniform(0.1, 0.6),
    "interval": Integers(25, 400, log=True),
}


def experiment(data: str = "mnist", density: float = 0.1, epochs: int = 0, smoke: bool = False) -> Experiment:
    """Four members, a generation an epoch (0: ten; five of ResNet-20, for two cores' sake); --smoke: tiny."""
    name = PurePath(data).name
    model = {"mnist": "lenet-300-100"}.get(name, "resnet-20")
    generation = 20 if smoke else open_data(data).steps_per_epoch(128)
    steps = generation * (2 if smoke else epochs or (10 if model.startswith("lenet") else 5))

    def recipe(hp: dict[str, Any]) -> Recipe:
        return Recipe(
            model=model,
            steps=steps,
            methods=rigl(density, steps, fraction=hp["fraction"], interval=hp["interval"]),
            optimizer=SGD(lr=Cosine(hp["lr"], 0.0, steps), nesterov=True, weight_decay=5e-4),
            precision="float32" if model.startswith("lenet") else "bfloat16",
            channels_last=not model.startswith("lenet"),
        )

    return Experiment(f"rigl-{name}", recipe, data, PBT(SPACE, members=2 if smoke else 4), generation)

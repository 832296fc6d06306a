"""Population-based training of RigL at 90% sparsity, on MNIST or CIFAR-10 as --data says."""

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


def experiment(data: str = "mnist", smoke: bool = False) -> Experiment:
    """Four members on `data`, ten epochs (five of ResNet-20, for two cores' sake) of a generation each;
    --smoke: two members, two short generations."""
    name = PurePath(data).name
    model = {"mnist": "lenet-300-100"}.get(name, "resnet-20")
    generation = 20 if smoke else open_data(data).steps_per_epoch(128)
    steps = generation * (2 if smoke else 10 if model.startswith("lenet") else 5)

    def recipe(hp: dict[str, Any]) -> Recipe:
        return Recipe(
            model=model,
            steps=steps,
            methods=rigl(0.1, steps, fraction=hp["fraction"], interval=hp["interval"]),
            optimizer=SGD(lr=Cosine(hp["lr"], 0.0, steps), nesterov=True, weight_decay=5e-4),
            precision="float32" if model.startswith("lenet") else "bfloat16",
            channels_last=not model.startswith("lenet"),
        )

    return Experiment(f"rigl-{name}", recipe, data, PBT(SPACE, members=2 if smoke else 4), generation)

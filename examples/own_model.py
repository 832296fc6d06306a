"""A network of one's own: a function from a Task (image shape, classes) to a module, or a name of timm's."""

from typing import Any

from torch import nn

from sparsepop.experiment import Experiment, Grid
from sparsepop.member import Task
from sparsepop.methods import rigl
from sparsepop.models import Model
from sparsepop.recipe import Recipe


def net(task: Task) -> nn.Module:
    conv = nn.Conv2d(task.shape[0], 32, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, task.classes))


def experiment(data: str = "digits", smoke: bool = False) -> Experiment:
    def recipe(hp: dict[str, Any]) -> Recipe:
        model: Model = net if hp["model"] == "mine" else "timm:resnet10t"
        return Recipe(model, steps, rigl(0.1, steps), batch=64)

    steps = 20 if smoke else 400
    models = ["mine"] if smoke else ["mine", "timm"]
    return Experiment("own-model", recipe, data, Grid({"model": models}), generation=steps // 2)

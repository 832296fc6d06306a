"""A method of one's own, in the config itself: at one step, the smallest weights go for good."""

from dataclasses import dataclass
from typing import Any

from sparsepop.experiment import Experiment, Grid
from sparsepop.masks import top_masks
from sparsepop.member import Member
from sparsepop.methods import Method
from sparsepop.recipe import Recipe


@dataclass(frozen=True)
class OneShot(Method):
    """Keep the `density` largest weights of the whole network after `step` steps."""

    density: float
    step: int

    def after_step(self, member: Member) -> None:
        if member.step == self.step:
            sizes = {name: param.detach().abs() for name, param in member.masks.params.items()}
            keep = round(self.density * member.masks.total)
            member.masks.set(top_masks(sizes, keep, member.masks.tensors), member.optimizer)

    def density_at(self, step: int) -> float:
        return self.density if step >= self.step else 1.0

    def settled_at(self) -> int:
        return self.step


def experiment(data: str = "digits", smoke: bool = False) -> Experiment:
    def recipe(hp: dict[str, Any]) -> Recipe:
        return Recipe("lenet-300-100", steps, (OneShot(hp["density"], steps // 2),), batch=64)

    steps = 20 if smoke else 400
    return Experiment("own-method", recipe, data, Grid({"density": [0.1, 0.02]}), generation=steps // 4)

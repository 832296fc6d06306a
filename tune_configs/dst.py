"""DST: a population searches alpha and the learning rate for 5% density.

Thresholds make densities of their own: members are compared by the accuracy that a cut to 5% would leave them
at that report. The cut itself comes in the middle of the run: exchanges before it select alphas, those after
it learning rates alone, for then alpha does nothing.
Granularity is fixed: a taken-over state brings its thresholds' own. `--set alpha=5e-4`: alpha stays at that
(the published one), the population searches the learning rate alone.
"""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PBT, Experiment
from sparsepop.methods import AtDensity, Cut, Thresholds
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine
from sparsepop.space import LogUniform, Space

DENSITY = 0.05
SPACE: Space = {"alpha": LogUniform(1e-5, 3e-2), "lr": LogUniform(0.01, 0.2)}


def experiment(data: str = "digits", epochs: int = 60, alpha: float = 0.0, smoke: bool = False) -> Experiment:
    """Eight members in ten generations; --smoke: two, three epochs."""
    name = PurePath(data).name
    model = "lenet-300-100" if name in ("digits", "mnist") else "resnet-20"
    generation = max(2, open_data(data).steps_per_epoch(64) * (3 if smoke else epochs) // 10)
    cut = Cut(DENSITY, 5 * generation + generation // 2)

    def recipe(hp: dict[str, Any]) -> Recipe:
        methods = (Thresholds(alpha or hp["alpha"], floor=0.001), cut, AtDensity((DENSITY,)))
        optimizer = SGD(Cosine(hp["lr"], 0.0, 10 * generation), weight_decay=1e-4)
        return Recipe(model, 10 * generation, methods, optimizer, batch=64)

    score = f"accuracy_at_{DENSITY:g}"
    space = {"lr": SPACE["lr"]} if alpha else SPACE
    search = PBT(space, members=2 if smoke else 8)
    return Experiment(f"dst-{name}", recipe, data, search, generation, score)

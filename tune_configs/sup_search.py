"""A population searches Sup-tickets' cycles: length and share (of the run), highest rate, exploration.

Then `--seed 100 --set 'setting=(0.05, 0.2, 0.02, 0.1)'`, in SPACE's order: five pairs beside RigL alone.
"""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid, Sampled
from sparsepop.methods import rigl, sup_tickets
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Triangular, split
from sparsepop.space import LogUniform, Space, Uniform

CYCLES: Space = {"length": LogUniform(0.01, 0.1), "share": Uniform(0.1, 0.5)}
SPACE: Space = {**CYCLES, "high": LogUniform(0.002, 0.2), "explore": Uniform(0.0, 0.5)}
MODEL = "lenet-300-100"


def experiment(
    data: str = "digits", density: float = 0.02, epochs: int = 20, setting: Any = (), smoke: bool = False
) -> Experiment:
    """LeNet-300-100, 16 members, equal epochs; --smoke: two, or one seed."""
    steps, name = epochs * open_data(data).steps_per_epoch(128), PurePath(data).name

    def recipe(hp: dict[str, Any]) -> Recipe:
        if hp.get("run") == "rigl":
            return Recipe(MODEL, steps, rigl(density, steps), SGD(Cosine(0.1, 0.0, steps), weight_decay=5e-4))
        length, share, high, explore = setting or (hp[key] for key in SPACE)
        phases = split(steps, round(share, 4), max(2, round(length * steps)))
        methods = sup_tickets(rigl(density, phases.before), phases, explore=explore)
        lr = Triangular(0.001, high, phases, Cosine(0.1, 0.001, phases.before))
        return Recipe(MODEL, steps, methods, SGD(lr, weight_decay=5e-4))

    pairs = Grid({"run": ["rigl", "sup"]}, seeds=1 if smoke else 5)
    search = pairs if setting else Sampled(SPACE, 2 if smoke else 16)
    kind = "found" if setting else "search"
    return Experiment(f"sup-{kind}-{name}-{density:g}", recipe, data, search, steps)

"""A population searches Sup-tickets' cycles: length and share (of the run), highest rate, exploration."""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid, Sampled
from sparsepop.methods import DropGrow, rigl, sup_tickets
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Every, Milestones, Triangular, split
from sparsepop.space import LogUniform, Uniform

CYCLES: Any = {"length": LogUniform(0.01, 0.1), "share": Uniform(0.1, 0.5)}
SPACE: Any = {**CYCLES, "high": LogUniform(0.002, 0.2), "explore": Uniform(0.0, 0.5)}


def experiment(
    data: str = "digits", density: float = 0.02, epochs: int = 20, base: str = "rigl", setting: Any = ()
) -> Experiment:
    """16 members; with a found `setting`, in SPACE's order, and --seed 100: five pairs. Bases: sup_gain's."""
    steps, kind = epochs * open_data(data).steps_per_epoch(128), "found" if setting else "search"

    def alone(steps: int, low: float, often: int = steps // 20) -> Any:
        updates = DropGrow(density, 0.5, Every(often, often, steps - often))
        of_paper = (updates,), Milestones(0.1, (steps // 2, 3 * steps // 4))
        return of_paper if base == "paper" else (rigl(density, steps), Cosine(0.1, low, steps))

    def recipe(hp: dict[str, Any]) -> Recipe:
        methods, rate = alone(steps, 0.0)
        if hp.get("run") != "rigl":
            length, share, high, explore = setting or (hp[key] for key in SPACE)
            phases = split(steps, round(share, 4), max(2, round(length * steps)))
            first, before = alone(phases.before, 0.001)
            rate = Triangular(0.001, high, phases, before)
            methods = sup_tickets(first, phases, explore=explore)
        return Recipe("lenet-300-100", steps, methods, SGD(rate, weight_decay=5e-4))

    search = Grid({"run": ["rigl", "sup"]}, seeds=5) if setting else Sampled(SPACE, 16)
    return Experiment(f"sup-{kind}-{PurePath(data).name}-{density:g}", recipe, data, search, steps)

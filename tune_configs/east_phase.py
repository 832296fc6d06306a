"""When should EAST's DyReLUs be gone? Ends and blends of the phase, alone on RigL-ITOP and in all of EAST."""

from collections.abc import Sequence
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import east
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine

ENDS = (0.1, 0.25, 0.492, 0.75)  # of the phase, as shares of the run; 0.492: the paper


def experiment(
    data: str = "digits", density: float = 0.002, ends: Sequence[float] = ENDS, smoke: bool = False
) -> Experiment:
    """Forty epochs of the ablation's network, five seeds; --smoke: one seed, a tenth as long."""
    phases = [*((end, "coefficients") for end in ends), (0.492, "outputs")]
    generation = max(5, (4 if smoke else 40) * open_data(data).steps_per_epoch(64) // 10)
    steps = 10 * generation
    timing: dict[str, Any] = {"interval": max(1, steps // 60), "cyclic_interval": max(1, steps // 400)}

    def recipe(hp: dict[str, Any]) -> Recipe:
        phase, blend = hp["phase"]
        rest: dict[str, Any] = {"ratio": 2} if hp["all"] else {"ratio": None, "cycles": 0}
        methods = east(density, steps, phase=phase, blend=blend, **rest, **timing)
        optimizer = SGD(Cosine(0.1, 0.0, steps), nesterov=True, weight_decay=1e-4)
        return Recipe("residual-mlp", steps, methods, optimizer, 64, clip=1.0)

    search = Grid({"phase": phases, "all": [False, True]}, seeds=1 if smoke else 5)
    return Experiment(f"east-phase-{density:g}", recipe, data, search, generation)

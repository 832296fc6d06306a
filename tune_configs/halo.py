"""HALO: a population searches xi and psi; members are compared by the accuracy that a cut to 5% leaves them.

Before the cut all are dense, and validation accuracy would favour those that shrink nothing: the score is
what the same cut, made at that report, would leave. The cut itself comes after the last exchange, so that
every xi and psi that is taken over is used.
"""

from pathlib import PurePath
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PBT, Experiment
from sparsepop.methods import AtDensity, Cut, Halo, NearZero, halo_rates
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.space import LogUniform, Space

DENSITY = 0.05
# psi x the sum of lr / (1 - momentum) must exceed 1 within training, or coefficients stay where they start
SPACE: Space = {"xi": LogUniform(1e-7, 1e-3), "psi": LogUniform(3e-4, 1e-2)}


def experiment(data: str = "digits", epochs: int = 100, smoke: bool = False) -> Experiment:
    """Eight members in ten generations; --smoke: two members, three epochs."""
    name = PurePath(data).name
    model = "lenet-300-100" if name in ("digits", "mnist") else "resnet-20"
    generation = max(2, open_data(data).steps_per_epoch(64) * (3 if smoke else epochs) // 10)
    lr, factor = halo_rates(0.1, (5 * generation, 15 * generation // 2))
    seen = (Cut(DENSITY, 9 * generation + generation // 2), AtDensity((DENSITY,)), NearZero())

    def recipe(hp: dict[str, Any]) -> Recipe:
        halo = Halo(hp["xi"], hp["psi"], lr_factor=factor)
        dense = ("fc.weight",) if model == "resnet-20" else ()
        return Recipe(model, 10 * generation, (halo, *seen), SGD(lr), batch=64, keep_dense=dense)

    score, search = f"accuracy_at_{DENSITY:g}", PBT(SPACE, members=2 if smoke else 8)
    return Experiment(f"halo-{name}", recipe, data, search, generation, score)

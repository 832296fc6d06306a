"""HALO: a population searches xi and psi; members are compared by the accuracy that a cut to 5% leaves them.

Before the cut all are dense, and validation accuracy would favour those that shrink nothing: the score is
what the same cut, made at that report, would leave; after the cut, at 9/10 of training, they are one number.
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
    """Eight members in ten generations; --smoke: two members, two epochs."""
    name = PurePath(data).name
    model = "lenet-300-100" if name in ("digits", "mnist") else "resnet-20"
    steps = open_data(data).steps_per_epoch(64) * (2 if smoke else epochs)
    lr, factor = halo_rates(0.1, (steps // 2, steps * 3 // 4))
    seen = (Cut(DENSITY, steps * 9 // 10), AtDensity((DENSITY,)), NearZero())

    def recipe(hp: dict[str, Any]) -> Recipe:
        halo = Halo(hp["xi"], hp["psi"], lr_factor=factor)
        dense = ("fc.weight",) if model == "resnet-20" else ()
        return Recipe(model, steps, (halo, *seen), SGD(lr), batch=64, keep_dense=dense)

    score, search = f"accuracy_at_{DENSITY:g}", PBT(SPACE, members=2 if smoke else 8)
    return Experiment(f"halo-{name}", recipe, data, search, steps // (2 if smoke else 10), score)

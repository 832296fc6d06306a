"""Random search over the space of rigl.py: the same starts and the same budget, without exchange."""

from dataclasses import replace

from rigl import SPACE  # type: ignore[import-not-found]  # the neighbour in this folder
from rigl import experiment as population

from sparsepop.experiment import PBT, Experiment, Sampled


def experiment(data: str = "mnist", smoke: bool = False) -> Experiment:
    found = population(data, smoke)
    assert isinstance(found.search, PBT)
    return replace(found, name=f"random-{found.name}", search=Sampled(SPACE, found.search.members))

"""Experiments that real members trained, in this process and without Ray, as they lie on storage."""

from __future__ import annotations

from typing import Any

from sparsepop.experiment import Experiment, Grid, Resources
from sparsepop.methods import Cut, Halo, Method, Thresholds, dense, east, gap, rigl, sup_tickets
from sparsepop.optim import SGD
from sparsepop.population.preflight import begin
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, TwoPhases
from sparsepop.storage import Storage
from tests.test_population.worlds import World, experiment

STEPS, EVERY, DENSITY = 40, 8, 0.1
RUNS = ("dense", "rigl", "dst", "halo", "gap", "east", "sup-tickets")
HELD = Cosine(0.1, 0.05, STEPS)


def _methods(run: str) -> tuple[Method, ...]:
    phases = TwoPhases(24, 8, 2)
    made: dict[str, tuple[Method, ...]] = {
        "dense": dense(),
        "rigl": rigl(DENSITY, STEPS, interval=5),
        "dst": (Thresholds(1e-3), Cut(DENSITY, 32)),
        "halo": (Halo(1e-5, 1e-2), Cut(DENSITY, 32)),
        "gap": gap(DENSITY, STEPS, parts=2, length=8),
        "east": east(DENSITY, STEPS, ratio=None, interval=4, cyclic_interval=4),
        "sup-tickets": sup_tickets(rigl(DENSITY, 24, interval=5), phases, explore=0.3),
    }
    return made[run]


def recipe(hp: dict[str, Any]) -> Recipe:
    optimizer = SGD(HELD, momentum=0.9)
    return Recipe("lenet-300-100", STEPS, _methods(hp["run"][0]), optimizer, batch=32, clip=1.0)


def write_population(storage: Storage) -> None:
    """Three members of RigL under PBT, with exploits and tickets."""
    _write(experiment(), storage)


def write_methods(storage: Storage, runs: tuple[str, ...] = RUNS) -> None:
    """One member of each method on LeNet-300-100 and digits."""
    values: dict[str, Any] = {"run": tuple((run, 1.0 if run == "dense" else DENSITY) for run in runs)}
    made = Experiment("methods", recipe, "digits", Grid(values), EVERY, resources=Resources(cpus=1))
    _write(made, storage)


def _write(made: Experiment, storage: Storage) -> None:
    begin(made, storage, fresh=False)
    errors = World(made, storage).run().errors
    assert not errors, errors

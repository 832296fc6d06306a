"""Optuna's tree-structured Parzen estimator chooses where RigL at 95% sparsity is tried (extra: optuna)."""

from typing import Any

from ray.tune.search import Searcher

from sparsepop.experiment import Experiment, Resources, Tuned
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine
from sparsepop.space import Integers, LogUniform, Space, Uniform

SPACE: Space = {
    "lr": LogUniform(1e-3, 0.3),
    "fraction": Uniform(0.05, 0.6),
    "interval": Integers(10, 200, log=True),
}


def parzen() -> Searcher:
    from optuna.samplers import TPESampler
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(sampler=TPESampler(n_startup_trials=4, seed=0))


def experiment(data: str = "digits", smoke: bool = False) -> Experiment:
    """16 members one after the other on each CPU, the first four at random; --smoke: 2 short ones."""
    members, steps = (2, 20) if smoke else (16, 1600)

    def recipe(hp: dict[str, Any]) -> Recipe:
        methods = rigl(0.05, steps, fraction=hp["fraction"], interval=hp["interval"])
        optimizer = SGD(lr=Cosine(hp["lr"], 0.0, steps), momentum=0.9, weight_decay=5e-4)
        return Recipe("lenet-300-100", steps, methods, optimizer, batch=64)

    search, resources = Tuned(SPACE, members, searcher=parzen), Resources(cpus=1)
    return Experiment("optuna-tpe", recipe, data, search, steps // 4, resources=resources)

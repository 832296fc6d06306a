"""Small populations of parallel grow-and-prune, and what they must come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparsepop.data import open_data
from sparsepop.experiment import PARTITION, Experiment, PartitionParallel, Resources
from sparsepop.member import Member, Task
from sparsepop.merge import Round, simulate
from sparsepop.methods import Explored, Method, Partition, PartitionGrow
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.results import read
from sparsepop.schedule import Phases
from sparsepop.storage import Storage
from sparsepop.tickets import Ticket, TicketStore
from sparsepop.train import train

GENERATION, PARTS = 2, 2
SEARCH = PartitionParallel(PARTS, batches=3)
Make = Callable[[dict[str, Any]], Recipe]


def maker(model: str = "wrn-10-1", begin: int = 1, rounds: int = 2, *more: Method) -> Make:
    """`begin` and `rounds` in generations; two steps of fine-tuning; `more` methods that change nothing."""

    def recipe(hp: dict[str, Any]) -> Recipe:
        phases = Phases.regular(GENERATION, rounds, begin * GENERATION)
        methods = (PartitionGrow(0.1, Partition(PARTS), hp[PARTITION], phases), Explored(), *more)
        return Recipe(model, phases.end + 2, methods, SGD(0.05), batch=16)

    return recipe


def parallel(recipe: Make, search: PartitionParallel = SEARCH, **more: Any) -> Experiment:
    settings: dict[str, Any] = {"resources": Resources(cpus=1), **more}
    return Experiment("parallel", recipe, "digits", search, GENERATION, **settings)


def simulated(experiment: Experiment, recipe: Make) -> tuple[Member, list[Round]]:
    """What the first group of the population must come to, from one process that knows no population."""
    data, starts = open_data(experiment.data), experiment.starts()[:PARTS]
    search = experiment.search
    assert isinstance(search, PartitionParallel)
    member, rounds = simulate(
        [recipe(start.hp) for start in starts],
        [start.seed for start in starts],
        Task(data.shape, data.classes),
        data,
        rest=search.rest,
        batches=search.batches,
    )
    assert list(train(member, data, every=1000))[-1].final
    return member, rounds


def ticket_of(storage: Storage, member: int) -> Ticket:
    """The network that a member has ended with."""
    tickets = read(storage, "tickets")
    (name,) = tickets.loc[tickets["member"] == member, "ticket"]
    return TicketStore.of_experiment(storage).read(name)

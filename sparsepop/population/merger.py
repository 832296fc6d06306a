"""Processes that merge rounds for the exchange."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sparsepop.population.rounds import Merge, Outcome

Reference = list[Any]  # a list around an ObjectRef, so that Ray passes the reference itself; [] without one
Merger = Callable[[Merge, list[Reference]], Awaitable[tuple[Outcome, Reference]]]
PROCESSES = 4  # that merge groups side by side, each with torch in memory
RETRIES = 3  # of a merge whose process dies, which may be for want of memory


class RayMerger:
    """Merges the rounds of `groups` groups in actors that load torch while members train, and the data once:
    a task's process is ended by Ray after an idle second, and every round would wait for another.
    `job` is pickled, and passed on unread, for it would load torch here.
    """

    def __init__(self, job: bytes, groups: int) -> None:
        # without a CPU: those who wait for a merge may hold them all
        worker = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=RETRIES)(_Worker)
        self._workers = [on_this_node(worker).remote(job) for _ in range(min(groups, PROCESSES))]

    async def __call__(self, merge: Merge, references: list[Reference]) -> tuple[Outcome, Reference]:
        worker = self._workers[merge.group % len(self._workers)]
        outcome, merged = worker.merge.options(num_returns=2).remote(merge, references)
        return await outcome, [merged]


class _Worker:
    """Merges one round after the other."""

    def __init__(self, job: bytes) -> None:
        self._job = cloudpickle.loads(job)
        self._job.settle()

    def merge(self, merge: Merge, references: list[Reference]) -> Any:
        from sparsepop.population.client import fetched
        from sparsepop.population.merging import merge_round
        from sparsepop.population.snapshot import to_arrays

        outcome, merged = merge_round(self._job, merge, [fetched(each) for each in references])
        return outcome, to_arrays(merged)


def on_this_node(actor: Any) -> Any:
    """The class of an actor, to be started on the node of the caller, elsewhere where that is gone."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return actor.options(scheduling_strategy=here)

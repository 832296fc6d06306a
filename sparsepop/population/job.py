"""What all members of an experiment share, wherever they run."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache

from sparsepop.data import Data, open_data
from sparsepop.experiment import Experiment
from sparsepop.member import Task
from sparsepop.population.client import Client
from sparsepop.population.rounds import Rounds


@dataclass(frozen=True)
class Job:
    """What all trials of an experiment share: the experiment, where it is kept, the exchange (None where
    members never take over each other's states), what each of a member's processes may use, the config's
    folder, and the one that the command was given in; `rounds` where partitions are merged."""

    experiment: Experiment
    root: str
    exchange: Client | None
    threads: int
    device: str
    cpus: float = 1.0
    gpus: float = 0.0
    folder: str = ""
    rounds: Rounds | None = None
    home: str = ""

    def settle(self) -> None:
        """Let this process import what lies in the folder of the config, and find files where the command
        found them: Ray starts it in a folder of its own. Either may be on its machine or not.
        """
        if self.home and os.path.isdir(self.home):
            os.chdir(self.home)
        if self.folder and self.folder not in sys.path:
            sys.path.insert(0, self.folder)


def task_of(job: Job) -> Task:
    """What the members of a job must fit."""
    data = cached_data(job.experiment.data, job.device)
    return Task(data.shape, data.classes)


@cache
def cached_data(where: str, device: str) -> Data:
    """One copy of a data set for each process."""
    return open_data(where, device)

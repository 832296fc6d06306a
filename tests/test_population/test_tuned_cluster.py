"""Members under Ray Tune's searchers and schedulers on a real cluster: killed, and run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsepop.population.suggestions import read_suggestions
from sparsepop.results import read
from tests.test_population.commands import Command, descendants, kill
from tests.test_population.worlds import STEPS

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

MEMBERS = 4
CONFIG = """
import time
from dataclasses import dataclass, replace
from ray.tune.schedulers import ASHAScheduler
from sparsepop.experiment import Resources, Tuned
from sparsepop.methods import Method
from tests.test_population.worlds import SPACE, experiment as small, recipe as plain

@dataclass(frozen=True)
class Slow(Method):
    def after_step(self, member):
        time.sleep(0.1)

def recipe(hp):
    return replace(plain(hp), methods=(*plain(hp).methods, Slow()))

def halving():
    return ASHAScheduler(time_attr="generation", max_t=4, reduction_factor=2)

def optuna():
    from optuna.samplers import TPESampler
    from ray.tune.search.optuna import OptunaSearch
    return OptunaSearch(sampler=TPESampler(seed=0))

def experiment():
    return small(Tuned(SPACE, 4, GUIDE), recipe=recipe, resources=Resources(cpus=1))
"""


def cut_short(folder: Path, guide: str) -> Command:
    """A run that was killed, with all its processes, when somebody had saved a first generation."""
    command = Command(folder)
    command.config = CONFIG.replace("GUIDE", guide)
    process = command.start()
    command.wait(process, lambda: any(folder.glob("out/small/states/m*/g0002*")))
    kill([*descendants(process.pid), process.pid])
    process.communicate()
    return command


def test_early_stopping_goes_on_after_a_kill(tmp_path: Path) -> None:
    command = cut_short(tmp_path, "scheduler=halving")
    before = read(command.storage, "members")
    stopped = set(before.loc[before["status"] == "stopped", "member"])
    command.finish(command.start())
    members = read(command.storage, "members").set_index("member")
    assert sorted(members.index) == list(range(MEMBERS))
    assert set(members["status"]) == {"done", "stopped"}
    assert stopped <= set(members.index[members["status"] == "stopped"])
    reports = read(command.storage, "reports")
    assert not reports.duplicated(["member", "step"]).any()
    last = reports.groupby("member")["step"].max()
    for member, status in members["status"].items():
        assert (last[member] == STEPS) == (status == "done")


def test_optuna_goes_on_after_a_kill(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    command = cut_short(tmp_path, "searcher=optuna")
    before = read_suggestions(command.storage)
    assert 0 < len(before) <= MEMBERS
    command.finish(command.start())
    after = read_suggestions(command.storage)
    assert {member: after[member] for member in before} == before
    assert set(after) == set(range(MEMBERS))
    members = read(command.storage, "members").set_index("member")
    assert set(members["status"]) == {"done"}
    reports = read(command.storage, "reports")
    assert sorted(reports.loc[reports["final"], "member"]) == list(range(MEMBERS))

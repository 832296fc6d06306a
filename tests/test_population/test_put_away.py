"""A device holds one network of a member: its own is gone before another one takes its place."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from sparsepop.member import Member
from sparsepop.merge import pack
from sparsepop.population.job import Job
from sparsepop.population.messages import Assignment
from sparsepop.population.rounds_taken import take_merged
from sparsepop.population.trial import MemberTrial
from sparsepop.ranks import Ranks
from tests.test_population.rounds import maker, parallel


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def take(trial: MemberTrial) -> None:
    trial._take(trial.member.state(), Assignment(0, 1, 1, dict(trial.hp), 1, "test"))


def merge(trial: MemberTrial) -> None:
    merged = Assignment(0, 1, None, dict(trial.hp), None, "test", group=0, numbers={"flops": 0.0})
    take_merged(trial, merged, pack(trial.member.state()))


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("replaced", [take, merge])
@pytest.mark.parametrize("world", [1, 2])
def test_the_network_is_gone_when_the_next_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: Callable[[MemberTrial], None], world: int
) -> None:
    """With synchronised norms too, which hold what refers to them."""
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda model, **options: model)
    made = parallel(maker())
    trial = MemberTrial(Job(made, str(tmp_path), None, 1, "cpu"), made.starts()[0], print, Ranks(0, world))
    trial.network = Member.build(made.recipe(trial.hp), 0, trial.task, ranks=trial.ranks)
    assert any("forward" in vars(part) for part in trial.member.network.modules()) == (world > 1)
    weights = [weakref.ref(param) for param in trial.member.model.parameters()]
    left: list[int] = []

    def adopt(*given: Any) -> None:
        left.append(sum(weight() is not None for weight in weights))
        raise InterruptedError

    monkeypatch.setattr(trial, "adopt", adopt)
    with pytest.raises(InterruptedError):
        replaced(trial)
    assert left == [0]

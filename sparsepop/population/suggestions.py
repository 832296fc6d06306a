"""What a searcher has suggested, kept on storage before anybody uses it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparsepop.experiment import Experiment, Start, Tuned
from sparsepop.population.names import member_name, member_of
from sparsepop.space import freeze
from sparsepop.storage import Storage, side_by_side

_FOLDER = "suggested"


@dataclass(frozen=True)
class Suggestion:
    """The hyperparameters of one member, and whose outcomes the searcher was told, in order, after the
    suggestion before this one; earlier versions wrote all that it had ever been told."""

    hp: dict[str, Any]
    told: tuple[int, ...] = ()


def write_suggestion(storage: Storage, member: int, hp: dict[str, Any], told: Sequence[int]) -> None:
    """Keep what was suggested for a member."""
    storage.write(_path(member), json.dumps({"hp": hp, "told": list(told)}).encode())


def read_suggestion(storage: Storage, member: int) -> Suggestion:
    """What was suggested for a member; FileNotFoundError when nothing was."""
    return Suggestion(**freeze(json.loads(storage.read(_path(member)))))


def read_suggestions(storage: Storage) -> dict[int, Suggestion]:
    """All suggestions by member, in the order in which they were made."""
    members = sorted(member_of(name.removesuffix(".json")) for name in storage.names(_FOLDER))
    found = side_by_side(lambda member: read_suggestion(storage, member), members)
    return dict(zip(members, found, strict=True))


def start_of(experiment: Experiment, storage: Storage, member: int) -> Start:
    """How a member starts: where a searcher suggests hyperparameters, with those on storage."""
    start = experiment.starts()[member]
    if isinstance(experiment.search, Tuned) and experiment.search.searcher is not None:
        return replace(start, hp=read_suggestion(storage, member).hp)
    return start


def _path(member: int) -> str:
    return f"{_FOLDER}/{member_name(member)}.json"

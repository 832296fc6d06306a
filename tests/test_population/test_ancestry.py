"""Whose weights a state says that it holds, against what the tables say."""

from __future__ import annotations

import tempfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sparsepop.population.ancestry import LINEAGE, handed_on, lineage_of, spans
from sparsepop.results import Writer, ancestors
from sparsepop.results.schema import DONOR_GENERATION
from sparsepop.storage import Storage

MEMBERS, GENERATION = 4, 10
DONORS = st.dictionaries(st.integers(0, MEMBERS - 1), st.integers(1, MEMBERS - 1), max_size=MEMBERS)


@settings(max_examples=30)
@given(st.lists(DONORS, max_size=6))
def test_states_say_what_the_tables_say(exchanges: list[dict[int, int]]) -> None:
    """Each exchange: who takes the state of the member so many numbers further, all at once."""
    states: list[dict[str, Any]] = [{"step": 0, LINEAGE: ((member, 0),)} for member in range(MEMBERS)]
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        writers = [Writer(storage, member, 0) for member in range(MEMBERS)]
        for generation, taken in enumerate(exchanges, 1):
            step = generation * GENERATION
            posted = [{**state, "step": step} for state in states]
            states = list(posted)
            for member, further in taken.items():
                donor = (member + further) % MEMBERS
                states[member] = {**posted[donor], LINEAGE: handed_on(posted[donor], member)}
                row = {"kind": "exploit", "generation": generation, "step": step, "donor": donor}
                writers[member].add("events", **row)
        end = (len(exchanges) + 1) * GENERATION
        for writer in writers:
            writer.add("members", status="done", step=end)
            writer.flush("all")
        for member, state in enumerate(states):
            lineage = lineage_of(state)
            assert lineage is not None
            assert spans(lineage, end) == ancestors(storage, member)


@settings(max_examples=12)
@given(st.lists(st.tuples(*[st.integers(0, MEMBERS - 1)] * 2), min_size=1, max_size=10))
def test_donors_that_go_back_in_time_change_nothing_that_they_gave(turns: list[tuple[int, int]]) -> None:
    """Members that wait for nobody: in each turn one trains a generation, and takes what another one, unless
    it is itself, posted last.
    """
    states: list[dict[str, Any]] = [{"step": 0, LINEAGE: ((member, 0),)} for member in range(MEMBERS)]
    posted: list[list[dict[str, Any]]] = [[] for _ in range(MEMBERS)]
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        writers = [started(storage, member, 0, 0) for member in range(MEMBERS)]
        for member, donor in turns:
            step = states[member]["step"] + GENERATION
            states[member] = {**states[member], "step": step}
            posted[member].append(states[member])
            if donor == member or not posted[donor]:
                continue
            given = posted[donor][-1]
            states[member] = {**given, LINEAGE: handed_on(given, member)}
            if given["step"] < step:
                writers[member].flush("all")
                writers[member] = started(storage, member, writers[member].attempt + 1, given["step"])
            row = {"kind": "exploit", "generation": len(posted[member]), "step": given["step"]}
            numbers = {DONOR_GENERATION: len(posted[donor])}
            writers[member].add("events", **row, donor=donor, numbers=numbers)
        member = turns[-1][0]
        end = states[member]["step"]
        writers[member].add("members", status="done", step=end)
        for writer in writers:
            writer.flush("all")
        lineage = lineage_of(states[member])
        assert lineage is not None
        assert spans(lineage, end) == ancestors(storage, member)


def started(storage: Storage, member: int, attempt: int, step: int) -> Writer:
    """The writer of an attempt, whose first row is there."""
    writer = Writer(storage, member, attempt)
    writer.add("members", status="started", step=step)
    writer.flush("all")
    return writer


def test_an_older_state_says_nothing_and_nor_does_who_takes_it() -> None:
    assert lineage_of({"step": 8}) is None
    assert handed_on({"step": 8}, 1) is None

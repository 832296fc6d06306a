"""A member's side of rounds: what it gives to a merge, and what it goes on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsepop.member import State
from sparsepop.merge import COLLAPSE, FAR_APART, pack, parcel, unpack, weight_of
from sparsepop.overlaps import overlap
from sparsepop.population.ancestry import MIXED, handed_on
from sparsepop.population.messages import Assignment
from sparsepop.population.partitions import PartitionRounds
from sparsepop.population.snapshot import DamagedState, Snapshot, from_bytes
from sparsepop.population.states import merged_path

if TYPE_CHECKING:
    from sparsepop.population.trial import MemberTrial

_COLLAPSES = {"merge": COLLAPSE, "superpose": FAR_APART}


def follows(trial: MemberTrial) -> bool:
    """Whether the member starts from another one's state."""
    rounds, member = trial.job.rounds, trial.start.member
    return rounds is not None and rounds.leader_of(member) != member


def to_share(trial: MemberTrial, snapshot: Snapshot) -> State | None:
    """What the others may want of a state that is just saved: all of it, or where rounds are merged what goes
    into the merge, packed, and nothing between the rounds.
    """
    rounds = trial.job.rounds
    if rounds is None or snapshot.generation == rounds.start:
        return snapshot.state
    if not rounds.end_with(snapshot.generation):
        return None
    if isinstance(rounds, PartitionRounds):
        return parcel(trial.member, rounds.search.rest)
    return pack(snapshot.state)


def stored(trial: MemberTrial, assignment: Assignment) -> State | None:
    """What the member is to take, from storage; None where it goes on as it is, or no further. DamagedState
    or FileNotFoundError when it is not there: without it the member has no place in its group.
    """
    if assignment.group is None:
        return None if assignment.source is None else trial.read_state(*assignment.source).state
    if assignment.ends and trial.network is not None:
        return None
    path = merged_path(assignment.group, assignment.generation)
    try:
        return from_bytes(trial.storage.read(path))
    except DamagedState as error:
        raise DamagedState(f"{path} is damaged ({error})") from error


def take_start(trial: MemberTrial) -> bool:
    """Wait for the common start, or for what the others have become when they went on without this member;
    False when the place is needed for those to be waited for.
    """
    rounds, exchange = trial.job.rounds, trial.job.exchange
    assert rounds is not None
    assert exchange is not None
    trial.generation = rounds.start
    answer = trial.answer(exchange)
    if answer is None:
        return False
    assignment, state = answer
    if assignment.group is not None:
        take_merged(trial, assignment, state)
        return True
    assert state is not None
    trial.hp, trial.donor = dict(assignment.hp), assignment.donor
    trial.lineage = handed_on(state, trial.start.member)
    trial.adopt(state, 0.0)
    trial.record_status("started")
    trial.record_taken("start", assignment, received=weight_of(state))
    return True


def take_merged(trial: MemberTrial, assignment: Assignment, state: State | None) -> None:
    """Go on from the merged network, or end where another member does."""
    late = trial.network is None  # the others went on without this member
    hp, shared = trial.hp, None
    masks, seconds = ({}, 0.0) if late else (trial.member.masks.tensors, trial.member.seconds)
    trial.generation, trial.hp = assignment.generation, dict(assignment.hp)
    trial.spent_flops += assignment.numbers["flops"]
    trial.ended = assignment.ends
    if late or not assignment.ends:
        assert state is not None
        trial.put_away()
        trial.adopt(unpack(state), seconds)
        trial.lineage = MIXED
        shared = overlap(masks, trial.member.masks.tensors) if masks else None
    if late:
        trial.record_status("started")
    _record_merge(trial, assignment, shared)
    if assignment.donor is not None:
        trial.donor = assignment.donor
        trial.record_exploit(assignment, hp, shared)
    if trial.ended:
        trial.record_status("merged")


def decline_merged(trial: MemberTrial, assignment: Assignment) -> None:
    """Go on as before, and record what was merged and not taken: it has cost its FLOPs all the same."""
    trial.spent_flops += assignment.numbers["flops"]
    trial.member.train_flops = trial.spent_flops
    _record_merge(trial, assignment, None)


def _record_merge(trial: MemberTrial, assignment: Assignment, shared: float | None) -> None:
    assert trial.job.rounds is not None
    event = trial.job.rounds.event
    numbers = {name: value for name, value in assignment.numbers.items() if name != "flops"}
    trial.event(event, message=assignment.reason, overlap=shared, numbers=numbers)
    if numbers["collapsed"] and assignment.group is not None:
        trial.event("collapse", message=_COLLAPSES[event], numbers=numbers)

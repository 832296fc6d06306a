"""Merging a round, in whatever process is told to: states from the object store or storage."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from sparsepop.experiment import PARTITION, PartitionParallel
from sparsepop.member import Member, State
from sparsepop.merge import end_round, merged_parcel, old_parcel, parcel, unpack
from sparsepop.population.job import Job, cached_data, task_of
from sparsepop.population.messages import Post
from sparsepop.population.partitions import PartitionRounds
from sparsepop.population.rounds import Merge, Outcome
from sparsepop.population.snapshot import decode, from_bytes, to_bytes
from sparsepop.population.states import StateFiles, merged_path
from sparsepop.population.superposing import superpose_round
from sparsepop.storage import Storage

_FULL = ("out of memory", "ALLOC_FAILED", "NOT_INITIALIZED", "busy or unavailable")


def merge_round(job: Job, merge: Merge, given: Sequence[State | None]) -> tuple[Outcome, State]:
    """Merge a round and write the merged network to storage; returns what is told of it, and the network as
    its members receive it, packed. `given`: what each of them has sent, in the order of `merge.posts`; None:
    take it from storage. The same on one kind of device, whoever does it, and how often.

    A merge asks Ray for no GPU, since those who wait for it hold them all: it shares the first one of its
    node, and where there is none, or no room on it, is done on the CPU.
    """
    torch.set_num_threads(job.threads)
    on_cpu = replace(job, device="cpu")
    if job.device == "cpu" or not torch.cuda.is_available():
        return _merge(on_cpu, merge, given)
    try:
        return _merge(job, merge, given)
    except RuntimeError as error:
        if not _no_room(error):
            raise
    finally:
        _release()
    return _merge(on_cpu, merge, given)


def _no_room(error: RuntimeError) -> bool:
    """Whether the GPU had no room left: for a tensor, for a process more, or for one of CUDA's libraries,
    which say so each in their own words."""
    told = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in told for words in _FULL)


def _release() -> None:
    """Leave the GPU's memory to the members: this process keeps none until the next merge."""
    with suppress(RuntimeError):  # of a GPU that had no room for this process at all
        torch.cuda.empty_cache()


def _merge(job: Job, merge: Merge, given: Sequence[State | None]) -> tuple[Outcome, State]:
    work = _partitions if isinstance(job.rounds, PartitionRounds) else superpose_round
    outcome, merged = work(job, merge, given)
    Storage(job.root).write(merged_path(*merge.key), to_bytes(merged))
    return outcome, merged


def _partitions(job: Job, merge: Merge, given: Sequence[State | None]) -> tuple[Outcome, State]:
    rounds = job.rounds
    assert isinstance(rounds, PartitionRounds)
    members = rounds.members_of(merge.group)
    posts = {members.index(post.member): post for post in merge.posts}
    sent = {
        part: _stored(job, rounds, post) if each is None else each
        for (part, post), each in zip(posts.items(), given, strict=True)
    }
    member, ended = end_round(
        job.experiment.recipe(dict(merge.posts[0].hp)),
        task_of(job),
        sent,
        {part: post.accuracy for part, post in posts.items()},
        cached_data(job.experiment.data, job.device),
        lambda part: _kept(job, rounds, merge, members[part]),
        rest=rounds.search.rest,
        batches=rounds.search.batches,
        device=job.device,
    )
    weights = {members[part]: weight for part, weight in zip(sorted(sent), ended.bytes_up, strict=True)}
    return Outcome(ended.numbers(), weights, ended.flops), merged_parcel(member)


def _stored(job: Job, rounds: PartitionRounds, post: Post) -> State:
    """What a member has sent, cut from the state that it has saved."""
    saved = decode(StateFiles(Storage(job.root)).read(post.member, post.generation))
    return _cut(job, rounds.search, saved.hp, saved.state)


def _kept(job: Job, rounds: PartitionRounds, merge: Merge, member: int) -> State:
    """The partition of a member that is lost, or has diverged, as it was when the round began."""
    post, before = merge.posts[0], merge.generation - 1
    state = _common(job, rounds, merge.group if merge.begun_from is None else merge.begun_from, before)
    recipe = job.experiment.recipe({**post.hp, PARTITION: member % rounds.search.parts})
    return old_parcel(recipe, task_of(job), state, post.step, rounds.search.rest)


def _common(job: Job, rounds: PartitionRounds, group: int, generation: int) -> State:
    """What a group's members had in common after `generation`."""
    storage = Storage(job.root)
    if generation == rounds.start:
        return decode(StateFiles(storage).read(rounds.members_of(group)[0], generation)).state
    return unpack(from_bytes(storage.read(merged_path(group, generation))))


def _cut(job: Job, search: PartitionParallel, hp: dict[str, Any], state: State) -> State:
    recipe = job.experiment.recipe(dict(hp))
    # where those that were sent are: nothing is computed with them before all are joined
    return parcel(Member.restore(recipe, 0, task_of(job), state), search.rest)

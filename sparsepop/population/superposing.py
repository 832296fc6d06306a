"""Superposing a population, in whatever process is told to: states from the object store or storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sparsepop.member import State
from sparsepop.merge import pack, superpose_states, unpack, weight_of
from sparsepop.population.job import Job, cached_data, task_of
from sparsepop.population.messages import Post
from sparsepop.population.rounds import Merge, Outcome
from sparsepop.population.snapshot import decode
from sparsepop.population.states import StateFiles
from sparsepop.population.superpositions import Superpositions, averaged
from sparsepop.storage import Storage


def superpose_round(job: Job, merge: Merge, given: Sequence[State | None]) -> tuple[Outcome, State]:
    """What is told of a superposition, and the superposed state as members receive it, packed. `given`: what
    each has sent, in the order of `merge.posts`; None: it is taken from storage.
    """
    rounds = job.rounds
    assert isinstance(rounds, Superpositions)
    search, posts = rounds.search, averaged(merge)
    sent: dict[int, int] = {}
    references = dict(zip((post.member for post in merge.posts), given, strict=True))
    member, made = superpose_states(
        job.experiment.recipe(dict(posts[-1].hp)),
        task_of(job),
        _states(job, posts, references, sent),
        [post.accuracy for post in posts],
        cached_data(job.experiment.data, job.device),
        average=search.average,
        factor=search.factor,
        scope=search.scope,
        batches=search.batches,
        device=job.device,
    )
    return Outcome(made.numbers(), sent, made.flops), pack(member.state())


def _states(
    job: Job, posts: Sequence[Post], given: Mapping[int, State | None], sent: dict[int, int]
) -> Iterator[State]:
    """The states, each unpacked only when it is asked for; notes in `sent` how large each was (bytes)."""
    files = StateFiles(Storage(job.root))
    for post in posts:
        packed = given[post.member]
        if packed is None:
            packed = pack(decode(files.read(post.member, post.generation)).state)
        sent[post.member] = weight_of(packed)
        yield unpack(packed)

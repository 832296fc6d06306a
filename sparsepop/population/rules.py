"""Who copies whom at the end of a generation: pure functions from what members posted to assignments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparsepop.experiment import PBT, Search
from sparsepop.population.messages import Assignment, Post, go_on
from sparsepop.population.standings import Standings, better
from sparsepop.space import FACTORS, Domain, mutate, stable_rng


def synchronous(posts: Sequence[Post], *, mode: str = "max", **settings: Any) -> dict[int, Assignment]:
    """An assignment for every post: what `asynchronous`, with its `settings`, says to each member, given all
    of a generation's posts.

    A donor may itself copy a third member: what is copied is what was posted. The order of posts never
    matters. ValueError: what `asynchronous` raises, a mode other than max and min, two posts of one member.
    """
    _check(posts)
    standings = Standings(mode, posts)
    return {post.member: asynchronous(post, standings, **settings) for post in sorted(posts, key=_member)}


def asynchronous(
    post: Post,
    standings: Standings,
    *,
    space: Mapping[str, Domain],
    selection: str = "truncation",
    quantile: float = 0.25,
    resample: float = 0.25,
    factors: Sequence[float] = FACTORS,
    seed: int = 0,
) -> Assignment:
    """Whom a member copies, given the latest posts of the others, of whatever generation: hp mutated.

    The selections are those of Jaderberg et al. 2017, among members of equal density (a group of one goes
    on), with two differences: a diverged member is always replaced when there is a donor, and only a strictly
    better member is a donor. Under truncation each quantile holds max(1, floor(quantile * n)) members.

    `standings` may hold another post of the member itself: it does not count. `donor_generation` says which
    post won. The draws of a member depend on (seed, generation, member) alone. ValueError: quantile outside
    (0, 0.5].
    """
    standings = standings.with_post(post)
    if selection == "tournament":
        donors = _winners(post, standings, seed)
    else:
        donors = standings.donors(post, quantile)
    return _assign(post, donors, space, resample, factors, seed)


def impossible(search: Search, generations: int | None = None) -> str | None:
    """Why this population could never exchange anything, or None when it can (or is not meant to).

    `generations` is the number of generations of a whole run: nothing is exchanged after the last one.
    """
    if not isinstance(search, PBT):
        return None
    if search.members < 2:
        return f"PBT with members={search.members} has nobody to learn from: use at least 2 members"
    if not search.space:
        return "PBT with an empty space has nothing to search: name a hyperparameter, or use Grid(seeds=N)"
    if generations is not None and generations < 2:
        return (
            f"PBT with {generations} generation(s) never exchanges, the first exchange comes after the first "
            "generation and none after the last: make the generation shorter or the run longer"
        )
    return None


def _winners(post: Post, standings: Standings, seed: int) -> Sequence[Post]:
    opponent = standings.opponent(post, stable_rng("opponent", seed, post.generation, post.member))
    return [opponent] if opponent is not None and better(opponent, post, standings.mode) else []


def _assign(
    post: Post,
    donors: Sequence[Post],
    space: Mapping[str, Domain],
    resample: float,
    factors: Sequence[float],
    seed: int,
) -> Assignment:
    if not donors:
        return go_on(post)
    rng = stable_rng("exploit", seed, post.generation, post.member)
    donor = rng.choice(donors)
    hp = mutate(donor.hp, space, rng, resample, factors)
    reason = f"score {post.score} loses to {donor.score} of member {donor.member}"
    return Assignment(post.member, post.generation, donor.member, hp, donor.generation, reason)


def _check(posts: Iterable[Post]) -> None:
    seen: set[int] = set()
    for post in posts:
        if post.member in seen:
            raise ValueError(f"member {post.member} posted twice: give its latest post only")
        seen.add(post.member)


def _member(post: Post) -> int:
    return post.member

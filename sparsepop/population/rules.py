"""Who copies whom at the end of a generation: pure functions from what members posted to assignments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sparsepop.experiment import PBT, Search
from sparsepop.population.messages import Assignment, Post, go_on
from sparsepop.population.standings import Standings, alive, better
from sparsepop.space import FACTORS, Domain, mutate, stable_rng

Rule = Callable[..., dict[int, Assignment]]


def truncation(
    posts: Sequence[Post],
    *,
    space: Mapping[str, Domain],
    quantile: float = 0.25,
    resample: float = 0.25,
    factors: Sequence[float] = FACTORS,
    mode: str = "max",
    seed: int = 0,
) -> dict[int, Assignment]:
    """An assignment for every post: the bottom quantile copies members of the top one, hp mutated.

    Truncation selection of Jaderberg et al. 2017, among members of equal density (a group of one goes on),
    with two differences: a diverged member is always replaced when there is a donor, and only a strictly
    better member is a donor. Each quantile holds max(1, floor(quantile * n)) members. The draws of a member
    depend on (seed, generation, member) alone, so the order of posts never matters. ValueError: quantile
    outside (0, 0.5], a mode other than max and min, two posts of one member.
    """
    _check(posts)
    standings = Standings(mode, posts)
    decided = {}
    for post in posts:
        donors = standings.donors(post, quantile)
        decided[post.member] = _assign(post, donors, space, resample, factors, seed)
    return dict(sorted(decided.items()))


def asynchronous(
    post: Post,
    standings: Standings,
    *,
    space: Mapping[str, Domain],
    quantile: float = 0.25,
    resample: float = 0.25,
    factors: Sequence[float] = FACTORS,
    seed: int = 0,
) -> Assignment:
    """What `truncation` says to one member, given the latest posts of the others, of whatever generation.

    `standings` may hold another post of the member itself: it does not count. `donor_generation` says which
    post won.
    """
    donors = standings.with_post(post).donors(post, quantile)
    return _assign(post, donors, space, resample, factors, seed)


def tournament(
    posts: Sequence[Post],
    *,
    space: Mapping[str, Domain],
    quantile: float | None = None,
    resample: float = 0.25,
    factors: Sequence[float] = FACTORS,
    mode: str = "max",
    seed: int = 0,
) -> dict[int, Assignment]:
    """Binary tournament (Jaderberg et al. 2017): each draws one opponent and copies it if better.

    `quantile` is not used: all rules are called alike. Diverged members draw among the others that are not. A
    donor may itself copy a third member in the same round: what is copied is what was posted.
    """
    _check(posts)
    standings = Standings(mode, posts)
    decided = {}
    for post in posts:
        beside = sorted(standings.beside(post), key=_member)
        opponents = [other for other in beside if other is not post and (alive(other) or alive(post))]
        rng = stable_rng("opponent", seed, post.generation, post.member)
        drawn = [rng.choice(opponents)] if opponents else []
        donors = [other for other in drawn if better(other, post, mode)]
        decided[post.member] = _assign(post, donors, space, resample, factors, seed)
    return dict(sorted(decided.items()))


def none(posts: Sequence[Post], **_: Any) -> dict[int, Assignment]:
    """Everybody goes on."""
    _check(posts)
    return {post.member: go_on(post) for post in sorted(posts, key=_member)}


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

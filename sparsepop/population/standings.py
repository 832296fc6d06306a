"""Members by what they posted last, best first among those of equal density."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from random import Random

from sparsepop.population.messages import Post

_SAME = 1e-9  # relative difference below which two densities are the same
Rank = tuple[float, int]  # minus the merit, and the member: sorted, the best come first
Division = list[Rank]


class Standings:
    """The newest post of every member, kept sorted as posts come, so that a decision for one member of a
    large population need not look through all of it.

    Members are compared within a division: those of equal density. A diverged member ranks last. ValueError
    for a mode other than max and min.
    """

    def __init__(self, mode: str, posts: Iterable[Post] = ()) -> None:
        if mode not in ("max", "min"):
            raise ValueError(f"mode {mode!r} is unknown: use 'max' or 'min'")
        self.mode = mode
        self.latest: dict[int, Post] = {}
        self._densities: list[float] = []  # one for each division, ascending
        self._divisions: dict[float, Division] = {}
        self._own: dict[int, float] = {}  # each member's among these densities; a NaN has none
        for post in posts:
            self.note(post)

    def note(self, post: Post) -> None:
        """Take a post in place of the member's last one."""
        if post.member in self._own:
            self._leave(post.member)
        self.latest[post.member] = post
        if not math.isnan(post.density):
            density = self._own[post.member] = self._nearest(post.density)
            insort(self._divisions[density], self._rank(post))

    def with_post(self, post: Post) -> Standings:
        """These standings, or a copy in which `post` is the member's last one."""
        if self.latest.get(post.member) == post:
            return self
        return Standings(self.mode, {**self.latest, post.member: post}.values())

    def donors(self, post: Post, quantile: float) -> Sequence[Post]:
        """Whom a member may copy, best first: the strictly better ones of the top quantile of its density,
        for one that has diverged or is of the bottom quantile; nobody for the others.

        Each quantile holds max(1, floor(quantile * n)) of n members. ValueError for one outside (0, 0.5].
        """
        if not 0 < quantile <= 0.5:
            raise ValueError(f"quantile {quantile!r} is outside (0, 0.5]: top and bottom must not overlap")
        ranks, rank = self._division(post), self._rank(post)
        if len(ranks) < 2:
            return []
        count = max(1, math.floor(quantile * len(ranks) + 1e-9))
        if alive(post) and rank < ranks[-count]:
            return []
        ahead = bisect_left(ranks, (rank[0], -1))
        return [self.latest[member] for _, member in ranks[: min(count, ahead)]]

    def opponent(self, post: Post, rng: Random) -> Post | None:
        """One of the other members of its density, each as likely; for one that has diverged, one of those
        that have not. None where there is nobody."""
        ranks = self._division(post)
        end = len(ranks) if alive(post) else bisect_left(ranks, (math.inf, -1))
        own = bisect_left(ranks, self._rank(post))
        others = end - (own < end)
        if not others:
            return None
        place = rng.randrange(others)
        return self.latest[ranks[place + (place >= own)][1]]

    def _leave(self, member: int) -> None:
        density = self._own.pop(member)
        ranks = self._divisions[density]
        del ranks[bisect_left(ranks, self._rank(self.latest[member]))]
        if not ranks:
            del self._divisions[density], self._densities[bisect_left(self._densities, density)]

    def _nearest(self, density: float) -> float:
        """The density of the division that `density` belongs to; a new one where there is none."""
        index = bisect_left(self._densities, density)
        for near in self._densities[max(0, index - 1) : index + 1]:
            if math.isclose(near, density, rel_tol=_SAME):
                return near
        self._densities.insert(index, density)
        self._divisions[density] = []
        return density

    def _division(self, post: Post) -> Division:
        density = self._own.get(post.member)
        return [self._rank(post)] if density is None else self._divisions[density]

    def _rank(self, post: Post) -> Rank:
        return -merit(post, self.mode), post.member


def alive(post: Post) -> bool:
    """Whether a member has a score to be compared by."""
    return post.score is not None and math.isfinite(post.score)


def merit(post: Post, mode: str) -> float:
    """More is better; -inf for a member that has diverged."""
    if post.score is None or not math.isfinite(post.score):
        return -math.inf
    return post.score if mode == "max" else -post.score


def better(donor: Post, post: Post, mode: str) -> bool:
    """Whether `donor` is strictly better than `post`."""
    return merit(donor, mode) > merit(post, mode)

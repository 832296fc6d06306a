"""Who copies whom at the end of a generation: pure functions from what members posted to assignments."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sparsepop.experiment import PBT, Search
from sparsepop.space import FACTORS, Domain, freeze, mutate, stable_rng

_SAME = 1e-9  # relative difference below which two densities are the same
_FLOAT = "$float"


@dataclass(frozen=True)
class Post:
    """What a member says of itself at the end of a generation; a missing or non-finite score means
    diverged."""

    member: int
    generation: int
    score: float | None
    density: float
    hp: dict[str, Any]
    step: int = 0
    accuracy: float = math.nan  # on the validation split, whatever the score is

    def __post_init__(self) -> None:
        # A post read back from JSON must decide as the one that was written.
        object.__setattr__(self, "hp", freeze(self.hp))


@dataclass(frozen=True)
class Assignment:
    """What a member does after `generation`: with no donor it goes on as it is, else it takes the state that
    `donor` posted after `donor_generation`, with the hyperparameters `hp`; with a group, that group's merged
    network of this `generation`. With `ends`, it has nothing more to do. `numbers`: what is told of it."""

    member: int
    generation: int
    donor: int | None
    hp: dict[str, Any]
    donor_generation: int | None
    reason: str
    group: int | None = None
    ends: bool = False
    numbers: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.donor is None) != (self.donor_generation is None):
            raise ValueError(
                f"donor {self.donor!r} with donor_generation {self.donor_generation!r}: give both or neither"
            )
        if self.donor is not None and self.donor == self.member:
            raise ValueError(f"member {self.member} cannot be its own donor: use donor None to go on")
        object.__setattr__(self, "hp", freeze(self.hp))

    @property
    def source(self) -> tuple[int, int] | None:
        """Member and generation of the state to take; None without a donor."""
        if self.donor is None or self.donor_generation is None:
            return None
        return self.donor, self.donor_generation

    def to_json(self) -> str:
        """This assignment as strict JSON (NaN and infinities included), read back exactly by `from_json`."""
        return json.dumps(plain(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """The assignment that `to_json` wrote; ValueError when `text` is something else."""
        try:
            return cls(**json.loads(text, object_hook=revive))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{text[:80]!r} is no assignment ({error}): delete it or restore it") from error


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
    _check(posts, mode)
    if not 0 < quantile <= 0.5:
        raise ValueError(f"quantile {quantile!r} is outside (0, 0.5]: top and bottom must not overlap")
    decided = {}
    for group in _groups(posts):
        top, bottom = _quantiles(_ranked(group, mode), quantile)
        for post in group:
            donors = _donors(post, top, bottom, mode)
            decided[post.member] = _assign(post, donors, space, resample, factors, seed)
    return dict(sorted(decided.items()))


def asynchronous(
    post: Post,
    latest: Mapping[int, Post],
    *,
    space: Mapping[str, Domain],
    quantile: float = 0.25,
    resample: float = 0.25,
    factors: Sequence[float] = FACTORS,
    mode: str = "max",
    seed: int = 0,
) -> Assignment:
    """What `truncation` says to one member, given the latest posts of the others, of whatever generation.

    `latest` may hold an older post of the member itself: it does not count. `donor_generation` says which
    post won.
    """
    known = {**latest, post.member: post}
    _check(list(known.values()), mode)
    if not 0 < quantile <= 0.5:
        raise ValueError(f"quantile {quantile!r} is outside (0, 0.5]: top and bottom must not overlap")
    group = next(group for group in _groups(list(known.values())) if post in group)
    top, bottom = _quantiles(_ranked(group, mode), quantile)
    return _assign(post, _donors(post, top, bottom, mode), space, resample, factors, seed)


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
    _check(posts, mode)
    decided = {}
    for group in _groups(posts):
        for post in group:
            opponents = [other for other in group if other is not post and (_alive(other) or _alive(post))]
            rng = stable_rng("opponent", seed, post.generation, post.member)
            drawn = [rng.choice(opponents)] if opponents else []
            donors = [other for other in drawn if _better(other, post, mode)]
            decided[post.member] = _assign(post, donors, space, resample, factors, seed)
    return dict(sorted(decided.items()))


def none(posts: Sequence[Post], **_: Any) -> dict[int, Assignment]:
    """Everybody goes on."""
    _check(posts, "max")
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


def go_on(post: Post) -> Assignment:
    """The member goes on as it is."""
    return Assignment(post.member, post.generation, None, post.hp, None, "go on")


def _check(posts: Iterable[Post], mode: str) -> None:
    if mode not in ("max", "min"):
        raise ValueError(f"mode {mode!r} is unknown: use 'max' or 'min'")
    seen: set[int] = set()
    for post in posts:
        if post.member in seen:
            raise ValueError(f"member {post.member} posted twice: give its latest post only")
        seen.add(post.member)


def _groups(posts: Sequence[Post]) -> list[list[Post]]:
    groups: list[list[Post]] = []
    for post in sorted(posts, key=lambda post: (math.isnan(post.density), post.density, post.member)):
        if groups and math.isclose(groups[-1][0].density, post.density, rel_tol=_SAME):
            groups[-1].append(post)
        else:
            groups.append([post])
    return groups


def _ranked(group: Sequence[Post], mode: str) -> list[Post]:
    return sorted(group, key=lambda post: (-_merit(post, mode), post.member))


def _quantiles(ranked: Sequence[Post], quantile: float) -> tuple[list[Post], set[int]]:
    if len(ranked) < 2:
        return [], set()
    count = max(1, math.floor(quantile * len(ranked) + 1e-9))
    top = list(ranked[:count])
    bottom = {post.member for post in ranked[-count:]} | {post.member for post in ranked if not _alive(post)}
    return top, bottom


def _donors(post: Post, top: Sequence[Post], bottom: set[int], mode: str) -> list[Post]:
    return [donor for donor in top if _better(donor, post, mode)] if post.member in bottom else []


def _alive(post: Post) -> bool:
    return post.score is not None and math.isfinite(post.score)


def _merit(post: Post, mode: str) -> float:
    if post.score is None or not math.isfinite(post.score):
        return -math.inf
    return post.score if mode == "max" else -post.score


def _better(donor: Post, post: Post, mode: str) -> bool:
    return _merit(donor, mode) > _merit(post, mode)


def _member(post: Post) -> int:
    return post.member


def plain(value: Any) -> Any:
    """`value` with tuples as lists and non-finite floats spelled out, fit for strict JSON."""
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    return value


def revive(entry: dict[str, Any]) -> Any:
    """The object hook that reads `plain` back."""
    return float(entry[_FLOAT]) if entry.get(_FLOAT) in ("nan", "inf", "-inf") else entry

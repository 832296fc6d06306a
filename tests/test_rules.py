"""Who copies whom: pure decisions that depend on what was posted and on nothing else."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sparsepop.experiment import PBT, Grid, Sampled
from sparsepop.population.messages import Assignment, Post, plain, revive
from sparsepop.population.rules import asynchronous, impossible, synchronous
from sparsepop.population.standings import Standings
from sparsepop.search.pbt import SELECTIONS
from sparsepop.space import Choice, Domain, Integers, LogUniform, Uniform, sample

SPACE: dict[str, Domain] = {
    "lr": LogUniform(1e-4, 1),
    "decay": Uniform(0, 1),
    "cycle": Integers(1, 50),
    "kind": Choice(("a", (1, 2), None)),
}
SCORES = st.none() | st.sampled_from([math.nan, math.inf, -math.inf, 0.5]) | st.floats(-10, 10)
QUANTILES = st.floats(0.01, 0.5)
Rule = Callable[..., dict[int, Assignment]]
truncation: Rule = partial(synchronous, selection="truncation")
tournament: Rule = partial(synchronous, selection="tournament")
BOTH = pytest.mark.parametrize("rule", [truncation, tournament], ids=SELECTIONS)


def _post(member: int, score: float | None, density: float = 0.1, generation: int = 3) -> Post:
    hp = {"other": member, **sample(SPACE, random.Random(member))}
    return Post(member, generation, score, density, hp, step=generation * 100)


@st.composite
def _populations(draw: st.DrawFn) -> list[Post]:
    members = draw(st.lists(st.integers(0, 99), max_size=12, unique=True))
    return [
        _post(member, draw(SCORES), draw(st.sampled_from([0.1, 0.1, 0.2, math.nan]))) for member in members
    ]


POSTS = _populations()


def _exploits(decided: dict[int, Assignment]) -> dict[int, int]:
    return {member: entry.donor for member, entry in decided.items() if entry.donor is not None}


def _alive(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def _by_member(posts: Sequence[Post]) -> dict[int, Post]:
    return {post.member: post for post in posts}


@BOTH
@given(posts=POSTS, seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_the_order_of_posts_does_not_matter(
    rule: Rule, posts: list[Post], seed: int, order: random.Random
) -> None:
    decided = rule(posts, space=SPACE, seed=seed)
    shuffled = list(posts)
    order.shuffle(shuffled)
    assert rule(shuffled, space=SPACE, seed=seed) == decided
    assert list(decided) == sorted(post.member for post in posts)


@BOTH
@given(posts=POSTS)
def test_deciding_again_gives_the_same_and_changes_nothing(rule: Rule, posts: list[Post]) -> None:
    before = repr(posts)
    random.seed(1)
    first = rule(posts, space=SPACE)
    random.seed(2)
    assert rule(posts, space=SPACE) == first
    assert repr(posts) == before


@given(posts=POSTS, quantile=QUANTILES)
def test_donors_are_never_receivers(posts: list[Post], quantile: float) -> None:
    copied = _exploits(truncation(posts, space=SPACE, quantile=quantile))
    assert not set(copied) & set(copied.values())


@BOTH
@given(posts=POSTS, mode=st.sampled_from(["max", "min"]))
def test_donors_are_alive_strictly_better_and_equally_dense(rule: Rule, posts: list[Post], mode: str) -> None:
    known = _by_member(posts)
    for member, donor in _exploits(rule(posts, space=SPACE, mode=mode)).items():
        theirs, own = known[donor].score, known[member].score
        assert theirs is not None
        assert math.isfinite(theirs)
        assert known[donor].density == known[member].density
        if own is not None and math.isfinite(own):
            assert theirs > own if mode == "max" else theirs < own


@BOTH
@given(posts=POSTS)
def test_the_diverged_are_replaced_wherever_there_is_a_donor(rule: Rule, posts: list[Post]) -> None:
    copied = _exploits(rule(posts, space=SPACE))
    for post in posts:
        if not _alive(post.score):
            help_exists = any(_alive(other.score) and other.density == post.density for other in posts)
            assert (post.member in copied) == help_exists


@BOTH
@given(posts=POSTS, resample=st.floats(0, 1))
def test_hyperparameters_stay_in_the_space(rule: Rule, posts: list[Post], resample: float) -> None:
    known = _by_member(posts)
    for member, entry in rule(posts, space=SPACE, resample=resample).items():
        assert all(domain.contains(entry.hp[name]) for name, domain in SPACE.items())
        if entry.donor is None:
            assert entry.hp == known[member].hp
        else:
            assert entry.hp["other"] == entry.donor
            assert entry.hp != known[entry.donor].hp or resample > 0


@BOTH
@given(posts=POSTS)
def test_min_mirrors_max(rule: Rule, posts: list[Post]) -> None:
    mirrored = [replace(post, score=None if post.score is None else -post.score) for post in posts]
    highest = rule(posts, space=SPACE, mode="max")
    lowest = rule(mirrored, space=SPACE, mode="min")
    assert _exploits(highest) == _exploits(lowest)
    assert [entry.hp for entry in highest.values()] == [entry.hp for entry in lowest.values()]


@given(scores=st.lists(st.floats(-10, 10), min_size=2, max_size=40, unique=True), quantile=QUANTILES)
def test_quantiles_have_the_promised_size(scores: list[float], quantile: float) -> None:
    assume(abs(quantile * len(scores) - round(quantile * len(scores))) > 1e-6)
    count = max(1, math.floor(quantile * len(scores)))
    posts = [_post(member, score) for member, score in enumerate(scores)]
    copied = _exploits(truncation(posts, space=SPACE, quantile=quantile))
    best_first = [post.member for post in sorted(posts, key=lambda post: -(post.score or 0.0))]
    assert set(copied) == set(best_first[-count:])
    assert set(copied.values()) <= set(best_first[:count])


def test_a_quantile_that_divides_is_not_lost_to_rounding() -> None:
    posts = [_post(member, float(member)) for member in range(100)]
    assert len(_exploits(truncation(posts, space=SPACE, quantile=0.29))) == 29


def test_donors_are_drawn_uniformly_and_differently_per_generation_member_and_seed() -> None:
    posts = [_post(member, float(member)) for member in range(16)]
    drawn: Counter[int] = Counter()
    for seed in range(200):
        for generation in range(5):
            now = [replace(post, generation=generation) for post in posts]
            drawn.update(_exploits(truncation(now, space=SPACE, seed=seed)).values())
    assert set(drawn) == {12, 13, 14, 15}
    assert sum((count - 1000) ** 2 / 1000 for count in drawn.values()) < 11.34  # chi-square, 3 degrees, 1%


def test_an_assignment_says_where_it_comes_from() -> None:
    posts = [_post(0, 0.9, generation=4), _post(1, 0.1, generation=3)]
    entry = truncation(posts, space=SPACE)[1]
    assert (entry.member, entry.generation, entry.donor, entry.donor_generation) == (1, 3, 0, 4)
    assert entry.reason == "score 0.1 loses to 0.9 of member 0"


def test_equal_scores_change_nothing() -> None:
    posts = [_post(member, 0.5) for member in range(8)]
    assert not _exploits(truncation(posts, space=SPACE))
    assert not _exploits(tournament(posts, space=SPACE))


def test_a_tie_across_the_quantile_is_broken_by_member() -> None:
    posts = [_post(member, score) for member, score in enumerate([0.9, 0.1, 0.1, 0.1])]
    assert _exploits(truncation(posts, space=SPACE)) == {3: 0}
    posts[1] = replace(
        posts[1], density=0.1 * (1 + 1e-12)
    )  # the same density, though sorted behind the others
    assert _exploits(truncation(posts, space=SPACE)) == {3: 0}


def test_everybody_diverged_goes_on() -> None:
    posts = [_post(0, math.nan), _post(1, None), _post(2, math.inf)]
    assert not _exploits(truncation(posts, space=SPACE))
    assert not _exploits(tournament(posts, space=SPACE))


def test_all_diverged_but_one_copy_that_one() -> None:
    posts = [_post(0, math.nan), _post(1, None), _post(2, -7.0), _post(3, math.nan)]
    assert _exploits(truncation(posts, space=SPACE)) == {0: 2, 1: 2, 3: 2}
    assert _exploits(tournament(posts, space=SPACE)) == {0: 2, 1: 2, 3: 2}


def test_densities_are_compared_relatively() -> None:
    near = [_post(0, 0.9, density=1e-4), _post(1, 0.1, density=1e-4 * (1 + 1e-12))]
    apart = [_post(0, 0.9, density=1e-4), _post(1, 0.1, density=1e-4 * (1 + 1e-6))]
    assert _exploits(truncation(near, space=SPACE)) == {1: 0}
    assert not _exploits(truncation(apart, space=SPACE))


def test_each_density_has_its_own_quantiles() -> None:
    posts = [_post(m, float(m), density=0.1 if m < 2 else 0.2) for m in range(4)]
    assert _exploits(truncation(posts, space=SPACE)) == {0: 1, 2: 3}


@pytest.mark.parametrize("selection", SELECTIONS)
@given(posts=POSTS, mode=st.sampled_from(["max", "min"]), quantile=QUANTILES)
def test_asynchronous_is_synchronous_for_one(
    selection: str, posts: list[Post], mode: str, quantile: float
) -> None:
    settings: dict[str, Any] = {"space": SPACE, "selection": selection, "quantile": quantile}
    together = synchronous(posts, mode=mode, **settings)
    for post in posts:
        stale = replace(post, score=99.0, generation=0)
        latest = {**_by_member(posts), post.member: stale}
        standings = Standings(mode, latest.values())
        assert asynchronous(post, standings, **settings) == together[post.member]


def test_asynchronous_uses_posts_of_any_generation() -> None:
    post = _post(0, 0.1, generation=5)
    entry = asynchronous(post, Standings("max", [_post(1, 0.9, generation=2)]), space=SPACE)
    assert (entry.donor, entry.donor_generation, entry.generation) == (1, 2, 5)
    assert asynchronous(post, Standings("max"), space=SPACE).donor is None


def test_tournament_copies_the_better_of_two() -> None:
    posts = [_post(0, 0.1), _post(1, 0.9)]
    assert _exploits(tournament(posts, space=SPACE)) == {0: 1}
    many = [_post(member, float(member)) for member in range(20)]
    copied = _exploits(tournament(many, space=SPACE))
    assert 19 not in copied
    assert 0 in copied
    assert 5 <= len(copied) <= 15  # half of them in the mean


@BOTH
def test_posts_that_cannot_be_judged_are_refused(rule: Rule) -> None:
    with pytest.raises(ValueError, match="member 1 posted twice"):
        rule([_post(1, 0.1), _post(1, 0.2)], space=SPACE)
    with pytest.raises(ValueError, match="mode 'best' is unknown"):
        rule([_post(1, 0.1)], space=SPACE, mode="best")


@pytest.mark.parametrize("quantile", [0.0, 0.51, -1.0, math.nan])
def test_quantiles_that_overlap_are_refused(quantile: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        truncation([_post(1, 0.1)], space=SPACE, quantile=quantile)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text("xyz"), inner, max_size=2),
    max_leaves=6,
)


@given(hp=st.dictionaries(st.text(max_size=4), VALUES, max_size=4), donor=st.none() | st.integers(1, 9))
def test_assignments_survive_json_exactly(hp: dict[str, Any], donor: int | None) -> None:
    entry = Assignment(0, 2, donor, hp, None if donor is None else 1, "because\n")
    text = entry.to_json()
    json.loads(text, parse_constant=_refuse)
    back = Assignment.from_json(text)
    assert repr(back.hp) == repr(entry.hp)
    assert replace(back, hp={}) == replace(entry, hp={})
    assert back.to_json() == text


@given(posts=POSTS)
def test_posts_read_back_decide_alike(posts: list[Post]) -> None:
    texts = [json.dumps(plain(asdict(post)), allow_nan=False) for post in posts]
    back = [Post(**json.loads(text, object_hook=revive)) for text in texts]
    assert repr(back) == repr(posts)
    assert truncation(back, space=SPACE) == truncation(posts, space=SPACE)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"member": 1}', "nul", '{"$float": "nan"}'])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no assignment"):
        Assignment.from_json(text)


def test_assignments_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="give both or neither"):
        Assignment(0, 1, 2, {}, None, "")
    with pytest.raises(ValueError, match="its own donor"):
        Assignment(0, 1, 0, {}, 1, "")


@pytest.mark.parametrize(
    ("search", "generations", "named"),
    [
        (PBT(SPACE, 1), 9, "members=1"),
        (PBT({}, 4), 9, "empty space"),
        (PBT(SPACE, 4), 1, "1 generation"),
        (PBT(SPACE, 4), 2, None),
        (PBT(SPACE, 4), None, None),
        (Sampled(SPACE, 1), 1, None),
        (Grid({"lr": [1]}), 1, None),
    ],
)
def test_impossible_exchanges_are_told(search: Any, generations: int | None, named: str | None) -> None:
    told = impossible(search, generations)
    assert told is None if named is None else told is not None and named in told

"""Standings against their definition: sort everybody anew, look who is at the top and who at the bottom."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepop.population.messages import Post
from sparsepop.population.standings import Standings, alive, merit

SCORES = st.none() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 0.5]) | st.floats(-3, 3)
DENSITIES = st.sampled_from([0.1, 0.1 * (1 + 1e-12), 0.1 * (1 + 1e-6), 0.2, math.nan])
NEWS = st.lists(st.builds(Post, st.integers(0, 9), st.integers(0, 5), SCORES, DENSITIES, st.just({})))
MODES = st.sampled_from(["max", "min"])


def equal(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-9 * max(one, other)


def donors(latest: dict[int, Post], post: Post, quantile: float, mode: str) -> list[int]:
    """By the rule's words alone."""
    group = [other for other in latest.values() if other is post or equal(other.density, post.density)]
    ranked = sorted(group, key=lambda each: (-merit(each, mode), each.member))
    count = max(1, int(quantile * len(ranked) + 1e-9))
    diverged = post.score is None or not math.isfinite(post.score)
    if len(ranked) < 2 or (post not in ranked[-count:] and not diverged):
        return []
    return [each.member for each in ranked[:count] if merit(each, mode) > merit(post, mode)]


@given(news=NEWS, mode=MODES, quantile=st.floats(0.01, 0.5))
def test_donors_are_those_of_a_fresh_sort(news: list[Post], mode: str, quantile: float) -> None:
    standings, latest = Standings(mode), dict[int, Post]()
    for post in news:
        standings.note(post)
        latest[post.member] = post
    assert standings.latest == latest
    for post in latest.values():
        found = [donor.member for donor in standings.donors(post, quantile)]
        assert found == donors(latest, post, quantile, mode)


@given(news=NEWS, mode=MODES)
def test_opponents_are_the_others_of_a_density_or_those_of_them_that_have_not_diverged(
    news: list[Post], mode: str
) -> None:
    standings = Standings(mode, news)
    for post in standings.latest.values():
        others = [other for other in standings.latest.values() if other is not post]
        others = [other for other in others if equal(other.density, post.density)]
        known: set[int | None] = {other.member for other in others if alive(other) or alive(post)}
        drawn = [standings.opponent(post, Random(seed)) for seed in range(200)]
        assert {None if each is None else each.member for each in drawn} == (known or {None})


def test_another_post_of_a_member_leaves_the_standings_as_they_are() -> None:
    first, second = Post(0, 1, 0.1, 0.5, {}), Post(1, 1, 0.9, 0.5, {})
    standings = Standings("max", [first, second])
    changed = standings.with_post(Post(0, 2, 1.0, 0.5, {}))
    assert [donor.member for donor in changed.donors(second, 0.5)] == [0]
    assert [donor.member for donor in standings.donors(first, 0.5)] == [1]
    assert standings.with_post(first) is standings


@pytest.mark.parametrize("quantile", [0.0, 0.6, math.nan])
def test_a_quantile_that_cannot_be(quantile: float) -> None:
    post = Post(0, 0, 0.1, 0.5, {})
    with pytest.raises(ValueError, match="outside"):
        Standings("max", [post]).donors(post, quantile)


def test_an_unknown_mode() -> None:
    with pytest.raises(ValueError, match="best"):
        Standings("best")

"""Ray Tune's searchers over our spaces and members: suggestions that a later run of the command keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from sparsepop.population.names import member_name
from sparsepop.population.suggestions import Suggestion, read_suggestions, write_suggestion
from sparsepop.space import Choice, Domain, Integers, LogUniform, Space
from sparsepop.storage import Storage

METRIC = "score"


def samplers(space: Space) -> dict[str, Any]:
    """The space in Ray Tune's words: `Uniform` and `LogUniform` with both bounds, `Integers` with its upper
    bound included, categories as they are, or as their places in the list where they are not all plain and
    different (1, 1.0 and True are equal to most searchers)."""
    return {name: _sampler(domain) for name, domain in space.items()}


def encoded(space: Space, hp: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters as a searcher over `samplers(space)` knows them."""
    return {name: _encoded(domain, hp[name]) for name, domain in space.items()}


def decoded(space: Space, suggestion: Mapping[str, Any]) -> dict[str, Any]:
    """What a searcher over `samplers(space)` has suggested as hyperparameters of plain Python types; other
    names in it are left out. ValueError for a value outside the space."""
    return {name: _decoded(name, domain, suggestion) for name, domain in space.items()}


class Asked(Searcher):
    """Another searcher, asked for one member after the other; every answer is on storage before it is used.

    A run that goes on asks the searcher the same questions again and tells it the same outcomes, in the order
    of the run before, so that a seeded one is where it was. An answer that now differs is dropped, and
    the stored one takes its place: its outcome is added as a point that the searcher did not ask for, where
    it takes such points. Outcomes alone are told, not scores on the way to them.
    """

    def __init__(
        self,
        inner: Searcher,
        space: Space,
        storage: Storage,
        members: Sequence[int],
        scores: Mapping[int, float],
    ) -> None:
        """`members`: who is to be trained; `scores`: those of the members that came to their end earlier."""
        super().__init__()
        self.inner = inner
        self.space = space
        self.storage = storage
        self._waiting = list(members)
        self._scores = scores
        self._stored = read_suggestions(storage)
        self._trials: dict[str, int] = {}  # Tune's trials and their members
        self._asked: set[int] = set()  # the inner searcher waits for what becomes of these
        self._told: set[int] = set()
        self._news: list[int] = []  # whom it was told of since its last suggestion
        for member, suggestion in self._stored.items():
            self._ask_again(member, suggestion)
        self._tell_all(scores)

    def suggest(self, trial_id: str) -> Any:
        """The number of the next member, whose hyperparameters are on storage; None or FINISHED where the
        searcher says so."""
        if not self._waiting:
            return Searcher.FINISHED
        member = self._waiting[0]
        if member not in self._stored:
            answer = self.inner.suggest(member_name(member))
            if answer is None or answer == Searcher.FINISHED:
                return answer
            self._asked.add(member)
            self._store(member, decoded(self.space, answer))
        self._trials[trial_id] = self._waiting.pop(0)
        return {"member": member}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the searcher how a member ended, stopped early or not."""
        score = (result or {}).get(METRIC, math.nan)
        self._tell(self._trials[trial_id], math.nan if error else score)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what matters is on our own storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""

    def _store(self, member: int, hp: dict[str, Any]) -> None:
        write_suggestion(self.storage, member, hp, self._news)
        self._stored[member] = Suggestion(hp, tuple(self._news))
        self._news.clear()

    def _ask_again(self, member: int, suggestion: Suggestion) -> None:
        self._tell_all(suggestion.told)
        self._news.clear()
        answer = self.inner.suggest(member_name(member))
        if answer is None or answer == Searcher.FINISHED:
            return
        if decoded(self.space, answer) == suggestion.hp:
            self._asked.add(member)
        else:
            self.inner.on_trial_complete(member_name(member), error=True)

    def _tell_all(self, members: Sequence[int] | Mapping[int, float]) -> None:
        for member in members:
            if member not in self._told:
                self._tell(member, self._scores.get(member, math.nan))

    def _tell(self, member: int, score: float) -> None:
        self._told.add(member)
        self._news.append(member)
        failed = not math.isfinite(score)
        if member in self._asked:
            self._asked.discard(member)
            result = None if failed else {METRIC: score}
            self.inner.on_trial_complete(member_name(member), result, error=failed)
        elif not failed:
            with suppress(NotImplementedError):
                self.inner.add_evaluated_point(encoded(self.space, self._stored[member].hp), score)


def _sampler(domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return tune.choice(list(domain.values) if _plain(domain) else list(range(len(domain.values))))
    if isinstance(domain, Integers):
        return (tune.lograndint if domain.log else tune.randint)(domain.low, domain.high + 1)
    return (tune.loguniform if isinstance(domain, LogUniform) else tune.uniform)(domain.low, domain.high)


def _encoded(domain: Domain, value: Any) -> Any:
    if isinstance(domain, Choice) and not _plain(domain):
        return [repr(each) for each in domain.values].index(repr(value))
    return value


def _decoded(name: str, domain: Domain, suggestion: Mapping[str, Any]) -> Any:
    if name not in suggestion:
        raise ValueError(f"the searcher suggested nothing for {name!r}: give it no space of its own")
    value = suggestion[name]
    value = value.item() if hasattr(value, "item") else value  # numpy's scalars
    if isinstance(domain, Choice):
        value = value if _plain(domain) else domain.values[int(value)]
    elif isinstance(value, int | float):
        kind = int if isinstance(domain, Integers) else float
        value = min(max(kind(value), domain.low), domain.high)  # rounding may lead out of the bounds
    if not domain.contains(value):
        raise ValueError(
            f"the searcher suggested {name}={value!r}, which is not in {domain}: give it no space of its own"
        )
    return value


def _plain(domain: Choice) -> bool:
    """Whether every searcher can tell the categories apart, and takes them."""
    scalars = all(value is None or isinstance(value, bool | int | float | str) for value in domain.values)
    return scalars and len(set(domain.values)) == len(domain.values)

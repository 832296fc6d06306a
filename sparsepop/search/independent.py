"""Members that know nothing of each other: grids, random search, and Ray Tune's algorithms."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsepop.search.checks import check_count, check_maker, freeze_space, listed
from sparsepop.search.start import Start, member_seeds, sampled
from sparsepop.space import Choice, Domain, check_names


@dataclass(frozen=True)
class Grid:
    """Every combination of `values`, each with the same `seeds` seeds (a paired comparison); no exchange."""

    values: Mapping[str, Sequence[Any]]
    seeds: int = 1

    def __post_init__(self) -> None:
        check_names(self.values)
        check_count("seeds", self.seeds, 1)
        try:
            values = {name: Choice(tuple(listed(entry))).values for name, entry in self.values.items()}
        except ValueError as error:
            raise ValueError(f"Grid({dict(self.values)!r}): {error}") from error
        object.__setattr__(self, "values", values)

    def starts(self, seed: int) -> list[Start]:
        """The members, seeds varying slowest, the last name fastest: where members queue for devices, all
        combinations are there once before any is repeated."""
        combinations = [
            dict(zip(self.values, row, strict=True)) for row in itertools.product(*self.values.values())
        ]
        pairs = itertools.product(member_seeds(seed, self.seeds), combinations)
        return [Start(member, own, dict(hp)) for member, (own, hp) in enumerate(pairs)]


@dataclass(frozen=True)
class Sampled:
    """`members` points drawn from `space`: random search; no exchange."""

    space: Mapping[str, Domain]
    members: int

    def __post_init__(self) -> None:
        freeze_space(self)
        check_count("members", self.members, 1)

    def starts(self, seed: int) -> list[Start]:
        """The members; the first n are the same whatever `members` is."""
        return sampled(self.space, self.members, seed)


@dataclass(frozen=True)
class Tuned:
    """`members` independent members under algorithms of Ray Tune; no exchange.

    `searcher` and `scheduler` are functions without arguments, each giving a new object of Ray Tune: a
    `Searcher`, which is asked for each member's hyperparameters when a place is free, and a `TrialScheduler`
    that may stop members early (ASHA, the median rule), after reports that it sees as `generation`, `step`,
    `score`. Metric, mode and space are given to them. None: starting points as `Sampled` draws them, and
    nobody stopped. Only the functions' names are kept as part of what the experiment is: their settings may
    change between two runs of it.
    """

    space: Mapping[str, Domain]
    members: int
    searcher: Callable[[], Any] | None = None
    scheduler: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        freeze_space(self)
        check_count("members", self.members, 1)
        for name in ("searcher", "scheduler"):
            check_maker(name, getattr(self, name))
        if self.searcher is not None and not self.space:
            raise ValueError("space is empty, a searcher has nothing to suggest: name a hyperparameter")

    def starts(self, seed: int) -> list[Start]:
        """The members, as of `Sampled(space, members)`. Where a searcher suggests hyperparameters these
        stand in for them: examples, by which a recipe is checked before anything starts."""
        return sampled(self.space, self.members, seed)

"""Members of which the worst take over from the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparsepop.search.checks import check_count, check_exploits, check_known, freeze_space
from sparsepop.search.start import Start, sampled
from sparsepop.space import FACTORS, Domain, check_factors

SELECTIONS = ("truncation", "tournament")


@dataclass(frozen=True)
class PBT:
    """Population-based training (Jaderberg et al. 2017): starts as `Sampled` does, then some copy others and
    explore (each hyperparameter drawn anew with probability `resample`, else moved by one of `factors`).
    `selection`: under `truncation` the worst `quantile` copies the best one; in a `tournament` everybody
    draws an opponent and copies it if it is better, whatever the `quantile`. Synchronous populations wait for
    each other at every generation's end."""

    space: Mapping[str, Domain]
    members: int
    quantile: float = 0.25
    resample: float = 0.25
    factors: Sequence[float] = FACTORS
    synchronous: bool = True
    selection: str = "truncation"

    def __post_init__(self) -> None:
        freeze_space(self)
        check_count("members", self.members, 1)
        check_exploits(self.quantile, self.resample)
        check_known("selection", self.selection, SELECTIONS)
        object.__setattr__(self, "factors", tuple(self.factors))
        check_factors(self.factors)

    def starts(self, seed: int) -> list[Start]:
        """The members: the very starting points of `Sampled(space, members)`."""
        return sampled(self.space, self.members, seed)

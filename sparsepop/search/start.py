"""How the members of an experiment start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparsepop.space import Domain, sample, stable_rng


@dataclass(frozen=True)
class Start:
    """How one member starts: its number, the seed of everything random in it, its hyperparameters."""

    member: int
    seed: int
    hp: dict[str, Any]


def member_seeds(seed: int, count: int) -> list[int]:
    """`count` distinct seeds below 2**31 derived from an experiment's seed; the first n never depend on
    `count`."""
    rng = stable_rng("member seeds", seed)
    seeds: dict[int, None] = {}
    while len(seeds) < count:
        seeds.setdefault(rng.randrange(2**31))
    return list(seeds)


def sampled(space: Mapping[str, Domain], members: int, seed: int) -> list[Start]:
    seeds = member_seeds(seed, members)
    return [
        Start(member, own, sample(space, stable_rng("start", seed, member)))
        for member, own in enumerate(seeds)
    ]

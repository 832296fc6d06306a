"""Members that become one network, and go on from it: partitions, and superpositions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sparsepop.schedule import Every
from sparsepop.search.checks import check_count, check_exploits, check_known, freeze_space, is_number, listed
from sparsepop.search.start import Start, member_seeds, sampled
from sparsepop.space import FACTORS, Domain, check_factors

PARTITION = "partition"
FRESH = 16
"""Batches that a network's BatchNorm statistics are taken from where nobody says."""
RESTS = ("first", "mean")
LOST = ("again", "keep")
FINE_TUNE = ("first", "all")


@dataclass(frozen=True)
class PartitionParallel:
    """Parallel grow-and-prune (P-GaP, Ma et al. 2022): groups of `parts` members, each of which grows a
    partition of its own; a generation is a round, at whose end a group's partitions become one sparse network
    that all of them go on from.

    The recipe gives hp["partition"] to its `PartitionGrow(own=...)`; everything else is the same for all of a
    group: the point of `space` that it draws, the state of its first member that all start the first round
    from (after common sparse training, if the rounds begin later than step 0). Members draw different
    batches. `rest`: what no partition owns is the first member's, or the mean. `batches`: so many of them go
    into the BatchNorm statistics of the merged network. `lost`: what becomes of the partition of a member
    that is killed in mid-round: trained `again` from the round's begin (and nobody goes on without it), or
    the old one is kept (`keep`) when the others are done first. `fine_tune`: who goes on after the last
    round, the first member (the paper) or all of them.

    With a `quantile`, groups are compared between rounds as members are under `PBT`, by the scores of their
    merged networks: all members of a group of the worst quantile take over the merged network of one of the
    best, and its hyperparameters, explored (`resample`, `factors`), alike. All groups then wait for each
    other where a round ends, but after the last. None: nobody is compared.
    """

    parts: int
    groups: int = 1
    space: Mapping[str, Domain] = field(default_factory=dict)
    rest: str = "first"
    batches: int = FRESH
    lost: str = "again"
    fine_tune: str = "first"
    quantile: float | None = None
    resample: float = 0.25
    factors: Sequence[float] = FACTORS

    def __post_init__(self) -> None:
        freeze_space(self)
        check_count("parts", self.parts, 1)
        check_count("groups", self.groups, 1)
        check_count("batches", self.batches, 0)
        if PARTITION in self.space:
            raise ValueError(f"space names {PARTITION!r}, which every member has already: leave it out")
        for name, known in (("rest", RESTS), ("lost", LOST), ("fine_tune", FINE_TUNE)):
            check_known(name, getattr(self, name), known)
        if self.quantile is not None:
            check_exploits(self.quantile, self.resample)
            if self.groups < 2 or not self.space:
                raise ValueError(
                    f"quantile={self.quantile!r} with groups={self.groups} and {len(self.space)} "
                    "hyperparameter(s): use at least 2 groups and a space, or quantile=None"
                )
        object.__setattr__(self, "factors", tuple(self.factors))
        check_factors(self.factors)

    @property
    def members(self) -> int:
        return self.parts * self.groups

    def starts(self, seed: int) -> list[Start]:
        """The members, group by group, in order of their partitions."""
        points = [start.hp for start in sampled(self.space, self.groups, seed)]
        return [
            Start(member, own, {**points[member // self.parts], PARTITION: member % self.parts})
            for member, own in enumerate(member_seeds(seed, self.members))
        ]


AVERAGES = ("caa", "cima")
SCOPES = ("global", "layer")
SHARES = ("all", "worst")
ACCEPTED = ("any", "better")


@dataclass(frozen=True)
class SuperposeParallel:
    """Members that are superposed while they train: after each step that `at` names (a generation's end) the
    networks of all are averaged, pruned back to the exact count, and taken on; between these steps, and after
    the last of them, they train apart. Starts as `Sampled` does, and every member keeps its hyperparameters.

    Networks that never had anything in common have no useful average: all start from the first member's state
    after `common` steps (0: its first weights and masks), or each from its own where that is None.
    `average`: `caa` (all alike) or `cima` (moving, from the worst to the best, which has the share `factor`);
    `scope`: weights are ranked over the whole network (`global`), or each layer keeps the best member's count
    (`layer`). `share`: `all` take the superposed network on, or the `worst` `quantile` alone, and whoever has
    diverged; `accept`: `any` such network, or only one that is `better` on the validation split than each of
    them, else they go on as they are. `batches`: so many of them go into its BatchNorm statistics.
    """

    space: Mapping[str, Domain]
    members: int
    at: Every | Sequence[int]
    common: int | None = 0
    average: str = "caa"
    factor: float = 0.5
    scope: str = "global"
    share: str = "all"
    quantile: float = 0.25
    batches: int = FRESH
    accept: str = "any"

    def __post_init__(self) -> None:
        freeze_space(self)
        check_count("members", self.members, 2)
        check_count("batches", self.batches, 0)
        if self.common is not None:
            check_count("common", self.common, 0)
        if not isinstance(self.at, Every):
            object.__setattr__(self, "at", tuple(listed(self.at)))
            for step in self.at:
                check_count("at", step, 1)
        choices = {"average": AVERAGES, "scope": SCOPES, "share": SHARES, "accept": ACCEPTED}
        for name, known in choices.items():
            check_known(name, getattr(self, name), known)
        for name in ("factor", "quantile"):
            if not is_number(getattr(self, name)) or not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} is outside (0, 1]: it is a share")

    def starts(self, seed: int) -> list[Start]:
        """The members: the very starting points of `Sampled(space, members)`."""
        return sampled(self.space, self.members, seed)

    def due(self, step: int) -> bool:
        """Whether the members are superposed after `step`."""
        return self.at(step) if isinstance(self.at, Every) else step in self.at

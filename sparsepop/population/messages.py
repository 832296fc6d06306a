"""What members tell the exchange and what it answers, and how both are written as strict JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from sparsepop.space import freeze

_FLOAT = "$float"


@dataclass(frozen=True)
class Post:
    """What a member says of itself at the end of a generation; a missing or non-finite score means
    diverged. `density` is the one that the score speaks of, at which members are compared."""

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


def go_on(post: Post) -> Assignment:
    """The member goes on as it is."""
    return Assignment(post.member, post.generation, None, post.hp, None, "go on")


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

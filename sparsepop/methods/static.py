"""A random mask that never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsepop.budgets import check_density, check_distribution
from sparsepop.masks import random_mask
from sparsepop.methods.base import Method

if TYPE_CHECKING:
    from sparsepop.member import Member


@dataclass(frozen=True)
class Static(Method):
    """Train a random subnetwork: `density` spread over the layers as `distribution` (uniform, er, erk) says,
    exact to the weight.
    """

    density: float
    distribution: str = "erk"

    def __post_init__(self) -> None:
        check_density(self.density)
        check_distribution(self.distribution)

    def start(self, member: Member) -> None:
        set_random_masks(member, member.masks.allocate(self.density, self.distribution))

    def needs_masks_at(self) -> int:
        return 0

    def density_at(self, step: int) -> float:
        return self.density


def set_random_masks(member: Member, counts: Mapping[str, int]) -> None:
    """Give each layer a random mask with exactly the given number of alive weights. Raises ValueError where
    an earlier method has set masks already: they would be gone without a word.
    """
    if not member.masks.all_alive:
        raise ValueError(
            f"random masks would replace those of an earlier method, at density {member.masks.density:.4g}: "
            "have one method alone set the first masks; from masks that are there explore with "
            "DropGrow(None, ...), and a FromTicket that brings weights may follow the others"
        )
    generator = member.generator("initial masks")
    shapes = member.masks.shapes
    member.masks.set(
        {name: random_mask(shapes[name], n, generator) for name, n in counts.items()}, member.optimizer
    )

"""Ordinary training, then short cycles: the run of Sup-tickets, and its learning rate."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from fractions import Fraction

from sparsepop.schedule.base import Schedule, as_schedule, check_whole
from sparsepop.schedule.due import Every


@dataclass(frozen=True)
class TwoPhases:
    """A run in two phases: `before` steps of ordinary training, then `cycles` cycles of `length` steps."""

    before: int
    length: int
    cycles: int

    def __post_init__(self) -> None:
        check_whole(self, "before", "length", "cycles")
        if self.before < 1 or self.length < 2 or self.cycles < 0:
            raise ValueError(
                f"phases need before >= 1, length >= 2 and cycles >= 0, got before={self.before}, "
                f"length={self.length}, cycles={self.cycles}: give the cycles a smaller share of the run"
            )

    @property
    def end(self) -> int:
        return self.before + self.cycles * self.length

    @property
    def starts(self) -> Every:
        """The steps at which a cycle begins."""
        return Every(self.length, self.before, self.before + (self.cycles - 1) * self.length)

    @property
    def ends(self) -> Every:
        """The steps after which the first phase, and each cycle, is complete."""
        return Every(self.length, self.before, self.end)


def split(total: int, share: float, length: int) -> TwoPhases:
    """As many whole cycles of `length` as fit into the last `share` of `total` (Yin et al. 2022, released
    code), in any one unit: steps or epochs.

    Exact: `share` means the decimal number that it prints as. Warns where no cycle fits; then all is phase 1.
    """
    if not 0.0 <= share < 1.0 or length < 2:
        raise ValueError(
            f"the cycles' share must lie in [0, 1) and a cycle must have at least 2 steps, "
            f"got share={share} and length={length}"
        )
    cycles = int(total * Fraction(str(share)) // length)
    if cycles == 0 and share > 0:
        warnings.warn(
            f"no cycle of {length} fits into {share:g} of {total}: all of it is ordinary training; "
            "use shorter cycles or a larger share",
            stacklevel=2,
        )
    return TwoPhases(total - cycles * length, length, cycles)


@dataclass(frozen=True)
class Triangular:
    """`before` during the first phase; then in each cycle linearly up from `lr_low` to `lr_high` and down
    again (Yin et al. 2022, released code; Garipov et al. 2018, "Loss surfaces, mode connectivity, and fast
    ensembling of DNNs", has the same triangle the other way up).

    The n-th of a cycle's N steps (from 1) has u = n / N, so the last step of every cycle takes `lr_low`
    exactly, and so does whatever follows. Sup-tickets' released code calls these lr_1 and lr_2.
    """

    lr_low: float
    lr_high: float
    phases: TwoPhases
    before: float | Schedule

    def __post_init__(self) -> None:
        if not 0.0 <= self.lr_low <= self.lr_high:
            raise ValueError(
                f"a cycle needs 0 <= lr_low <= lr_high, got lr_low={self.lr_low} and lr_high={self.lr_high}: "
                "tickets are taken where the rate is low"
            )

    @property
    def end(self) -> int:
        return self.phases.end

    def __call__(self, step: int) -> float:
        done = step - self.phases.before
        if done < 0:
            return as_schedule(self.before)(step)
        if step >= self.end:
            return self.lr_low
        return self.at((done % self.phases.length + 1) / self.phases.length)

    def at(self, u: float) -> float:
        """The learning rate when the share u (0..1) of a cycle has passed."""
        rise = 2.0 * min(u, 1.0 - u)
        return self.lr_low * (1.0 - rise) + self.lr_high * rise

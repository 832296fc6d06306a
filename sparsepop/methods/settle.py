"""Schedules of the density that end in a member while the masks are another's, in mid-schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsepop.methods.base import Method
from sparsepop.schedule import Schedule, last_change

if TYPE_CHECKING:
    from sparsepop.member import Member


def reach(member: Member, method: Method, density: float) -> None:
    """Remember that `method` has brought the masks to `density`."""
    member.memory_of(method)["density"] = density


def owes(member: Member, method: Method, schedule: Schedule) -> bool:
    """Whether the last change of `schedule` is over, and the masks, taken over from a member whose own was
    not, are still elsewhere.
    """
    # what was last reached, not what is alive: a method behind this one may move weights between layers
    final = schedule(member.step)
    due = member.step >= last_change(schedule)
    return due and member.memory_of(method).get("density", final) != final

"""The end of a soft phase: masks that were only observed become masks that hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from sparsepop.masks import Masks

if TYPE_CHECKING:
    from sparsepop.member import Member

Select = Callable[[Masks], Mapping[str, Tensor]]


def harden(member: Member, select: Select | None = None) -> None:
    """Make the network plain and its masks hold from here on; where they hold already, only `select` is
    done.

    `member.masks.enforced` says in which phase a member is: a soft method sets it to False in `start` and
    changes nothing in any hook once it is True. Here each soft method's `harden` writes its masks and leaves
    plain modules (reverse order, as `finish`); `select` may then choose other masks, while pruned weights
    still have their values; last, pruned weights and their optimizer state become zero and the optimizer
    forgets the parameters that are gone. Syncs the host.
    """
    masks = member.masks
    if masks.enforced:
        masks.set(select(masks) if select is not None else {}, member.optimizer)
        return
    for method in reversed(member.recipe.methods):
        method.harden(member)
    masks.set(select(masks) if select is not None else {})
    masks.enforced = True
    masks.set(dict(masks.tensors), member.optimizer)
    member.rewire()

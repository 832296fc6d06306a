"""Whether members can take part in the same rounds of parallel grow-and-prune."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sparsepop.describe import differences, to_json
from sparsepop.methods.partition_grow import PartitionGrow, growth_of
from sparsepop.recipe import Recipe
from sparsepop.schedule import Phases


def common_rounds(recipes: Sequence[Recipe]) -> Phases:
    """The rounds of members with these recipes; ValueError unless they grow the partitions 0, 1, ... in
    order, all that there are, and differ in nothing else.
    """
    parts = [growth_of(recipe) for recipe in recipes]
    if [part.own for part in parts] != list(range(len(parts))) or len(parts) != parts[0].partition.parts:
        raise ValueError(
            f"recipes grow the partitions {[part.own for part in parts]} of {parts[0].partition.parts}: give "
            f"as many members as partitions, one for each of 0..{parts[0].partition.parts - 1}, in order"
        )
    for recipe in recipes:
        if found := differences(_of_nobody(recipes[0]), _of_nobody(recipe)):
            raise ValueError(
                f"recipes differ in more than the partition they grow ({'; '.join(found[:3])}): "
                "use one recipe for all"
            )
    return parts[0].rounds


def _of_nobody(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it is described, for functions that it makes anew each time are the same."""
    methods = [replace(each, own=0) if isinstance(each, PartitionGrow) else each for each in recipe.methods]
    described: dict[str, Any] = to_json(replace(recipe, methods=tuple(methods)))
    return described

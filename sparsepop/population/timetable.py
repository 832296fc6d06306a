"""When the rounds of an experiment are, read off its recipes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sparsepop.experiment import Experiment, PartitionParallel, SuperposeParallel
from sparsepop.merge import common_rounds
from sparsepop.population.partitions import PartitionRounds
from sparsepop.population.rounds import Rounds
from sparsepop.population.superpositions import Superpositions
from sparsepop.recipe import Recipe
from sparsepop.schedule import Every, Phases
from sparsepop.space import edges

_SCORES = {"validation_accuracy": "merged", "validation_loss": "merged_loss"}  # numbers of a merge


def rounds_of(experiment: Experiment) -> Rounds | None:
    """The rounds in generations; None where nothing is merged. ValueError where the recipes of a group do not
    fit together, or rounds are no generations, or not the same in all groups.
    """
    search = experiment.search
    if isinstance(search, PartitionParallel):
        return _partition_rounds(experiment, search)
    return _superpositions(experiment, search) if isinstance(search, SuperposeParallel) else None


def _partition_rounds(experiment: Experiment, search: PartitionParallel) -> PartitionRounds:
    found = {common_rounds([experiment.recipe(hp) for hp in group]) for group in _groups(experiment, search)}
    if len(found) > 1:
        raise ValueError(
            "the groups differ in their rounds, or may come to by exploring: keep what decides them out of "
            "the space"
        )
    (phases,) = found
    start, last = _in_generations(phases, experiment.generation)
    if search.quantile is None:
        return PartitionRounds(search, start, last)
    if experiment.score not in _SCORES:
        raise ValueError(
            f"groups are compared by their merged networks, which have no {experiment.score!r}: score by "
            f"{' or '.join(_SCORES)}, or leave quantile out"
        )
    if last - start < 2:
        raise ValueError("groups are compared between rounds, and there is one alone: make it two, or more")
    return PartitionRounds(search, start, last, _SCORES[experiment.score], experiment.mode, experiment.seed)


def _groups(experiment: Experiment, search: PartitionParallel) -> Iterator[list[dict[str, Any]]]:
    """The members' hyperparameters by group, as they start; then the first group's as it may explore."""
    hps = [dict(start.hp) for start in experiment.starts()]
    yield from (hps[i : i + search.parts] for i in range(0, len(hps), search.parts))
    for name, value in edges(search.space) if search.quantile is not None else ():
        yield [{**hp, name: value} for hp in hps[: search.parts]]


def _in_generations(phases: Phases, generation: int) -> tuple[int, int]:
    begin, count = (phases.spans[0][0] if phases.spans else 0), len(phases.spans)
    if not count or begin % generation or phases != Phases.regular(generation, count, begin):
        raise ValueError(
            f"a round must be one generation of {generation} steps, and begin with one, got {phases.spans}: "
            "use PartitionGrow(rounds=Phases.regular(generation, count, begin))"
        )
    start = begin // generation
    return start, start + count


def _superpositions(experiment: Experiment, search: SuperposeParallel) -> Superpositions:
    starts, length = experiment.starts(), experiment.generation
    recipes = [experiment.recipe(dict(start.hp)) for start in starts]
    begin = -1 if search.common is None else search.common
    steps = [step for step in range(max(begin, 0) + 1, recipes[0].steps) if search.due(step)]
    if not steps:
        raise ValueError(
            f"at={search.at} names no step between the start of all members and the last step "
            f"{recipes[0].steps}: superpose earlier, or train longer"
        )
    named = () if isinstance(search.at, Every) else search.at
    if never := sorted(set(named) - set(steps)):
        raise ValueError(
            f"at={search.at} names step {never[0]}, not between the start of all members and the last step "
            f"{recipes[0].steps}: leave it out"
        )
    if odd := [step for step in (*steps, max(begin, 0)) if step % length]:
        raise ValueError(f"step {odd[0]} ends no generation of {length} steps: exchange at multiples")
    _check_averages(recipes, steps)
    ends = tuple(step // length for step in steps)
    start = begin // length
    return Superpositions(search, ends, start, experiment.mode, {each.member: each.hp for each in starts})


def _check_averages(recipes: Sequence[Recipe], steps: Sequence[int]) -> None:
    """ValueError where the members' networks have no average, or one that would not suit all of them."""
    for recipe in recipes:
        if steps[0] < recipe.masks_hold_from:
            raise ValueError(f"an average needs masks that hold at {recipe.without_masks(steps[0])}")
    for step in steps:
        if len({tuple(method.plain_at(step) for method in recipe.methods) for recipe in recipes}) > 1:
            raise ValueError(
                f"members differ in their networks' modules after step {step}: keep what decides them out of "
                "the space"
            )
        densities = sorted({recipe.density_at(step) for recipe in recipes})
        if len(densities) > 1:
            raise ValueError(
                f"members differ in their densities after step {step} ({densities[0]}, {densities[1]}): keep "
                "what decides them out of the space"
            )

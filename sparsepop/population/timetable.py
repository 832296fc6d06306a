"""When the rounds of an experiment are, read off its recipes."""

from __future__ import annotations

from sparsepop.experiment import Experiment, PartitionParallel
from sparsepop.merge import agreed
from sparsepop.population.rounds import Rounds
from sparsepop.schedule import Phases


def rounds_of(experiment: Experiment) -> Rounds | None:
    """The rounds in generations; None where nothing is merged. ValueError where the recipes of a group do not
    fit together, or rounds are no generations, or not the same in all groups.
    """
    search = experiment.search
    if not isinstance(search, PartitionParallel):
        return None
    recipes = [experiment.recipe(dict(start.hp)) for start in experiment.starts()]
    found = {agreed(recipes[i : i + search.parts]) for i in range(0, len(recipes), search.parts)}
    if len(found) > 1:
        raise ValueError("the groups differ in their rounds: keep what decides them out of the space")
    (phases,) = found
    return Rounds(search, *_in_generations(phases, experiment.generation))


def _in_generations(phases: Phases, generation: int) -> tuple[int, int]:
    begin, count = (phases.spans[0][0] if phases.spans else 0), len(phases.spans)
    if not count or begin % generation or phases != Phases.regular(generation, count, begin):
        raise ValueError(
            f"a round must be one generation of {generation} steps, and begin with one, got {phases.spans}: "
            "use PartitionGrow(rounds=Phases.regular(generation, count, begin))"
        )
    start = begin // generation
    return start, start + count

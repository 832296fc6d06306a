"""What is refused before any member starts, and the note on storage of what an experiment is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from sparsepop.config import ConfigError, blamed, check, describe
from sparsepop.data import KNOWN, Data, data_home, open_data
from sparsepop.describe import differences
from sparsepop.experiment import PBT, Experiment, Grid, PartitionParallel, Search, SuperposeParallel
from sparsepop.ledger import state_bytes
from sparsepop.member import Member, Task
from sparsepop.methods import Partition
from sparsepop.methods.harden import harden
from sparsepop.models import model_name
from sparsepop.optim import AdamW
from sparsepop.population.loggers import check_loggers
from sparsepop.population.room import check_room, needed_bytes
from sparsepop.population.rules import impossible
from sparsepop.population.timetable import rounds_of
from sparsepop.population.tuned import check_tuned
from sparsepop.ranks import plain_norms
from sparsepop.recipe import Recipe
from sparsepop.results import SCHEMAS
from sparsepop.results.reader import NOTE, description
from sparsepop.space import edges
from sparsepop.storage import Storage
from sparsepop.tickets import check_plain_at

DELETING = "deleting"  # stands in the note while an earlier run's files go


def with_flags(
    experiment: Experiment,
    members: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    name: str | None = None,
) -> Experiment:
    """The experiment with what the command line sets: the population's size, the members' workers, its seed,
    its name; and its data folder absolute: members run in other folders than the driver."""
    experiment = replace(experiment, data=located(experiment.data))
    try:
        if seed is not None:
            experiment = replace(experiment, seed=seed)
        if name is not None:
            experiment = replace(experiment, name=name)
        if members is not None:
            experiment = replace(experiment, search=_sized(experiment, members))
        if workers is not None:
            experiment = replace(experiment, resources=replace(experiment.resources, workers=workers))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if seed is not None or members is not None:
        check(experiment)  # other members than those that were checked when the config was loaded
    return experiment


def _sized(experiment: Experiment, members: int) -> Search:
    if isinstance(experiment.search, Grid):
        raise ConfigError(f"--members={members} does not fit a Grid: its values say how many")
    if isinstance(experiment.search, PartitionParallel):
        raise ConfigError(f"--members={members} does not fit PartitionParallel: its parts say how many")
    return replace(experiment.search, members=members)


def located(where: str) -> str:
    """A data folder as an absolute path; the name of a data set as it is."""
    folder = Path(os.path.expanduser(where))
    named = where in KNOWN or (data_home() / where).is_dir()
    return str(folder.resolve()) if not named and folder.is_dir() else where


def check_experiment(experiment: Experiment) -> int:
    """Open the data set and build a member of every kind; ConfigError says what cannot work. Returns the
    bytes of the largest member's state, roughly."""
    check_tuned(experiment)
    check_loggers(experiment)
    hps = [start.hp for start in experiment.starts()]
    recipes = [*(experiment.recipe(dict(hp)) for hp in hps), *_explored(experiment, hps[0])]
    if wrong := [recipe for recipe in recipes if not isinstance(recipe, Recipe)]:
        raise ConfigError(f"recipe(hp) gives a {type(wrong[0]).__name__}: return a sparsepop.recipe.Recipe")
    generations = min(-(-recipe.steps // experiment.generation) for recipe in recipes)
    search = experiment.search
    if reason := impossible(search, generations) or unlike(experiment, recipes) or apart(experiment, recipes):
        raise ConfigError(reason)
    try:
        rounds_of(experiment)
        _check_harvest(experiment, recipes)
        return _build(experiment, recipes)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except Exception as error:  # of a method or a model that is not ours
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"a first member could not be built: {told} ({blamed(error)})") from error


def _explored(experiment: Experiment, hp: Mapping[str, Any]) -> Iterator[Recipe]:
    """A member's recipe with, in turn, each category and each bound that an exchange may move it to: nobody
    may start with such a category, and hardly anybody starts on a bound. ConfigError where one is refused.
    """
    search = experiment.search
    if not isinstance(search, PBT | PartitionParallel) or search.quantile is None:
        return
    for name, value in edges(search.space):
        try:
            yield experiment.recipe({**hp, name: value})
        except ValueError as error:
            reason = f"an exchange may move a member to {name}={value!r}, and then: {error}"
            raise ConfigError(f"{reason}; narrow its domain in the space") from error


def _check_harvest(experiment: Experiment, recipes: Iterable[Recipe]) -> None:
    """ValueError where a step is named at which some member can leave no ticket."""
    steps = () if isinstance(experiment.harvest, str) else experiment.harvest
    for recipe in recipes:
        for step in steps:
            check_plain_at(recipe, step)
            if step > recipe.steps:
                raise ValueError(f"harvest names step {step}, the last one is {recipe.steps}: leave it out")


def unlike(experiment: Experiment, recipes: Iterable[Recipe]) -> str | None:
    """Why the members of a population cannot be compared, or None when they can, or never are."""
    search = experiment.search
    groups = isinstance(search, PartitionParallel) and search.quantile is not None
    if not groups and not isinstance(search, PBT | SuperposeParallel):
        return None
    for name in ("steps", "density", "model", "keep_dense", "methods"):
        values = sorted({_shared(recipe, name) for recipe in recipes})
        if len(values) > 1:
            shown = " or ".join(map(str, values[:5]))
            return f"members of a population must agree on {name}, these have {shown}: fix it, or use Sampled"
    return None


def _shared(recipe: Recipe, name: str) -> Any:
    """What `recipe` has of that which all members must have alike, comparable and fit to be shown."""
    if name == "model":
        return model_name(recipe.model)
    if name == "methods":  # a state holds what each of them remembers, in their order
        return ", ".join(type(method).__name__ for method in recipe.methods) or "none"
    return getattr(recipe, name)


def apart(experiment: Experiment, recipes: Iterable[Recipe]) -> str | None:
    """Why no two members of a population would ever meet at one density, or None when they do."""
    if not isinstance(experiment.search, PBT):
        return None
    for recipe in recipes:
        last = (recipe.steps - 1) // experiment.generation * experiment.generation
        if recipe.learns_density(last) and recipe.density_of(experiment.score) is None:
            return (
                f"density is still learned at the last exchange (step {last}), so no two members would be "
                f"compared by {experiment.score}: give the recipe AtDensity((0.05,)) and the experiment "
                "score='accuracy_at_0.05', or a Cut by that step"
            )
    return None


def _build(experiment: Experiment, recipes: Iterable[Recipe]) -> int:
    data = open_data(experiment.data)
    kinds: dict[object, Recipe] = {}
    for recipe in recipes:
        data.steps_per_epoch(recipe.batch)
        if recipe.batch % (workers := experiment.resources.workers):
            raise ConfigError(
                f"a batch of {recipe.batch} images has no equal parts for {workers} workers: use a multiple"
            )
        # not what else they hold: a population that searches numbers would be built once for each member
        cuts = (getattr(method, "partition", None) for method in recipe.methods)
        methods = tuple(map(type, recipe.methods)), tuple(cut for cut in cuts if isinstance(cut, Partition))
        kind = (recipe.model, recipe.keep_dense, methods, recipe.density, recipe.norms)
        kinds.setdefault(kind, recipe)
    return max(_check_member(experiment, recipe, data) for recipe in kinds.values())


def _check_member(experiment: Experiment, recipe: Recipe, data: Data) -> int:
    member = Member.build(recipe, experiment.seed, Task(data.shape, data.classes))
    if experiment.resources.workers > 1 and recipe.norms == "synchronised":
        plain_norms(member.model)
    # a schedule gets there only after hours, a budget that is too small for it is known now
    member.masks.allocate(recipe.density)
    measured = _measured(member)
    if not member.masks.enforced:
        # the last report comes after the soft phase
        harden(member)
        later = _measured(member)
        measured = [name for name in measured if name in later]
    columns = [field.name for field in SCHEMAS["reports"] if pa.types.is_floating(field.type)]
    # never the test split: members that are chosen by it would be reported by it too
    known = [name for name in columns if name != "score" and not name.startswith("test_")]
    if experiment.score not in (*known, *measured):
        raise ConfigError(
            f"no report has a score called {experiment.score!r}: use one of {', '.join(known + measured)}"
        )
    return _state_bytes(member)


def _measured(member: Member) -> list[str]:
    """Names of the numbers that methods report as `member` is now."""
    return [
        name
        for method in member.recipe.methods
        for name in (*method.measure(member), *method.examine(member, None))
    ]


def _state_bytes(member: Member) -> int:
    """What a state of `member` will take: weights, masks, and the optimizer's buffers, which are not there
    yet."""
    buffers = 2 if isinstance(member.recipe.optimizer, AdamW) else 1
    weights = state_bytes(member.model.parameters())
    rest = state_bytes(member.model.buffers()) + state_bytes(member.masks.tensors.values())
    return (1 + buffers) * weights + rest


def check_storage(experiment: Experiment, storage: Storage, *, fresh: bool, largest: int = 0) -> None:
    """Raise StorageError where nothing can be written or too little room is left for the members' states of
    about `largest` bytes each, ConfigError where something else lies already, ResultsError where its note is
    damaged; leaves everything as it was."""
    check_room(storage, needed_bytes(len(experiment.starts()), largest))
    storage.check_writable()
    if storage.exists(NOTE):
        if not fresh:
            _check_same(experiment, storage)
    elif found := storage.names():
        raise ConfigError(
            f"{storage} holds {found[0]} and is no experiment: give this one another --name or --storage"
        )


def _check_same(experiment: Experiment, storage: Storage) -> None:
    noted = description(storage)
    if DELETING in noted:
        raise ConfigError(f"what lay in {storage} was only deleted in part: start over with --fresh again")
    if changes := differences(noted, describe(experiment)):
        raise ConfigError(
            f"the experiment in {storage} was started with another config ({'; '.join(changes[:5])}): "
            "give this one another name (--name), undo the change, or start over with --fresh"
        )


def begin(experiment: Experiment, storage: Storage, *, fresh: bool) -> None:
    """Note on storage what the experiment is; `fresh` deletes what an earlier run of it left."""
    if fresh:
        # first, so that nobody goes on from half of what an interrupted deletion leaves
        storage.write(NOTE, json.dumps({DELETING: True}).encode())
        storage.clear(keep=NOTE)
    storage.write(NOTE, json.dumps(describe(experiment), indent=1).encode())

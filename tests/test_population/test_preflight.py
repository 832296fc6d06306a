"""What is refused before anything starts, and that refusing leaves no trace."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from sparsepop.config import ConfigError
from sparsepop.experiment import PARTITION, PBT, Experiment, Grid, PartitionParallel, Resources, Sampled
from sparsepop.member import Task
from sparsepop.methods import AtDensity, Cut, Method, PhaseDyReLU, Thresholds, gap, gmp
from sparsepop.optim import SGD
from sparsepop.population.preflight import (
    begin,
    check_experiment,
    check_storage,
    located,
    with_flags,
)
from sparsepop.recipe import Recipe
from sparsepop.results import SCHEMAS
from sparsepop.schedule import Linear
from sparsepop.space import Choice, Domain, Integers, Uniform
from sparsepop.storage import Storage, StorageError
from tests.test_population.rounds import SEARCH, maker, parallel
from tests.test_population.worlds import SPACE, experiment, recipe

PARTS: dict[str, Domain] = {"parts": Choice((2, 3, 12))}


def parted(hp: dict[str, Any]) -> Recipe:
    return Recipe("lenet-300-100", 32, gap(0.1, 32, parts=hp["parts"], length=4), batch=16)


def soft_recipe(hp: dict[str, Any]) -> Recipe:
    return Recipe("lenet-300-100", 32, (Thresholds(1e-4),), batch=32)


def with_recipe(**changes: Any) -> Callable[[dict[str, Any]], Recipe]:
    return lambda hp: replace(recipe(hp), **changes)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (experiment(data="imaginary"), "unknown data set 'imaginary'"),
        (experiment(data="/nowhere/at/all"), "no data folder '/nowhere/at/all'"),
        (experiment(recipe=with_recipe(model="resnet-21")), "'?resnet-21"),
        (experiment(recipe=with_recipe(model="lenet-5")), "8"),
        (experiment(recipe=with_recipe(batch=5000)), "batch size 5000"),
        (experiment(recipe=with_recipe(keep_dense=("nose",))), "'nose'"),
        (experiment(recipe=with_recipe(methods=gmp(1e-5, 32))), "keeps 1 of 50200 weights"),
        (experiment(score="accurracy"), "'accurracy'.*validation_accuracy"),
        (experiment(score="test_accuracy"), "'test_accuracy'"),
        (experiment(PBT(SPACE, members=1)), "at least 2 members"),
        (
            experiment(PBT({}, members=4), recipe=lambda hp: recipe({"lr": 0.1, "fraction": 0.3})),
            "empty space",
        ),
        (
            experiment(recipe=lambda hp: replace(recipe(hp), steps=32 if hp["lr"] > 0.1 else 40)),
            "agree on steps, these have 32 or 40",
        ),
        (
            experiment(
                recipe=lambda hp: replace(
                    recipe(hp), methods=gmp(0.1, 32) if hp["lr"] > 0.1 else recipe(hp).methods
                )
            ),
            "agree on methods, these have DropGrow or Magnitude",
        ),
        (experiment(recipe=lambda hp: SGD()), r"gives a SGD: return a sparsepop\.recipe\.Recipe"),
        (
            experiment(
                recipe=lambda hp: replace(recipe(hp), methods=() if hp["lr"] > 0.1 else recipe(hp).methods)
            ),
            "agree on density, these have 0.1 or 1.0",
        ),
        (
            # what a soft method reports no more once its masks hold
            experiment(Grid({}), recipe=soft_recipe, score="recovered"),
            "no report has a score called 'recovered': use one of .*, resets$",
        ),
        (experiment(harvest=(8, 40)), "harvest names step 40, the last one is 32"),
        (
            experiment(recipe=with_recipe(methods=(PhaseDyReLU(Linear(1.0, 0.0, 10)),)), harvest=(16, 8)),
            "no ticket after step 8: PhaseDyReLU has modules of its own in the network up to step 10",
        ),
        (
            parallel(maker(), PartitionParallel(1)),
            r"the partitions \[0\] of 2: give.*one for each of 0\.\.1",
        ),
        (parallel(lambda hp: maker()({PARTITION: 0})), r"the partitions \[0, 0\] of 2: give as many"),
        (parallel(lambda hp: replace(maker()(hp), batch=16 + 16 * hp[PARTITION])), "more than the partition"),
        (parallel(lambda hp: replace(maker()(hp), methods=gmp(0.1, 8))), "needs one PartitionGrow"),
        (replace(parallel(maker()), generation=3), r"one generation of 3 steps.*\(2, 4\)"),
        (replace(parallel(maker(begin=1)), generation=4), "one generation of 4 steps"),
        (
            parallel(
                lambda hp: maker(rounds=hp["rounds"])(hp),
                PartitionParallel(2, groups=9, space={"rounds": Integers(1, 3)}),
            ),
            "groups differ in their rounds",
        ),
        # all groups start with as many rounds, and an exchange may change that
        (
            parallel(
                lambda hp: replace(maker(rounds=hp["rounds"])(hp), steps=16),
                PartitionParallel(2, groups=2, space={"rounds": Choice((2, 4))}, quantile=0.5),
                seed=2,
            ),
            "groups differ in their rounds, or may come to by exploring",
        ),
        (experiment(Grid({"parts": [2, 12]}), recipe=parted), "12 partitions are more than the 3 layers"),
        # nobody starts on a bound, and an exchange may move a member onto it
        (
            experiment(
                PBT({"momentum": Uniform(0.5, 1.0)}, 2),
                recipe=lambda hp: Recipe("lenet-300-100", 8, (), SGD(0.1, momentum=hp["momentum"])),
            ),
            r"an exchange may move a member to momentum=1\.0, and then: momentum must lie in \[0, 1\)",
        ),
        # both members start with two, and an exchange may change it
        (experiment(PBT(PARTS, 2), recipe=parted, seed=3), "12 partitions are more than the 3 layers"),
    ],
)
def test_an_experiment_that_cannot_work_is_refused_in_one_line(changed: Experiment, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_experiment(changed)
    assert "\n" not in str(caught.value)


class Activated(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def with_own_norm(task: Task) -> nn.Module:
    flat = math.prod((4, *(side - 2 for side in task.shape[1:])))
    return nn.Sequential(
        nn.Conv2d(task.shape[0], 4, 3), Activated(4), nn.Flatten(), nn.Linear(flat, task.classes)
    )


def test_a_norm_that_workers_cannot_synchronise_is_refused_at_once() -> None:
    """Whichever of the members has it, unless its norms are local."""

    def made(hp: dict[str, Any], norms: str) -> Recipe:
        first = replace(recipe({"fraction": 0.3, **hp}), model=with_own_norm, norms="local")
        return replace(first, norms=norms) if hp["lr"] > 0.1 else first

    shared = experiment(Grid({"lr": [0.1, 0.2]}), resources=Resources(cpus=2, workers=2))
    with pytest.raises(ConfigError, match=r"1 is a Activated.*norms='local'"):
        check_experiment(replace(shared, recipe=lambda hp: made(hp, "synchronised")))
    check_experiment(replace(shared, recipe=lambda hp: made(hp, "local")))
    alone = replace(shared, resources=Resources(cpus=1))
    check_experiment(replace(alone, recipe=lambda hp: made(hp, "synchronised")))


def test_a_score_may_be_a_number_that_takes_images() -> None:
    def seen(hp: dict[str, Any]) -> Recipe:
        return replace(recipe(hp), methods=(*recipe(hp).methods, AtDensity((0.05,))))

    check_experiment(experiment(recipe=seen, score="accuracy_at_0.05"))
    with pytest.raises(ConfigError, match=r"'accuracy_at_0\.1'.*accuracy_at_0\.05"):
        check_experiment(experiment(recipe=seen, score="accuracy_at_0.1"))


def learned(score: str, *more: Method) -> Experiment:
    return experiment(recipe=with_recipe(methods=(Thresholds(0.01), *more)), score=score)


def test_learned_densities_need_a_score_that_does_not_ask_for_them() -> None:
    """The last exchange is at step 24."""
    for methods in ((), (AtDensity((0.05,)),), (Cut(0.05, 25),)):
        with pytest.raises(ConfigError, match=r"exchange \(step 24\).*AtDensity.*Cut by that step"):
            check_experiment(learned("validation_accuracy", *methods))
    check_experiment(learned("accuracy_at_0.05", AtDensity((0.05,))))
    check_experiment(learned("validation_accuracy", Cut(0.05, 24)))
    check_experiment(replace(learned("validation_accuracy"), search=Sampled(SPACE, 2)))


def test_too_long_a_generation_never_exchanges() -> None:
    with pytest.raises(ConfigError, match="make the generation shorter"):
        check_experiment(replace(experiment(), generation=32))


@pytest.mark.parametrize("search", [Grid({"lr": [0.1, 0.2], "fraction": [0.3]}), Sampled(SPACE, 2)])
def test_members_that_never_exchange_may_differ(search: Any) -> None:
    changed = experiment(search, recipe=lambda hp: replace(recipe(hp), steps=32 if hp["lr"] > 0.1 else 40))
    check_experiment(replace(changed, generation=40))


@pytest.mark.parametrize("score", ["validation_accuracy", "train_loss", "validation_loss"])
def test_scores_are_columns_of_the_reports(score: str) -> None:
    check_experiment(experiment(score=score))


def test_flags_change_the_experiment() -> None:
    assert with_flags(experiment(), members=7).search == PBT(SPACE, members=7, quantile=0.34)
    assert with_flags(experiment(), workers=1) == experiment()
    assert with_flags(experiment(), seed=5).seed == 5
    assert with_flags(experiment(), name="other").name == "other"


@pytest.mark.parametrize(
    ("changed", "flags", "message"),
    [
        (experiment(), {"workers": 0}, "workers"),
        (experiment(), {"members": 0}, "members"),
        (experiment(), {"seed": -1}, "seed=-1"),
        (experiment(), {"name": "a/b"}, "'a/b' is no folder name"),
        (experiment(Grid({"lr": [1.0]})), {"members": 3}, "--members=3 does not fit a Grid"),
    ],
)
def test_flags_that_cannot_be(changed: Experiment, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_flags(changed, **flags)


def test_a_relative_data_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "home" / "known").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPARSEPOP_DATA", str(tmp_path / "home"))
    assert located("mine") == str(tmp_path / "mine")
    assert located("known") == "known"
    assert located("digits") == "digits"
    assert located("absent") == "absent"
    assert with_flags(experiment(data="mine")).data == str(tmp_path / "mine")


def test_checking_storage_leaves_no_trace(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "a" / "b" / "small"))
    check_storage(experiment(), storage, fresh=False)
    assert list(tmp_path.iterdir()) == []


def test_storage_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot write below .*/file/small"):
        check_storage(experiment(), Storage(str(tmp_path / "file" / "small")), fresh=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_storage_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot write below"):
        check_storage(experiment(), Storage(str(tmp_path / "small")), fresh=True)


def test_a_changed_config_is_refused_and_named(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "small"))
    begin(experiment(), storage, fresh=False)
    check_storage(experiment(resources=Resources(cpus=2)), storage, fresh=False)
    before = storage.read("experiment.json")
    changed = experiment(seed=3)
    with pytest.raises(ConfigError, match=r"another config \(seed: 0 -> 3.*--fresh"):
        check_storage(changed, storage, fresh=False)
    check_storage(changed, storage, fresh=True)
    assert storage.read("experiment.json") == before
    assert storage.names() == ["experiment.json"]


def test_fresh_deletes_what_was_there(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "small"))
    begin(experiment(), storage, fresh=False)
    for folder in ("posts", "decisions", "states", "attempts", *SCHEMAS):
        storage.write(f"{folder}/x", b"")
    begin(experiment(), storage, fresh=False)
    assert len(storage.names()) == 5 + len(SCHEMAS)
    begin(experiment(), storage, fresh=True)
    assert storage.names() == ["experiment.json"]


def test_a_deletion_that_was_interrupted_is_told_and_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path / "small"))
    begin(experiment(), storage, fresh=False)
    storage.write("states/x", b"")

    def interrupted(self: Storage, keep: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "clear", interrupted)
        with pytest.raises(KeyboardInterrupt):
            begin(experiment(), storage, fresh=True)
    with pytest.raises(ConfigError, match="deleted in part: start over with --fresh again"):
        check_storage(experiment(), storage, fresh=False)
    check_storage(experiment(), storage, fresh=True)
    begin(experiment(), storage, fresh=True)
    assert storage.names() == ["experiment.json"]
    check_storage(experiment(), storage, fresh=False)


def test_members_that_the_command_line_adds_are_checked_too() -> None:
    """The config was loaded, and checked, with its own seed and size."""

    def picky(hp: dict[str, Any]) -> Recipe:
        if hp["lr"] != first["lr"]:
            raise KeyError("nose")
        return recipe(hp)

    sampled = experiment(Sampled(SPACE, members=1), recipe=picky)
    first = sampled.starts()[0].hp
    more: list[dict[str, Any]] = [{"members": 2}, {"seed": 3}]
    for flags in more:
        with pytest.raises(ConfigError, match=r"recipe\(hp\) of member .* raised KeyError: 'nose'"):
            with_flags(sampled, **flags)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.tex").write_text("mine")
    for fresh in (False, True):
        with pytest.raises(ConfigError, match=r"holds thesis\.tex and is no experiment"):
            check_storage(experiment(), Storage(str(tmp_path / "small")), fresh=fresh)
    assert (tmp_path / "small" / "thesis.tex").read_text() == "mine"


def test_parallel_growth_is_checked_and_its_size_is_that_of_its_parts() -> None:
    check_experiment(parallel(maker()))
    with pytest.raises(ConfigError, match=r"--members=3 does not fit PartitionParallel"):
        with_flags(parallel(maker(), SEARCH), members=3)


class Mistaken(Method):
    def measure(self, member: Any) -> dict[str, float]:
        return dict(member.no_such_thing)


def test_a_mistake_in_a_method_of_ones_own_is_one_line_that_says_where() -> None:
    wrong = experiment(Sampled({}, 1), recipe=lambda hp: Recipe("lenet-300-100", 8, (Mistaken(),), batch=16))
    told = r"first member could not be built: AttributeError: .*no_such_thing.* \(test_preflight\.py:\d+\)"
    with pytest.raises(ConfigError, match=told) as caught:
        check_experiment(wrong)
    assert "\n" not in str(caught.value)

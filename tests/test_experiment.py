"""Experiments as values: where members start, what is described, and configs that fail in one clear line."""

from __future__ import annotations

import json
import math
import pickle
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepop.config import ConfigError, check, config_modules, describe, load
from sparsepop.describe import differences, to_json
from sparsepop.experiment import (
    PARTITION,
    PBT,
    Experiment,
    Grid,
    PartitionParallel,
    Resources,
    Sampled,
    SuperposeParallel,
    Tuned,
)
from sparsepop.search.start import member_seeds
from sparsepop.space import Choice, Domain, Integers, LogUniform

SPACE: dict[str, Domain] = {"lr": LogUniform(1e-3, 1), "cycle": Integers(1, 9)}


@dataclass(frozen=True)
class Schedule:
    value: float


@dataclass(frozen=True)
class Toy:
    lr: Any
    methods: tuple[Any, ...] = ()


@dataclass
class Thawed:
    lr: float


def _recipe(hp: dict[str, Any]) -> Toy:
    return Toy(lr=hp.get("lr", 0.1), methods=(Schedule(0.5),))


def _experiment(**changes: Any) -> Experiment:
    given: dict[str, Any] = {
        "name": "toy",
        "recipe": _recipe,
        "data": "digits",
        "search": PBT(SPACE, 4),
        "generation": 100,
    }
    return Experiment(**{**given, **changes})


@given(st.integers(0, 2**40), st.integers(1, 50), st.integers(0, 50))
def test_member_seeds_are_distinct_and_do_not_depend_on_their_number(
    seed: int, count: int, more: int
) -> None:
    seeds = member_seeds(seed, count + more)
    assert len(set(seeds)) == len(seeds) == count + more
    assert seeds[:count] == member_seeds(seed, count)
    assert all(0 <= entry < 2**31 for entry in seeds)


def test_pbt_and_random_search_start_alike() -> None:
    pbt, sampled = PBT(SPACE, 6).starts(3), Sampled(SPACE, 6).starts(3)
    assert pbt == sampled
    assert pbt[:4] == PBT(SPACE, 4).starts(3)
    assert [start.member for start in pbt] == list(range(6))
    assert len({start.seed for start in pbt}) == 6
    assert len({start.hp["lr"] for start in pbt}) == 6
    assert all(domain.contains(start.hp[name]) for start in pbt for name, domain in SPACE.items())
    assert PBT(SPACE, 6).starts(4) != pbt


def test_what_tune_guides_starts_as_random_search_does() -> None:
    assert Tuned(SPACE, 6, scheduler=dict).starts(3) == Sampled(SPACE, 6).starts(3)
    assert Tuned(SPACE, 6, searcher=dict).starts(3) == Sampled(SPACE, 6).starts(3)


def test_a_group_shares_all_but_partition_and_seed() -> None:
    starts = PartitionParallel(3, groups=2, space=SPACE).starts(3)
    assert [start.hp[PARTITION] for start in starts] == [0, 1, 2, 0, 1, 2]
    assert len({start.seed for start in starts}) == 6
    points = [tuple(start.hp[name] for name in SPACE) for start in starts]
    assert len(set(points[:3])) == len(set(points[3:])) == 1
    assert points[0] != points[3]
    assert {name: starts[3].hp[name] for name in SPACE} == Sampled(SPACE, 2).starts(3)[1].hp


def test_a_grid_pairs_every_combination_with_the_same_seeds() -> None:
    starts = Grid({"lr": [0.1, 0.2], "kind": ("a", [1, 2])}, seeds=3).starts(5)
    assert [start.member for start in starts] == list(range(12))
    assert [tuple(start.hp.values()) for start in starts[:4]] == [
        (0.1, "a"),
        (0.1, (1, 2)),
        (0.2, "a"),
        (0.2, (1, 2)),
    ]
    assert [start.hp for start in starts] == [start.hp for start in starts[:4]] * 3
    assert [start.seed for start in starts] == [seed for seed in member_seeds(5, 3) for _ in range(4)]
    starts[0].hp["lr"] = 7
    assert starts[4].hp["lr"] == 0.1


def test_a_grid_of_nothing_is_one_recipe_on_some_seeds() -> None:
    starts = Grid({}, seeds=2).starts(0)
    assert [start.hp for start in starts] == [{}, {}]
    assert starts[0].seed != starts[1].seed


def test_experiments_are_values() -> None:
    experiment = _experiment()
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    assert experiment.starts() == experiment.search.starts(0)
    space = dict(SPACE)
    search = Sampled(space, 2)
    space.clear()
    assert search.space == SPACE


def test_a_name_made_of_any_folder_names_one() -> None:
    assert _experiment(name="rigl-my set (v2)").name == "rigl-my-set-v2-"
    assert _experiment(name="rigl-données").name == "rigl-donn-es"
    assert _experiment(name="rigl-a.b_c").name == "rigl-a.b_c"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": " "}, "' ' is no folder name"),
        ({"name": "a/b"}, "'a/b' is no folder name"),
        ({"name": ".."}, "no folder name"),
        ({"name": ""}, "no folder name"),
        ({"name": "toy\n"}, "no folder name"),
        ({"name": "x" * 101}, "no folder name"),
        ({"recipe": 3}, "3 is not callable"),
        ({"data": ""}, "data=''"),
        ({"score": None}, "score=None"),
        (
            {"search": {"lr": 1}},
            r"is no Grid \| Sampled \| PBT \| PartitionParallel \| SuperposeParallel \| Tuned",
        ),
        ({"generation": 0}, "generation=0: use a whole number of at least 1"),
        ({"generation": 1.5}, "generation=1.5"),
        ({"mode": "best"}, "mode 'best' is unknown"),
        ({"seed": -1}, "seed=-1"),
        ({"resources": 2}, "resources=2 is no Resources"),
    ],
)
def test_impossible_experiments_say_what_to_do(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        _experiment(**changes)


def _later(kind: Any, *args: Any, **keywords: Any) -> Callable[[], Any]:
    return lambda: kind(*args, **keywords)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (_later(Resources, cpus=-1), "cpus=-1"),
        (_later(Resources, gpus=math.nan), "gpus=nan"),
        (_later(Resources, workers=0), "workers=0"),
        (_later(Grid, {"lr": []}), "at least one category"),
        (_later(Grid, {"lr": "abc"}), "'abc' is no list"),
        (_later(Grid, {"lr": 3}), "3 is no list"),
        (_later(Grid, {"lr": [1, 1]}), "repeats"),
        (_later(Grid, {"seed": [1, 2]}), "'seed' may not be searched"),
        (_later(Grid, {"lr": [1]}, seeds=0), "seeds=0"),
        (_later(Grid, 3), "3 is no mapping"),
        (_later(Tuned, SPACE, 0), "members=0"),
        (_later(Tuned, SPACE, 2, searcher="asha"), "searcher='asha' is no function"),
        (_later(Tuned, SPACE, 2, scheduler=lambda rungs: rungs), "without arguments: missing .*'rungs'"),
        (_later(Tuned, {}, 2, searcher=dict), "nothing to suggest"),
        (_later(Sampled, {"lr": 0.1}, 4), r"space\['lr'\] = 0.1 is no domain"),
        (_later(Sampled, {"seed": Integers(0, 9)}, 4), "'seed' may not be searched"),
        (_later(Sampled, {1: Integers(0, 9)}, 4), "name 1 is not"),
        (_later(Sampled, SPACE, 0), "members=0"),
        (_later(PBT, SPACE, True), "members=True"),
        (_later(PBT, SPACE, 4, quantile=0.6), "quantile=0.6"),
        (_later(PBT, SPACE, 4, quantile=0), "quantile=0"),
        (_later(PBT, SPACE, 4, resample=1.1), "resample=1.1"),
        (_later(PBT, SPACE, 4, factors=(1.0,)), "factor 1.0"),
        (_later(PBT, SPACE, 4, selection="roulette"), "selection='roulette': use one of truncation, tourn"),
        (_later(PartitionParallel, 0), "parts=0"),
        (_later(PartitionParallel, 2, groups=0), "groups=0"),
        (_later(PartitionParallel, 2, batches=-1), "batches=-1"),
        (_later(PartitionParallel, 2, space={"partition": SPACE["lr"]}), "leave it out"),
        (_later(PartitionParallel, 2, rest="median"), "rest='median': use one of first, mean"),
        (_later(PartitionParallel, 2, lost="found"), "lost='found'"),
        (_later(PartitionParallel, 2, fine_tune="none"), "fine_tune='none'"),
        (_later(PartitionParallel, 2, groups=2, space=SPACE, quantile=0.7), "quantile=0.7"),
        (_later(PartitionParallel, 2, groups=1, space=SPACE, quantile=0.5), "groups=1 and 2 hyper"),
        (_later(PartitionParallel, 2, groups=2, quantile=0.5), "groups=2 and 0 hyperparameter"),
        (_later(PartitionParallel, 2, factors=(1.0,)), "factor 1.0"),
        (_later(SuperposeParallel, SPACE, 1, (4,)), "members=1"),
        (_later(SuperposeParallel, SPACE, 2, 4), "4 is no list"),
        (_later(SuperposeParallel, SPACE, 2, (4,), common=-1), "common=-1"),
        (_later(SuperposeParallel, SPACE, 2, (4,), average="median"), "average='median': use one of caa"),
        (_later(SuperposeParallel, SPACE, 2, (4,), factor=0), "factor=0"),
        (_later(SuperposeParallel, SPACE, 2, (4,), scope="erk"), "scope='erk'"),
        (_later(SuperposeParallel, SPACE, 2, (4,), share="best"), "share='best': use one of all, worst"),
        (_later(SuperposeParallel, SPACE, 2, (4,), quantile=1.5), "quantile=1.5"),
        (_later(SuperposeParallel, SPACE, 2, (4,), batches=-1), "batches=-1"),
    ],
)
def test_impossible_searches_say_what_to_do(build: Callable[[], Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build()


def test_tickets_are_left_where_the_experiment_says() -> None:
    steps = range(100, 500, 100)
    assert not any(_experiment().harvests_at(step) for step in steps)
    assert all(_experiment(harvest="generation").harvests_at(step) for step in steps)
    chosen = _experiment(harvest=[100, 300])
    assert [step for step in steps if chosen.harvests_at(step)] == [100, 300]
    assert describe(chosen) == describe(_experiment())
    for harvest, named in (("always", "harvest='always': use one of"), ((150,), "step 150"), ((0,), "0")):
        with pytest.raises(ValueError, match=named):
            _experiment(harvest=harvest)


def test_to_json_names_classes_and_stays_plain() -> None:
    value = Toy(lr=math.inf, methods=(Schedule(0.5), {"b": {3, 1, 2}, 4: None}, _recipe, Choice, 1, True))
    assert to_json(value) == {
        "type": "Toy",
        "lr": "inf",
        "methods": [
            {"type": "Schedule", "value": 0.5},
            {"b": [1, 2, 3], "4": None},
            f"{__name__}._recipe",
            "sparsepop.space.Choice",
            1,
            True,
        ],
    }
    assert to_json(complex(1, 2)) == "(1+2j)"
    with pytest.raises(ValueError, match="cannot be described"):
        to_json(object())


def test_a_description_is_plain_json_with_every_recipe() -> None:
    description = describe(_experiment())
    assert json.loads(json.dumps(description, allow_nan=False)) == description
    assert description["search"]["type"] == "PBT"
    assert description["search"]["space"]["lr"] == {"type": "LogUniform", "low": 0.001, "high": 1.0}
    assert len(description["starts"]) == 4
    start = description["starts"][2]
    assert start["recipe"]["lr"] == start["hp"]["lr"]
    assert start["recipe"]["methods"] == [{"type": "Schedule", "value": 0.5}]


def test_a_description_leaves_out_where_and_how() -> None:
    plain = describe(_experiment(data="cifar10"))
    assert describe(_experiment(data="/some/where/cifar10/")) == plain
    assert describe(_experiment(data="cifar10", resources=Resources(gpus=0.5, workers=2))) == plain
    assert describe(_experiment(data="/")) != plain


def test_differences_are_lines_for_people() -> None:
    old = describe(_experiment())
    assert differences(old, describe(_experiment())) == []
    assert differences(old, describe(_experiment(data="mnist", generation=50))) == [
        "data: digits -> mnist",
        "generation: 100 -> 50",
    ]
    assert differences(old, describe(_experiment(search=PBT(SPACE, 6)))) == [
        "search.members: 4 -> 6",
        "starts: length 4 -> 6",
    ]
    assert differences(old, describe(_experiment(search=Sampled(SPACE, 4)))) == ["search: PBT -> Sampled"]
    assert differences({"a": 1}, {"b": "x"}) == ["a: 1 -> (absent)", "b: (absent) -> x"]
    assert differences({"a": list("x" * 99)}, {"a": None})[0].endswith("... -> null")


def test_differences_shared_by_all_members_are_told_once() -> None:
    old = describe(_experiment())
    new = describe(_experiment(recipe=lambda hp: replace(_recipe(hp), methods=(Schedule(0.7),))))
    assert differences(old, new) == ["starts[*].recipe.methods[0].value: 0.5 -> 0.7"]
    new = json.loads(json.dumps(old))
    new["starts"][1]["recipe"]["lr"] = 9
    assert differences(old, new) == [f"starts[1].recipe.lr: {old['starts'][1]['recipe']['lr']} -> 9"]


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        (lambda hp: 1 / 0, r"recipe\(hp\) of member 0 .* raised ZeroDivisionError: .*test_experiment.py:\d+"),
        (lambda hp: None, "gave a NoneType: return a Recipe"),
        (lambda hp: Thawed(1.0), "gave a Thawed: return a Recipe"),
        (lambda hp: Toy(lr=object()), "cannot be described"),
        (lambda hp, calls=[]: Toy(calls.append(1) or len(calls)), "another recipe when called again"),
    ],
)
def test_bad_recipes_are_named(recipe: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        check(_experiment(recipe=recipe))
    assert "\n" not in str(caught.value)


def test_a_recipe_that_fails_for_one_member_is_found() -> None:
    def recipe(hp: dict[str, Any]) -> Toy:
        if hp.pop("lr") > 0.2:
            raise RuntimeError
        return Toy(0.1)

    with pytest.raises(ConfigError, match=r"member 1 with hp=\{'lr': 0.3\} raised RuntimeError \(test_exp"):
        check(_experiment(recipe=recipe, search=Grid({"lr": [0.1, 0.3]})))


# ---- config files

HEAD = """
from dataclasses import dataclass
from sparsepop.experiment import Experiment, Grid

@dataclass(frozen=True)
class Toy:
    lr: float

def recipe(hp):
    return Toy(hp["lr"])

def make(**changes):
    given = dict(name="toy", recipe=recipe, data="digits", search=Grid({"lr": [0.1, 0.2]}), generation=10)
    return Experiment(**{**given, **changes})
"""


@pytest.fixture(autouse=True)
def _modules_and_path() -> Iterator[None]:
    """What a load leaves in this process is taken back."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


def _config(folder: Path, text: str, name: str = "my-config.py", head: str = HEAD) -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(head + textwrap.dedent(text))
    return str(folder / name)


def test_a_constant_is_loaded(tmp_path: Path) -> None:
    experiment = load(_config(tmp_path, "EXPERIMENT = make()\nSMOKE = make(generation=1)"))
    assert (experiment.name, experiment.data, experiment.generation) == ("toy", "digits", 10)
    module = sys.modules[experiment.recipe.__module__]
    assert module.__name__.startswith("sparsepop_config_my_config_")
    assert module.recipe is experiment.recipe


def test_a_config_that_is_loaded_again_is_the_same_experiment(tmp_path: Path) -> None:
    path = _config(
        tmp_path,
        """
        from sparsepop.experiment import Tuned
        from sparsepop.space import Uniform
        def halving(): ...
        EXPERIMENT = make(search=Tuned({"lr": Uniform(0, 1)}, 2, scheduler=halving))
        """,
    )
    first, second = load(path), load(path)
    assert first.search != second.search
    assert describe(first) == describe(second)
    assert describe(first)["search"]["scheduler"] == "sparsepop_config_my_config.halving"


def test_flags_reach_a_constant(tmp_path: Path) -> None:
    path = _config(tmp_path, "EXPERIMENT = make()\nSMOKE = make(generation=1)")
    assert load(path, data="mnist").data == "mnist"
    assert load(path, smoke=True).generation == 1
    both = load(path, smoke=True, data="mnist")
    assert (both.data, both.generation, both.name) == ("mnist", 1, "toy")


@pytest.mark.parametrize(
    ("signature", "body", "flags", "expected"),
    [
        ("data='digits', smoke=False", "data=data, generation=1 if smoke else 9", {}, ("digits", 9)),
        (
            "data='digits', smoke=False",
            "data=data, generation=1 if smoke else 9",
            {"smoke": True},
            ("digits", 1),
        ),
        ("data='digits'", "data=data, name=data", {"data": "mnist"}, ("mnist", 10)),
        ("", "", {"data": "mnist"}, ("mnist", 10)),
        ("generation=9", "generation=generation", {"settings": {"generation": 4}}, ("digits", 4)),
        ("**flags", "generation=flags['n']", {"settings": {"n": 4}}, ("digits", 4)),
        ("n: float = 1", "generation=int(n)", {"settings": {"n": 4}}, ("digits", 4)),
        ("n: 'int | None' = 1", "generation=n or 5", {"settings": {"n": None}}, ("digits", 5)),
        ("n: 'Absent' = 1", "generation=int(n)", {"settings": {"n": "4"}}, ("digits", 4)),
        ("*, smoke=False", "generation=1 if smoke else 9", {"smoke": True, "data": "x"}, ("x", 1)),
        ("**flags", "data=flags['data'], generation=len(flags)", {"smoke": True, "data": "x"}, ("x", 2)),
    ],
)
def test_a_function_gets_the_given_keywords_that_it_accepts(
    tmp_path: Path, signature: str, body: str, flags: dict[str, Any], expected: tuple[str, int]
) -> None:
    path = _config(tmp_path, f"def experiment({signature}):\n    return make({body})")
    experiment = load(path, **flags)
    assert (experiment.data, experiment.generation) == expected


def test_the_module_named_experiment_is_not_taken_for_a_function(tmp_path: Path) -> None:
    path = _config(tmp_path, "from sparsepop import experiment\nEXPERIMENT = make()")
    assert load(path).name == "toy"


def test_an_edit_within_the_same_second_is_seen(tmp_path: Path) -> None:
    first = load(_config(tmp_path, "EXPERIMENT = make(generation=1)"))
    second = load(_config(tmp_path, "EXPERIMENT = make(generation=2)"))
    assert (first.generation, second.generation) == (1, 2)
    assert first.recipe.__module__ != second.recipe.__module__
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["my-config.py"]


def test_neighbours_are_importable_and_travel_along(tmp_path: Path) -> None:
    for folder, steps in (("one", 11), ("two", 22)):
        _config(tmp_path / folder, f"STEPS = {steps}", "neighbour_of_toy.py", head="")
        path = _config(
            tmp_path / folder, "import neighbour_of_toy as n\nEXPERIMENT = make(generation=n.STEPS)"
        )
        experiment = load(path)
        assert experiment.generation == steps
        names = {module.__name__ for module in config_modules(path)}
        assert names == {experiment.recipe.__module__, "neighbour_of_toy"}


@pytest.mark.parametrize(
    ("text", "flags", "named"),
    [
        (
            "x = 1 / 0",
            {},
            r"config my-config.py raised ZeroDivisionError: division by zero \(my-config.py:15\)",
        ),
        ("def f(:", {}, r"raised SyntaxError: .*\(my-config.py:15\)"),
        ("import no_such_module_at_all", {}, "raised ModuleNotFoundError: .*no_such_module_at_all"),
        ("import sys\nsys.exit(3)", {}, r"raised SystemExit: 3 \(my-config.py:16\)"),
        ("raise ValueError('a\\n  b')", {}, "raised ValueError: a b "),
        ("EXPERIMENT = make(generation=0)", {}, r"generation=0: use a whole number .*\(my-config.py:14\)"),
        ("EXPERIMENT = make(search=Grid({'seed': [1]}))", {}, "'seed' may not be searched"),
        ("", {}, "exports neither EXPERIMENT nor a function"),
        ("EXPERIMENT = {}", {}, "EXPERIMENT of config my-config.py is a dict: make it"),
        ("experiment = 3", {}, "exports experiment = 3: make it a function"),
        ("def experiment(): return None", {}, r"experiment\(\) of config my-config.py is a NoneType"),
        ("def experiment(): return 1 / 0", {}, r"experiment\(\) of my-config.py raised ZeroDivisionError"),
        ("def experiment(): return make()", {"smoke": True}, "give it a keyword smoke=False"),
        ("EXPERIMENT = make()", {"smoke": True}, "export SMOKE = "),
        ("EXPERIMENT = make()", {"settings": {"epochs": 3}}, r"takes no settings \(epochs\): it exports"),
        (
            "def experiment(data='digits', steps=3): return make()",
            {"settings": {"epochs": 3}},
            r"experiment\(\) of my-config.py takes no 'epochs': choose from data, steps",
        ),
        (
            "def experiment(epochs: int = 3): return make()",
            {"settings": {"epochs": "abc"}},
            r"epochs='abc': experiment\(\) of my-config.py takes a whole number, and this is a str",
        ),
        (
            "def experiment(rate: float = 3): return make()",
            {"settings": {"rate": True}},
            "rate=True: .* takes a number, and this is a bool",
        ),
        (
            "def experiment(pbt: bool = True): return make()",
            {"settings": {"pbt": 1}},
            "pbt=1: .* takes True or False, and this is a int",
        ),
        ("EXPERIMENT = make()\nSMOKE = 1", {"smoke": True}, "SMOKE of config my-config.py is a int"),
        ("EXPERIMENT = make()", {"data": ""}, "my-config.py with data='' raised ValueError"),
        (
            "EXPERIMENT = make(recipe=lambda hp: Toy(hp['width']))",
            {},
            r"raised KeyError: 'width' \(my-con.*15\)",
        ),
        ("EXPERIMENT = make(recipe=lambda hp: None)", {}, "gave a NoneType: return a Recipe"),
    ],
)
def test_bad_configs_fail_in_one_line(tmp_path: Path, text: str, flags: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        load(_config(tmp_path, text), **flags)
    assert "\n" not in str(caught.value)


def test_a_config_that_fails_leaves_no_module(tmp_path: Path) -> None:
    path = _config(tmp_path, "1 / 0")
    with pytest.raises(ConfigError):
        load(path)
    assert config_modules(path) == []


def test_files_that_are_no_configs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone.py does not exist"):
        load(str(tmp_path / "gone.py"))
    (tmp_path / "toy.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"toy.yaml is not a Python file"):
        load(str(tmp_path / "toy.yaml"))
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(ConfigError, match=r"folder.py does not exist"):
        load(str(tmp_path / "folder.py"))

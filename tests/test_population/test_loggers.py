"""Loggers: what they are shown, that none can end a training, and each of the three on a real run."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import Callback

from sparsepop import run
from sparsepop.config import ConfigError, describe
from sparsepop.population import launch
from sparsepop.population.loggers import PACKAGES, Logged, check_loggers, made_loggers, shown
from sparsepop.results import read
from sparsepop.storage import Storage
from tests.test_cli import config
from tests.test_population.worlds import World, experiment

ROOT = Path(__file__).parents[2]


class Heard(Callback):
    """Remembers what it is told; fails at `fails`."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fails = fails

    def setup(self, *args: Any, **info: Any) -> None:
        self.calls.append(("setup", None))

    def _hear(self, hook: str, what: Any) -> None:
        if hook == self.fails:
            raise RuntimeError("no\nnetwork")
        self.calls.append((hook, what))

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._hear("start", dict(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._hear("result", result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._hear("complete", str(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._hear("error", str(trial))


def trial(member: int) -> Any:
    return SimpleNamespace(config={"member": member}, status="RUNNING")


def logged(tmp_path: Path, fails: str = "") -> tuple[Logged, Heard]:
    heard = Heard(fails)
    logged_experiment = experiment(loggers=(lambda: heard,))
    (made,) = made_loggers(logged_experiment, Storage(str(tmp_path / "small")))
    assert isinstance(made, Logged)
    return made, heard


def result(generation: int, **changes: Any) -> dict[str, Any]:
    report = {"row": {"score": 0.5, "final": False}, "numbers": {"beta": 0.1}, "hp": {"lr": 0.2, "kind": "a"}}
    known = {"member": 1, "generation": generation, "step": 8 * generation, "donor": -1, "waiting": False}
    return {**known, "report": report, **changes}


def test_a_member_is_one_trial_and_a_generation_one_result(tmp_path: Path) -> None:
    made, heard = logged(tmp_path)
    made.on_trial_start(0, [], trial(1))
    made.on_trial_result(0, [], trial(1), result(1))
    made.on_trial_result(0, [], trial(1), result(1, waiting=True))
    made.on_trial_start(0, [], trial(1))
    made.on_trial_result(0, [], trial(1), result(1))
    made.on_trial_result(0, [], trial(1), result(2))
    made.on_trial_complete(0, [], trial(1))
    assert [hook for hook, _ in heard.calls] == ["setup", "start", "result", "result", "complete"]
    start = experiment().starts()[1]
    assert heard.calls[1][1] == {"member": 1, **start.hp}
    assert [each["timesteps_total"] for hook, each in heard.calls if hook == "result"] == [8, 16]
    assert heard.calls[-1][1] == "m0001"


def test_only_numbers_are_shown() -> None:
    assert shown(result(3)) == {
        "member": 1,
        "generation": 3,
        "step": 24,
        "donor": -1,
        "score": 0.5,
        "hp/lr": 0.2,
        "numbers/beta": 0.1,
        "training_iteration": 3,
        "timesteps_total": 24,
    }


def test_a_logger_that_fails_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, heard = logged(tmp_path, fails="result")
    made.on_trial_start(0, [], trial(1))
    for generation in (1, 2):
        made.on_trial_result(0, [], trial(1), result(generation))
    made.on_trial_error(0, [], trial(1))
    made.on_experiment_end([])
    assert [hook for hook, _ in heard.calls] == ["setup", "start"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("stopped: RuntimeError: no network")


def test_members_tell_what_their_reports_hold(tmp_path: Path) -> None:
    world = World(experiment(loggers=("tensorboard",)), Storage(str(tmp_path / "small"))).run()
    rows = read(world.storage, "reports").set_index(["member", "generation"])
    assert len(world.told) == len(rows) == 12
    for told in world.told:
        row, seen = rows.loc[(told["member"], told["generation"])], shown(told)
        for name in ("score", "validation_accuracy", "train_loss", "alive", "lr", "train_flops"):
            assert seen[name] == row[name]
        assert 0.001 <= seen["hp/lr"] <= 0.3
        assert ("test_accuracy" in seen) == row["final"]
    assert "report" not in World(experiment(), Storage(str(tmp_path / "quiet"))).run().told[0]


def test_loggers_are_no_part_of_an_experiment() -> None:
    assert describe(experiment(loggers=("wandb",))) == describe(experiment())


@pytest.mark.parametrize(
    ("loggers", "message"),
    [
        ("wandb", r"write loggers=\('wandb',\)"),
        (("tb",), "logger 'tb' is unknown: use tensorboard"),
        ((3,), "3"),
    ],
)
def test_loggers_that_cannot_be(loggers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        experiment(loggers=loggers)


@pytest.mark.parametrize(
    ("make", "message"),
    [(dict, "it is a dict and no ray.tune.Callback"), (lambda: 1 // 0, "ZeroDivisionError")],
)
def test_a_function_that_makes_no_logger(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made_loggers(experiment(loggers=(make,)), Storage(str(tmp_path)))


@pytest.mark.parametrize("name", PACKAGES)
def test_without_its_package_the_extra_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package, extra = PACKAGES[name]
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda each, *a: None if each == package else real(each, *a)
    )
    monkeypatch.setattr(launch, "cluster", None)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = config(tmp_path)
    text = Path(file).read_text().replace("resources=RESOURCES", f"resources=RESOURCES, loggers=('{name}',)")
    Path(file).write_text(text)
    assert run.main([file, "--storage", str(tmp_path / "out")]) == run.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert f"logger {name!r} needs the package {package!r}" in line
    assert (f"sparsepop[{extra}]" if extra else "ray[tune]") in line
    assert not (tmp_path / "out").exists()


def test_installed_packages_pass() -> None:
    check_loggers(experiment(loggers=("tensorboard", Heard)))


FILES = {
    "nets/__init__.py": "",
    "nets/sizes.py": "WIDTH = 12\n",
    "nets/mlp.py": """
from torch import nn

def net(task):
    from nets.sizes import WIDTH  # when it is called: in the member's process
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, task.classes))
""",
    "mine.py": """
from nets.mlp import net
from own_method import OneShot
from sparsepop.experiment import Experiment, Grid
from sparsepop.recipe import Recipe

def recipe(hp):
    model = {"function": net, "string": "nets.mlp:net"}[hp["model"]]
    return Recipe(model, 8, (OneShot(0.1, 4),), batch=32)

SEARCH = Grid({"model": ["function", "string"]})
EXPERIMENT = Experiment("mine", recipe, "digits", SEARCH, 4, loggers=LOGGERS)
""",
}


def outside(folder: Path) -> tuple[Path, list[str]]:
    """A config with a network and a method beside it, in a folder that no member's process knows, and the
    loggers that can be tried here."""
    lab = folder / "lab"
    (lab / "nets").mkdir(parents=True)
    loggers = [name for name, (package, _) in PACKAGES.items() if importlib.util.find_spec(package)]
    for name, text in FILES.items():
        (lab / name).write_text(text.replace("LOGGERS", repr(loggers)))
    (lab / "own_method.py").write_bytes((ROOT / "examples" / "own_method.py").read_bytes())
    return lab / "mine.py", loggers


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_a_method_and_all_loggers_from_outside_of_the_repository(tmp_path: Path) -> None:
    file, loggers = outside(tmp_path)
    (tmp_path / "home").mkdir()
    foreign = ("RAY_", "WANDB", "MLFLOW")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    env |= {"HOME": str(tmp_path / "home"), "WANDB_MODE": "offline", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sparsepop.run", str(file), "--storage", "out"]
    for _ in range(3):  # Ray gives up after 30 seconds where others keep the machine busy
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
        if "Ray did not start" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "mine"
    reports = read(Storage(str(folder)), "reports")
    assert reports.groupby("member")["step"].apply(list).tolist() == [[4, 8], [4, 8]]
    # the function, and the string that imports it, are the same network with the same seed
    assert reports["prunable"].tolist() == [64 * 12 + 12 * 10] * 4
    for name in loggers:
        READERS[name](folder / name, reports)
    assert set(os.listdir(tmp_path)) == {"home", "lab", "out"}
    again = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0, again.stderr
    assert "mine: " not in again.stdout  # all members are done


def in_tensorboard(folder: Path, reports: Any) -> None:
    found = {}
    for file in sorted(folder.glob("m*/events*")):
        for event in events(file):
            for value in event.summary.value:
                if value.tag == "ray/tune/validation_accuracy":
                    found[int(file.parent.name[1:]), event.step] = value.simple_value
    rows = reports.set_index(["member", "step"])["validation_accuracy"]
    assert found == pytest.approx(rows.to_dict(), abs=1e-6)


def events(file: Path) -> list[Any]:
    """The records of a TFRecord file: length, checksum, data, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, place, found = file.read_bytes(), 0, []
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        found.append(Event.FromString(data[place + 12 : place + 12 + length]))
        place += 16 + length
    return found


def in_mlflow(folder: Path, reports: Any) -> None:
    found = {}
    for file in folder.glob("*/*/metrics/validation_accuracy"):
        member = int((file.parents[1] / "params" / "member").read_text())
        for line in file.read_text().splitlines():
            _, value, step = line.split()
            found[member, int(step)] = float(value)
    rows = reports.set_index(["member", "step"])["validation_accuracy"]
    assert found == pytest.approx(rows.to_dict())


def in_wandb(folder: Path, reports: Any) -> None:
    for member, rows in reports.groupby("member"):
        (file,) = folder.glob(f"m{member:04d}/wandb/offline-run-*/*.wandb")
        data = file.read_bytes()
        for value in rows["validation_accuracy"]:
            assert json.dumps(value).encode() in data


READERS = {"tensorboard": in_tensorboard, "mlflow": in_mlflow, "wandb": in_wandb}
assert set(READERS) == set(PACKAGES)

"""The command: bad input is refused in one line with exit status 2, and leaves no trace."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from ray.tune import TuneError

from sparsepop import run
from sparsepop.population import launch, shared
from sparsepop.results import ResultsError, report
from sparsepop.storage import temporary

ROOT = Path(__file__).parents[1]
CLUSTER = launch.cluster
CONFIG = """
from sparsepop.experiment import PBT, Experiment, Grid, Resources, Sampled
from sparsepop.methods import rigl, static
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.space import LogUniform

MODEL, DENSITY, DATA, RESOURCES = "lenet-300-100", 0.1, "digits", Resources()

def recipe(hp):
    return Recipe(MODEL, 40, (*static(DENSITY),), SGD(hp["lr"]), batch=32)

SEARCH = PBT({"lr": LogUniform(0.01, 0.3)}, members=2, quantile=0.5)
CHANGE
EXPERIMENT = Experiment("tiny", recipe, DATA, SEARCH, 10, resources=RESOURCES)
"""


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise AssertionError("a cluster was asked for")

    monkeypatch.setattr(launch, "cluster", refuse)
    monkeypatch.setenv("SPARSEPOP_DATA", str(tmp_path / "no-data"))
    path = list(sys.path)
    yield
    sys.path[:] = path


def config(folder: Path, change: str = "") -> str:
    file = folder / "config.py"
    file.write_text(CONFIG.replace("CHANGE", change))
    return str(file)


@pytest.mark.parametrize(
    ("change", "flags", "named"),
    [
        ("DATA = 'imaginary'", [], ["'imaginary'", "digits"]),
        ("", ["--data", "imaginary"], ["'imaginary'", "digits"]),
        ("", ["--data", "./nowhere"], ["nowhere"]),
        ("", ["--data", "~nobody-known/x"], ["'~nobody-known/x'"]),
        ("MODEL = 'resnet-21'", [], ["resnet-21", "resnet-20"]),
        ("DENSITY = 0.0", [], ["0.0"]),
        ("DENSITY = 1.5", [], ["1.5"]),
        ("raise RuntimeError('boom')", [], ["RuntimeError: boom", "config.py"]),
        ("def recipe(hp): return hp['lrr']", [], ["lrr"]),
        ("Experiment = lambda *_, **__: 3", [], ["is a int"]),
        ("Experiment = lambda *_, **__: None", [], ["exports neither EXPERIMENT"]),
        ("SEARCH = PBT({'lr': LogUniform(0.01, 0.3)}, members=1)", [], ["members=1"]),
        ("", ["--members", "0"], ["members"]),
        ("", ["--workers", "7"], ["7 workers", "use a multiple"]),
        ("RESOURCES = Resources(workers=3)", [], ["3 workers"]),
        ("", ["--smoke"], ["SMOKE"]),
        ("", ["--set", "epochs=3"], ["no settings (epochs)"]),
        ("", ["--set", "epochs"], ["'epochs'", "KEY=VALUE"]),
        ("", ["--set", "x={[]: 1}"], ["--set 'x={[]: 1}'", "unhashable", "quotes"]),
        ("", ["--storage", ""], ["root ''", "give a folder"]),
        ("", ["--name", "a/b"], ["'a/b'"]),
        ("def experiment(epochs=1): return 1 / epochs", ["--set", "epochs=0"], ["ZeroDivisionError"]),
        ("def experiment(epochs=1): return epochs + 1", ["--set", "epochs=many"], ["TypeError"]),
    ],
)
def test_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, flags: list[str], named: list[str]
) -> None:
    out = tmp_path / "out"
    assert run.main([config(tmp_path, change), "--storage", str(out), *flags]) == run.BAD_INPUT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("sparsepop: ")
    assert [name for name in named if name not in printed.err] == []
    assert not out.exists()


def test_a_missing_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([str(tmp_path / "absent.py")]) == run.BAD_INPUT
    assert "absent.py does not exist" in capsys.readouterr().err
    assert run.main(["~nobody-known/absent.py"]) == run.BAD_INPUT
    assert "absent.py does not exist" in capsys.readouterr().err


def test_a_parquet_file_that_is_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    for split in ("train", "test"):
        (tmp_path / "set" / f"{split}-00000-of-00001.parquet").write_bytes(b"PAR1 and no more")
    flags = ["--data", str(tmp_path / "set"), "--storage", str(tmp_path / "out")]
    assert run.main([config(tmp_path), *flags]) == run.BAD_INPUT
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert "-00000-of-00001.parquet" in printed
    assert not (tmp_path / "out").exists()


def test_storage_below_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert run.main([config(tmp_path), "--storage", str(tmp_path / "file")]) == run.BAD_INPUT
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert f"{tmp_path}/file" in printed
    assert (tmp_path / "file").read_text() == "mine"


def test_fresh_deletes_nothing_when_the_config_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "tiny"
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text("{}")
    (folder / "reports").mkdir()
    for flags in (["--fresh", "--workers", "3"], ["--fresh", "--data", "imaginary"]):
        assert run.main([config(tmp_path), "--storage", str(tmp_path / "out"), *flags]) == run.BAD_INPUT
    assert sorted(path.name for path in folder.iterdir()) == ["experiment.json", "reports"]


def test_a_changed_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out" / "tiny"
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text("{}")
    assert run.main([config(tmp_path), "--storage", str(tmp_path / "out")]) == run.BAD_INPUT
    printed = capsys.readouterr().err
    assert "another config" in printed
    assert "--fresh" in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("note", [b'{"name": "ti', b"[1]", b"\xff"])
def test_a_damaged_note(tmp_path: Path, capsys: pytest.CaptureFixture[str], note: bytes) -> None:
    file = tmp_path / "out" / "tiny" / "experiment.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(note)
    assert run.main([config(tmp_path), "--storage", str(tmp_path / "out")]) == run.BAD_INPUT
    printed = capsys.readouterr().err
    assert f"{file} is damaged (" in printed
    assert "--fresh" in printed
    assert len(printed.splitlines()) == 1
    with pytest.raises(AssertionError, match="a cluster was asked for"):
        run.main([config(tmp_path), "--storage", str(tmp_path / "out"), "--fresh"])


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_train", interrupted)
    assert run.main([config(tmp_path), "--storage", str(tmp_path / "out")]) == run.INTERRUPTED
    assert "the same command goes on" in capsys.readouterr().err


def test_a_wrong_config_needs_neither_torch_nor_ray(tmp_path: Path) -> None:
    code = (
        "import sys; from sparsepop.run import main; status = main(['absent.py']); "
        "print(sorted({'torch', 'ray'} & set(sys.modules)), status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == "[] 2", done.stderr


def test_more_than_the_cluster_can_ever_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "cluster", lambda address: nullcontext([{"CPU": 2.0}]))
    asked = config(tmp_path, "RESOURCES = Resources(cpus=64)")
    assert run.main([asked, "--storage", str(tmp_path / "out")]) == run.BAD_INPUT
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert "64 CPUs" in printed
    assert "the largest node has 2" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1 ("),
        ("localhost", "--address localhost is no address: give auto, or host:port"),
        ("localhost:port", "--address localhost:port is no address"),
    ],
)
def test_a_cluster_that_is_not_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
    message: str,
) -> None:
    monkeypatch.setattr(launch, "cluster", CLUSTER)
    flags = ["--storage", str(tmp_path / "out"), "--address", address]
    assert run.main([config(tmp_path), *flags]) == run.BAD_INPUT
    printed = capsys.readouterr().err
    assert printed.startswith(f"sparsepop: {message}")
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_asynchronous_groups_that_cannot_all_have_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first would be done before the others begin."""
    monkeypatch.setattr(launch, "cluster", lambda address: nullcontext([{"CPU": 2.0}]))
    search = "PBT({'lr': LogUniform(0.01, 0.3)}, members=4, quantile=0.5, synchronous=False)"
    asked = config(tmp_path, f"SEARCH, RESOURCES = {search}, Resources(cpus=1, workers=2)")
    assert run.main([asked, "--storage", str(tmp_path / "out")]) == run.BAD_INPUT
    printed = capsys.readouterr().err
    assert "2 of 4 members of 2 workers have room at a time" in printed
    assert len(printed.splitlines()) == 1


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An experiment that has been run before, and a cluster that trains nothing; its folder."""
    folder = tmp_path / "out" / "tiny"
    (folder / "reports").mkdir(parents=True)
    (folder / "experiment.json").write_text("{}")
    monkeypatch.setattr(launch, "cluster", lambda address: nullcontext([{"CPU": 2.0}]))
    monkeypatch.setattr(shared, "check_shared", lambda storage: None)
    return folder


def test_a_logger_that_cannot_start_costs_no_results(
    running: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = "def broken(): raise KeyError('no key')\nfrom functools import partial\n"
    asked = config(tmp_path, f"{broken}Experiment = partial(Experiment, loggers=(broken,))")
    assert run.main([asked, "--storage", str(tmp_path / "out"), "--fresh"]) == run.BAD_INPUT
    assert "logger broken cannot start: KeyError: 'no key'" in capsys.readouterr().err
    assert (running / "reports").is_dir()


def test_a_run_that_breaks_off_says_why_in_one_line(
    running: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise TuneError("Traceback:\n  in here\nOSError: [Errno 28] No space left on device\n")

    monkeypatch.setattr(launch, "train_all", full)
    assert run.main([config(tmp_path), "--storage", str(tmp_path / "out"), "--fresh"]) == run.BAD_INPUT
    printed = capsys.readouterr().err
    assert "broke off (OSError: [Errno 28] No space left on device): the same command goes on" in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ResultsError("a part\nis damaged")]
)
def test_a_finished_run_that_cannot_be_compacted_has_worked(
    running: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(launch, "train_all", lambda *_: {})
    monkeypatch.setattr(run, "compact", broken)
    monkeypatch.setattr(report, "print_summary", lambda *_: print("the summary"))
    assert run.main([config(tmp_path), "--storage", str(tmp_path / "out"), "--fresh"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "the summary\n"
    told = " ".join(str(error).split())
    assert printed.err == f"sparsepop: the results were not compacted, and nothing is lost ({told})\n"


def test_a_run_removes_what_a_killed_one_was_writing(
    running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, left = [config(tmp_path), "--storage", str(tmp_path / "out")], running / "reports" / temporary()
    monkeypatch.setattr(launch, "train_all", lambda *_: {})
    monkeypatch.setattr(report, "print_summary", lambda *_: None)
    assert run.main([*asked, "--fresh"]) == 0
    left.parent.mkdir()
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert run.main(asked) == 0
    assert not left.exists()


def test_no_flag_may_be_abbreviated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--fres` would be --fresh, and stay in the command that is kept."""
    with pytest.raises(SystemExit):
        run.main([config(tmp_path), "--fres"])
    assert "unrecognized arguments: --fres" in capsys.readouterr().err
    for file in [
        path for part in ("sparsepop", "benchmarks", "analysis") for path in (ROOT / part).rglob("*.py")
    ]:
        text = file.read_text()
        assert text.count("ArgumentParser(") == text.count("allow_abbrev=False"), file


def test_the_command_that_is_kept_repeats_and_never_deletes() -> None:
    kept = run._command(["my config.py", "--fresh", "--data", "a b", "--members", "4"])
    assert kept == "python -m sparsepop.run 'my config.py' --data 'a b' --members 4"


def test_a_finished_experiment_says_that_nothing_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code is not compared: after an edit the old results would pass for new ones."""
    monkeypatch.setattr(launch, "unfinished", lambda *_: [])
    monkeypatch.setattr(report, "print_summary", lambda *_: None)
    assert run.main([config(tmp_path), "--storage", str(tmp_path / "out")]) == 0
    assert "nothing was trained; --fresh trains them again" in capsys.readouterr().err


def test_the_small_variant_leaves_the_name_to_the_real_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    monkeypatch.setattr(launch, "unfinished", lambda *_: [])
    monkeypatch.setattr(report, "print_summary", lambda storage, _: names.append(storage.root))
    asked = config(tmp_path)
    Path(asked).write_text(f"{Path(asked).read_text()}SMOKE = EXPERIMENT\n")
    for flags in ([], ["--smoke"], ["--smoke", "--name", "mine"]):
        assert run.main([asked, "--storage", str(tmp_path / "out"), *flags]) == 0
    assert [Path(name).name for name in names] == ["tiny", "tiny-smoke", "mine"]

"""A whole population with its storage on S3, killed and resumed: the command, Ray, and a real S3 server."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from sparsepop.experiment import PBT
from sparsepop.results import read
from sparsepop.storage import Storage
from tests.s3 import KEY, SECRET, Server
from tests.test_population.worlds import SPACE, STEPS, World, experiment

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
CONFIG = """
from tests.test_population.worlds import SPACE, experiment as small
from sparsepop.experiment import PBT

EXPERIMENT = small(PBT(SPACE, members=2, quantile=0.5))
"""


def start(folder: Path, root: str) -> subprocess.Popen[str]:
    (folder / "config.py").write_text(CONFIG)
    command = [sys.executable, "-m", "sparsepop.run", str(folder / "config.py"), "--storage", root]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe)


def reach(process: subprocess.Popen[str], storage: Storage, generation: int) -> None:
    """Wait until some member has posted `generation`."""
    deadline = time.monotonic() + 240
    while not any(name.startswith(f"g{generation:04d}") for name in storage.names("posts")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_population_on_s3_is_killed_and_goes_on(
    s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    root = s3.uri(uuid4().hex)
    storage = Storage(root).child("small")
    first = start(tmp_path, root)
    reach(first, storage, 1)
    first.kill()
    first.communicate()

    second = start(tmp_path, root)
    output, errors = second.communicate(timeout=300)
    assert (second.returncode, errors) == (0, "")
    assert str(storage) in output
    reports = read(storage, "reports")
    assert sorted(zip(reports["member"], reports["step"], strict=True)) == [
        (member, step) for member in (0, 1) for step in range(8, STEPS + 1, 8)
    ]
    whole = Storage(str(tmp_path / "undisturbed"))
    assert not World(experiment(PBT(SPACE, members=2, quantile=0.5)), whole).run().errors
    for name in ("score", "train_loss", "density", "train_flops"):
        assert list(reports[name]) == list(read(whole, "reports")[name])
    note = storage.read("experiment.json").decode()
    for secret in (KEY, SECRET):
        assert secret not in note + output

    third = start(tmp_path, root)  # all is done
    assert third.wait(200) == 0
    third.communicate()
    assert len(read(storage, "members", superseded=True)["attempt"].unique()) == 2


def test_a_wrong_place_is_refused_in_one_line(s3: Server, tmp_path: Path) -> None:
    process = start(tmp_path, s3.uri("runs", bucket="absent"))
    output, errors = process.communicate(timeout=200)
    assert (process.returncode, output) == (2, "")
    assert len(errors.splitlines()) == 1
    assert "make the bucket first" in errors

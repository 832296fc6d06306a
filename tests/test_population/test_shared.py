"""Storage that not all nodes share is refused before anything starts, with their names and a remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparsepop.population.shared import check_shared, look, refusal
from sparsepop.storage import Storage

ROOT = Path(__file__).parents[2]
DRIVER = """
import json, sys
from sparsepop.population.launch import cluster
from sparsepop.population.shared import check_shared
from sparsepop.storage import Storage, StorageError

said = []
with cluster(sys.argv[1]) as nodes:
    for root in sys.argv[2:]:
        try:
            check_shared(Storage(root))
            said.append("")
        except StorageError as error:
            said.append(str(error))
print(json.dumps([len(nodes), said]))
"""


def test_a_refusal_names_nodes_causes_and_a_remedy() -> None:
    nodes = {str(number): f"10.0.0.{number}" for number in range(8)}
    failed = {str(number): "does not see it" for number in range(1, 8)}
    text = refusal(Storage("/data/runs"), nodes, failed, outside=False)
    assert text.startswith("/data/runs is not the same everywhere: 7 of 8 nodes cannot use it: 10.0.0.1 (")
    assert "10.0.0.5 (does not see it) and 2 more; give --storage a folder that all nodes share" in text
    assert "10.0.0.6" not in text
    assert "ray job submit" not in text
    assert "ray job submit" in refusal(Storage("/data/runs"), nodes, failed, outside=True)


def test_a_node_looks_before_it_writes(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "runs"))
    assert look(storage.root, "token", "node") == "does not see it"
    assert not storage.exists()
    storage.write(".token-driver.tmp", b"another")
    assert look(storage.root, "token", "node") == "sees another file"
    storage.write(".token-driver.tmp", b"token")
    assert look(storage.root, "token", "node") == ""
    assert storage.read(".token-node.tmp") == b"node"


def test_a_node_that_cannot_write_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))
    storage.write(".token-driver.tmp", b"token")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    assert look(storage.root, "token", "node") == "[Errno 13] Permission denied"


@pytest.mark.ray
@pytest.mark.usefixtures("ray_address")
def test_the_only_node_is_not_asked_about_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsepop.population.shared._ask", None)
    check_shared(Storage(str(tmp_path)))


@pytest.fixture
def two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster whose second node has another disk at `tmp_path/private`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a mount namespace")
    (tmp_path / "private").mkdir()
    command = [sys.executable, "-m", "tests.test_population.two_nodes", str(tmp_path / "private")]
    pipe, void = subprocess.PIPE, subprocess.DEVNULL
    nodes = subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=void)
    assert nodes.stdin is not None
    assert nodes.stdout is not None
    try:
        # the last line: before it Ray may say something
        yield next(line for line in nodes.stdout if ":" in line and " " not in line).strip()
    finally:
        nodes.stdin.close()
        nodes.wait(60)
        nodes.stdout.close()


@pytest.mark.ray
def test_a_folder_of_one_node_is_refused_and_a_shared_one_is_not(tmp_path: Path, two_nodes: str) -> None:
    roots = [str(tmp_path / "private" / "runs"), str(tmp_path / "shared" / "runs")]
    command = [sys.executable, "-c", DRIVER, two_nodes, *roots]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    nodes, (private, shared) = json.loads(done.stdout.splitlines()[-1])
    assert nodes == 2
    assert "1 of 2 nodes cannot use it" in private
    assert "does not see it" in private
    assert shared == ""
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["private"]

"""Two drivers never train one experiment on one machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sparsepop.population import alone as module
from sparsepop.population.alone import alone
from sparsepop.storage import Storage, StorageError

HOLD = """
import sys
from sparsepop.population.alone import alone
from sparsepop.storage import Storage
with alone(Storage(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_refused_until_the_first_is_gone_however_it_went(tmp_path: Path) -> None:
    storage, other = Storage(str(tmp_path / "one")), Storage(str(tmp_path / "two"))
    command = [sys.executable, "-c", HOLD, storage.root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(StorageError, match=rf"one is being trained by process {first.pid} on"),
            alone(storage),
        ):
            pass
        with alone(other):
            pass
        first.kill()
        first.wait()
        with alone(storage):
            pass


def test_the_hold_survives_a_fresh_start_and_ends_with_the_block(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "one"))
    with alone(storage):
        storage.write("note", b"")
        storage.delete_tree()
        with pytest.raises(StorageError, match="is being trained"), alone(storage):
            pass
    with alone(storage):
        pass


def test_neither_a_link_nor_another_tmpdir_lets_a_second_driver_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, linked = Storage(str(tmp_path / "one")), Storage(str(tmp_path / "link" / "one"))
    (tmp_path / "link").symlink_to(tmp_path)
    with alone(storage):
        with pytest.raises(StorageError, match="is being trained"), alone(linked):
            pass
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(StorageError, match="is being trained"), alone(storage):
            pass


def test_where_there_is_no_common_folder_locks_lie_in_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COMMON", str(tmp_path / "absent"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with alone(Storage(str(tmp_path / "one"))):
        assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]

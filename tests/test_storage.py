"""Storage: the same promises on a local disk, on S3, and on other pyarrow file systems."""

from __future__ import annotations

import errno
import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pyarrow import fs

from sparsepop.storage import Storage, StorageError, side_by_side, temporary
from sparsepop.storage import place as place_module
from sparsepop.storage.local import remove_abandoned
from sparsepop.storage.several import AT_A_TIME
from tests.s3 import Server


@pytest.fixture(params=["local", "folders", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty storage: local, on an S3 server, on pyarrow's file system in memory, or on one that needs its
    folders made."""
    if request.param == "local":
        return Storage(str(tmp_path / "root"))
    if request.param == "s3":
        server: Server = request.getfixturevalue("s3")
        return server.empty()
    if request.param == "memory":
        return Storage(f"mock:///{uuid4().hex}")
    below = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(place_module, "connect", lambda *_: (below, "bucket"))
    return Storage("s3://bucket/root?region=here")


def _everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_is_written_comes_back(place: Storage) -> None:
    place.write("a/b/c.gz", b"\x00one")  # an ending that pyarrow would compress by
    place.write("a/ä ö?#%.bin", b"")
    assert place.read("a/b/c.gz") == b"\x00one"
    assert place.read("a/ä ö?#%.bin") == b""
    place.write("a/b/c.gz", b"2")
    assert place.read("a/b/c.gz") == b"2"


def test_files_are_read_side_by_side_and_come_in_order() -> None:
    everybody = threading.Barrier(AT_A_TIME, timeout=20.0)

    def meet(number: int) -> int:
        everybody.wait()
        return -number

    numbers = range(2 * AT_A_TIME)
    assert list(side_by_side(meet, numbers)) == [-number for number in numbers]
    assert list(side_by_side(meet, [])) == []


def test_names_are_sorted_direct_and_without_temporary_files(place: Storage) -> None:
    for path in ("t/b", "t/a/deep", "t/.hidden", "t/.0123.tmp", "t/c.tmp"):
        place.write(path, b"x")
    assert place.names("t") == [".hidden", "a", "b", "c.tmp"]
    assert place.names() == ["t"]
    assert place.names("absent") == place.names("t/b") == []


def test_existence_and_deletion(place: Storage) -> None:
    assert not place.exists()
    place.write("t/a/x", b"x")
    place.write("t/b", b"x")
    assert place.exists()
    assert place.exists("t")
    assert place.exists("t/a/x")
    place.delete("t/b")
    place.delete("t/b")
    assert place.names("t") == ["a"]
    place.delete_tree("t")
    place.delete_tree("t")
    assert not place.exists("t/a/x")
    assert not place.exists("t")


def test_deleting_the_whole_tree_leaves_other_roots_alone(place: Storage) -> None:
    place.child("one").write("x", b"1")
    place.child("two").write("x", b"2")
    place.child("one").delete_tree()
    assert not place.exists("one/x")
    assert place.read("two/x") == b"2"


def test_an_absent_file_is_not_found(place: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        place.read("absent")


def test_exclusive_writes_once(place: Storage) -> None:
    place.write("claim", b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        place.write("claim", b"second", exclusive=True)
    assert place.read("claim") == b"first"
    assert place.names() == ["claim"]


def test_children_and_pickles_see_the_same_files(place: Storage) -> None:
    place.child("a b/c").write("x", b"1")
    assert place.read("a b/c/x") == b"1"
    assert place.child("a b").child("c") == place.child("a b/c")
    again = pickle.loads(pickle.dumps(place))
    assert again == place
    assert again.read("a b/c/x") == b"1"


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", ".."])
def test_a_path_cannot_leave_its_root(place: Storage, path: str) -> None:
    with pytest.raises(ValueError, match="leaves its root"):
        place.write(path, b"")


def test_the_probe_leaves_nothing(place: Storage) -> None:
    place.check_writable()
    assert place.names() == []


def test_the_probe_takes_the_folders_along_that_it_made(tmp_path: Path) -> None:
    place = Storage(str(tmp_path / "runs" / "mine"))
    place.check_writable()
    assert list(tmp_path.iterdir()) == []
    with place.no_new_folders():
        place.write("kept", b"")
    assert place.names() == ["kept"]


def test_the_root_is_made_absolute_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storage("runs").root == str(tmp_path / "runs")
    assert Storage("~/runs").root == str(Path("~/runs").expanduser())
    assert Storage(f"file://{tmp_path}/a%20b").root == str(tmp_path / "a b")
    with pytest.raises(StorageError, match="give a folder"):
        Storage("")


def test_file_uris_are_folders_of_this_machine() -> None:
    assert Storage("file://localhost/a/b").root == Storage("file:///a/b").root == "/a/b"
    for root, remedy in (
        ("file://host/share", "the machine 'host': mount it"),
        ("file:/tmp/x", "give file:///folder"),
        ("file:x", "give file:///folder"),
        ("file://", "give file:///folder"),
    ):
        with pytest.raises(StorageError, match=remedy) as caught:
            Storage(root)
        assert root in str(caught.value)


def test_messages_show_no_options() -> None:
    storage = Storage("gs://anonymous@bucket/runs/?project_id=mine")
    assert str(storage) == "gs://bucket/runs"
    assert repr(storage) == "Storage('gs://bucket/runs')"
    assert storage.child("a b").root == "gs://anonymous@bucket/runs/a%20b?project_id=mine"


@pytest.mark.parametrize(
    "root",
    [
        "s3://key:se/cret@bucket/runs",
        "s3://bucket/runs?region=eu&secret_key=secret",
        "s3://bucket?access_key=secret",
        "s3://key:secret@bucket",
    ],
)
def test_keys_in_a_root_are_refused_and_not_shown(root: str) -> None:
    with pytest.raises(StorageError, match=r"s3://bucket.* keys in it: .*AWS_ACCESS_KEY_ID") as caught:
        Storage(root)
    assert "cret@" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("options", ["regoin=eu", "allow_delayed_open=yes"])
def test_an_option_that_is_wrong_is_named(options: str) -> None:
    with pytest.raises(StorageError, match=f"cannot open s3://bucket: .*{options.split('=')[0]}.*use "):
        Storage(f"s3://bucket?endpoint_override=localhost&{options}").names()


def test_an_unknown_scheme_says_what_to_give() -> None:
    with pytest.raises(StorageError, match=r"cannot open ftp://host/runs: .*give a local folder"):
        Storage("ftp://host/runs").names()


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    storage = Storage(str(tmp_path))
    storage.write("a/x", b"old")
    monkeypatch.setattr(os, broken, _no_space)
    with pytest.raises(OSError, match="No space left") as caught:
        storage.write("a/x", b"new")
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "a/x").read_bytes() == b"old"
    assert _everything(tmp_path) == ["a/x"]


def test_a_failed_put_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        open_output_stream = staticmethod(_no_space)

        @staticmethod
        def get_file_info(asked: str | fs.FileSelector) -> fs.FileInfo | list[fs.FileInfo]:
            return fs.FileInfo(asked, fs.FileType.NotFound) if isinstance(asked, str) else []

    monkeypatch.setattr(place_module, "connect", lambda *_: (Full(), "bucket"))
    with pytest.raises(
        StorageError, match=r"cannot write below s3://bucket/runs: .*No space left.*free space"
    ):
        Storage("s3://bucket/runs").check_writable()


def test_without_hard_links_exclusive_still_writes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    storage = Storage(str(tmp_path))
    storage.write("claim", b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        storage.write("claim", b"second", exclusive=True)
    assert storage.read("claim") == b"first"
    monkeypatch.setattr(os, "replace", _no_space)
    with pytest.raises(OSError, match="No space left"):
        storage.write("other", b"", exclusive=True)
    assert _everything(tmp_path) == ["claim"]


def test_what_killed_writers_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    now = time.time()
    (tmp_path / "a").mkdir()
    ages = {temporary(): 4000, temporary(): 3000, temporary("mine"): 4000, "a.tmp": 4000, ".hidden": 4000}
    for name, age in ages.items():
        for folder in (tmp_path, tmp_path / "a"):
            (folder / name).write_bytes(b"half")
            os.utime(folder / name, (now - age, now - age))
    remove_abandoned(str(tmp_path))
    kept = list(ages)[1:]
    assert _everything(tmp_path) == sorted([*kept, *(f"a/{name}" for name in kept)])
    remove_abandoned(str(tmp_path / "absent"))


def test_a_place_below_a_file_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        Storage(str(tmp_path / "file/runs")).check_writable()
    message = str(caught.value)
    assert str(tmp_path / "file/runs") in message
    assert "Not a directory" in message
    assert "choose another place" in message
    assert "\n" not in message


def test_a_read_only_place_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "makedirs", refused)
    with pytest.raises(StorageError, match=r"Permission denied.*grant access"):
        Storage(str(tmp_path)).check_writable()

"""A full disk is refused before anything starts, in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparsepop import run
from sparsepop.population import launch
from sparsepop.population.preflight import check_experiment, check_storage
from sparsepop.population.room import FLOOR, LEAST, check_room, needed_bytes
from sparsepop.storage import Storage, StorageError, temporary
from tests.test_cli import config
from tests.test_population.worlds import experiment

Usage = namedtuple("Usage", "total used free")


def left(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1 << 40, (1 << 40) - free, free))


def test_what_a_run_needs() -> None:
    assert needed_bytes(3, 1000) == FLOOR
    assert needed_bytes(8, 100 << 20) == 3 * 8 * (100 << 20)
    # 50,200 weights and 310 biases with a momentum each, and a byte of mask for each weight
    weights, biases = 64 * 300 + 300 * 100 + 100 * 10, 410
    assert check_experiment(experiment()) == 2 * 4 * (weights + biases) + weights


def test_too_little_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(monkeypatch, FLOOR - 1)
    storage = Storage(str(tmp_path / "a" / "small"))
    with pytest.raises(StorageError) as caught:
        check_storage(experiment(), storage, fresh=False)
    told = f"too little room for {tmp_path}/a/small: {FLOOR - 1:,} bytes are free there and about {FLOOR:,}"
    assert str(caught.value).startswith(told)
    assert "--storage" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    left(monkeypatch, FLOOR)
    check_storage(experiment(), storage, fresh=False)
    with pytest.raises(StorageError, match="9,000,000,000 are needed"):
        check_storage(experiment(), storage, fresh=False, largest=10**9)


def test_what_is_there_already_needs_no_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "states").mkdir()
    with (tmp_path / "states" / "m0").open("wb") as stream:
        stream.truncate(FLOOR - LEAST)
    left(monkeypatch, LEAST)
    check_room(Storage(str(tmp_path)), FLOOR)
    left(monkeypatch, LEAST - 1)
    with pytest.raises(StorageError, match="too little room"):
        check_room(Storage(str(tmp_path)), FLOOR)


def test_what_a_killed_writer_left_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / temporary()).open("wb") as stream:
        stream.truncate(FLOOR)
    left(monkeypatch, LEAST)
    with pytest.raises(StorageError, match="too little room"):
        check_room(Storage(str(tmp_path)), FLOOR)


def test_object_stores_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    left(monkeypatch, 0)
    check_room(Storage("s3://bucket/runs"), FLOOR)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "sparsepop-test", str(place)]
    try:
        done = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_the_command_on_a_full_disk(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a cluster was asked for")

    monkeypatch.setattr(launch, "cluster", refuse)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run.main([config(tmp_path), "--storage", str(full / "out")]) == run.BAD_INPUT
    printed = capsys.readouterr().err
    assert printed.startswith(f"sparsepop: too little room for {full}/out/tiny: 1,048,576 bytes are free")
    assert len(printed.splitlines()) == 1
    assert list(full.iterdir()) == []

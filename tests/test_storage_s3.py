"""Storage on a real S3 server: what is seen while others write, what a failure leaves, and how it ends.

That every method keeps its promises there as well is tested in `test_storage.py`.
"""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from sparsepop.storage import Storage, StorageError, connect
from sparsepop.storage import place as place_module
from tests.s3 import KEY, SECRET, Server, free_port
from tests.unruly import unruly

PART = 10 * 2**20  # bytes from which pyarrow puts an object in parts
WITHIN_SECONDS = pytest.mark.timeout(
    30
)  # pyarrow's own settings take 99 s for a request that is never answered


def through(server: Server, port: int) -> Storage:
    """An empty storage on `server`, reached at another port."""
    return Storage(server.uri(uuid4().hex, port=port))


def behind(storage: Storage, server: Server) -> Storage:
    """What lies there, without what is between."""
    return Storage(server.uri(storage.root.split("?")[0].rpartition("/")[2]))


def test_readers_see_one_version_while_another_is_written(s3: Server) -> None:
    storage, done = s3.empty(), threading.Event()
    storage.write("x", b"0" * 10)

    def read() -> int:
        seen = set()
        while not done.is_set():
            data = storage.read("x")
            assert len(set(data)) == 1
            assert len(data) == 10 + 100 * (data[0] - ord("0"))
            seen.add(data[0])
        return len(seen)

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for version in (3, 1, 7, 0, 9) * 12:
            storage.write("x", str(version).encode() * (10 + 100 * version))
        done.set()
        assert max(reader.result() for reader in readers) > 1


@pytest.mark.parametrize("sizes", [(10, 400), (400, 10)], ids=["longer", "shorter"])
def test_a_version_put_between_size_and_content_is_read_whole(
    s3: Server, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int]
) -> None:
    storage = s3.empty()
    storage.write("x", b"a" * sizes[0])
    opened, base = place_module.connect("s3", "bucket", storage.root.partition("?")[2], 2)

    class Overtaken:
        """The first reader knows the size when somebody writes."""

        def open_input_file(self, target: str) -> Any:
            stream = opened.open_input_file(target)
            if not late:
                late.append(target)
                with opened.open_output_stream(target) as writer:
                    writer.write(b"b" * sizes[1])
            return stream

    late: list[str] = []
    monkeypatch.setattr(place_module, "connect", lambda *_: (Overtaken(), base))
    assert storage.read("x") == b"b" * sizes[1]
    assert len(late) == 1


def test_large_files_come_back(s3: Server) -> None:
    storage = s3.empty()
    data = bytes(range(256)) * (PART * 5 // 2 // 256)
    storage.write("large", data)
    assert storage.read("large") == data
    assert storage.names() == ["large"]


@pytest.mark.parametrize("size", [100, 5 * PART // 2], ids=["small", "large"])
@WITHIN_SECONDS
def test_a_failed_write_leaves_nothing_or_what_was_there(s3: Server, size: int) -> None:
    def spoilt(method: str, path: str) -> bool:
        return method == "PUT" and ("partNumber=2" in path or size < PART)

    with unruly(s3.port, spoilt) as server:
        storage = through(s3, server.port)
        clean = behind(storage, s3)
        clean.write("old", b"old")
        for name in ("new", "old"):
            with pytest.raises(StorageError, match=r"cannot write below s3://bucket/\w+: ") as caught:
                storage.write(name, bytes(size))
            assert "\n" not in str(caught.value)
    assert server.spoilt
    assert clean.names() == ["old"]
    assert clean.read("old") == b"old"


WRITE_AND_HANG = f"""
import sys
from sparsepop.storage import Storage
Storage(sys.argv[1]).write("x", bytes(5 * {PART} // 2))
"""


def test_a_writer_killed_half_way_leaves_nothing(s3: Server) -> None:
    reached = threading.Event()

    def last_part(method: str, path: str) -> bool:
        found = method == "PUT" and "partNumber=3" in path
        if found:
            reached.set()
        return found

    with unruly(s3.port, last_part, status=0) as server:
        storage = through(s3, server.port)
        process = subprocess.Popen([sys.executable, "-c", WRITE_AND_HANG, storage.root])
        assert reached.wait(60)
        process.kill()
        process.wait()
    assert behind(storage, s3).names() == []


def test_of_many_writers_at_most_one_is_the_first(s3: Server) -> None:
    storage = s3.empty()
    together = threading.Barrier(8)

    def claim(writer: int, number: int) -> int | None:
        together.wait()
        try:
            storage.write(f"claims/{number}", str(writer).encode(), exclusive=True)
        except FileExistsError:
            return None
        return writer

    with ThreadPoolExecutor(8) as pool:
        for number in range(4):
            made = pool.map(claim, range(8), [number] * 8)
            winners = [writer for writer in made if writer is not None]
            assert len(winners) <= 1
            for winner in winners:
                assert storage.read(f"claims/{number}") == str(winner).encode()
    storage.write("claims/alone", b"me", exclusive=True)
    assert storage.read("claims/alone") == b"me"
    assert set(storage.names("claims")) <= {*map(str, range(4)), "alone"}


def test_attempts_at_a_member_never_share_a_number(s3: Server) -> None:
    from sparsepop.population.records import claim_attempt

    storage = s3.empty()
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda _: claim_attempt(storage, 3), range(6)))
    assert len(set(numbers)) == 6


def test_more_names_than_one_answer_holds(s3: Server) -> None:
    storage = s3.empty()
    folder = storage.root.split("?")[0].rpartition("/")[2]
    s3.fill(f"{folder}/posts/{number:04d}" for number in range(1100))
    assert storage.names("posts") == [f"{number:04d}" for number in range(1100)]
    storage.write("other", b"")
    storage.delete_tree("posts")
    assert storage.names("posts") == []
    assert storage.names() == ["other"]


def wrong_bucket(server: Server) -> Iterator[str]:
    yield server.uri("runs", bucket="absent")


def wrong_endpoint(server: Server) -> Iterator[str]:
    yield server.uri("runs", port=free_port())


def silent_endpoint(server: Server) -> Iterator[str]:
    with unruly(server.port, lambda *_: True, status=0) as silent:
        yield server.uri("runs", port=silent.port)


def wrong_keys(server: Server) -> Iterator[str]:
    with server.checking_keys():
        yield f"{server.uri('runs')}&force_virtual_addressing=false"  # a store that has not answered yet


WRONG = [
    (wrong_bucket, "NO_SUCH_BUCKET", "make the bucket first"),
    (wrong_endpoint, "NETWORK_CONNECTION", "check endpoint_override"),
    (silent_endpoint, "NETWORK_CONNECTION", "check endpoint_override"),
    (wrong_keys, "INVALID_ACCESS_KEY_ID", "check AWS_ACCESS_KEY_ID"),
]


@pytest.mark.parametrize(("wrong", "cause", "remedy"), WRONG)
@WITHIN_SECONDS
def test_a_wrong_place_is_one_clear_error(
    s3: Server, wrong: Callable[[Server], Iterator[str]], cause: str, remedy: str
) -> None:
    for root in wrong(s3):
        with pytest.raises(StorageError) as caught:
            Storage(root).check_writable()
        message = str(caught.value)
        assert re.match(
            rf"cannot (write below|read below|list) s3://\w+/runs: .*{cause}.*; {remedy}", message
        )
        assert "\n" not in message
        assert KEY not in message
        assert SECRET not in message


@pytest.mark.parametrize("wrong", [wrong_endpoint, wrong_keys])
@WITHIN_SECONDS
def test_reading_at_a_wrong_place_ends_the_same_way(
    s3: Server, wrong: Callable[[Server], Iterator[str]]
) -> None:
    for root in wrong(s3):
        for use in (
            lambda place: place.names(),
            lambda place: place.exists("x"),
            lambda place: place.read("x"),
        ):
            with pytest.raises(StorageError, match=r"cannot (read below|list) s3://bucket/runs: "):
                use(Storage(root))


def test_a_place_that_has_answered_is_given_time(s3: Server) -> None:
    budget = [0]

    def some(*_: str) -> bool:
        budget[0] -= 1
        return budget[0] >= 0

    with unruly(s3.port, some, status=503) as server:
        storage = through(s3, server.port)
        storage.write("x", b"1")
        budget[0] = connect.FIRST_ATTEMPTS + 1
        storage.write("x", b"2")
        assert storage.read("x") == b"2"
    assert len(server.spoilt) == connect.FIRST_ATTEMPTS + 1


def test_keys_are_in_nothing_that_is_sent_or_written(s3: Server) -> None:
    storage = s3.empty()
    storage.write("x", b"1")
    for text in (pickle.dumps(storage), repr(storage).encode(), storage.root.encode()):
        assert KEY.encode() not in text
        assert SECRET.encode() not in text

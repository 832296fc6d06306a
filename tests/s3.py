"""A real S3 server on this machine: moto in a process of its own, with buckets in its memory."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import uuid4

from sparsepop.storage import Storage

KEY, SECRET = "a-test-key", "a-test-secret"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",  # nobody is asked for keys over the network
}
BUCKET = "bucket"
STARTS_WITHIN = 60.0  # seconds


class Server:
    """moto at a port of this machine, with one empty bucket."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.ask("PUT", f"/{BUCKET}")

    def ask(self, method: str, path: str, data: bytes = b"") -> bytes:
        """One plain request, past all that is tested."""
        url = f"http://127.0.0.1:{self.port}{path}"
        headers = {"Content-Type": "text/plain"}
        with urllib.request.urlopen(
            urllib.request.Request(url, data, headers, method=method), timeout=30
        ) as got:
            return got.read()

    def fill(self, paths: Iterable[str]) -> None:
        """Empty objects in the bucket, over one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        for path in paths:
            connection.request("PUT", f"/{BUCKET}/{path}", b"")
            connection.getresponse().read()
        connection.close()

    def uri(self, folder: str, *, bucket: str = BUCKET, port: int | None = None) -> str:
        """The root of a folder in a bucket."""
        options = f"endpoint_override=127.0.0.1%3A{port or self.port}&scheme=http&region=us-east-1"
        return f"s3://{bucket}/{folder}?{options}"

    def empty(self) -> Storage:
        """A storage in which nothing is yet."""
        return Storage(self.uri(uuid4().hex))

    @contextmanager
    def checking_keys(self) -> Iterator[None]:
        """Meanwhile only keys that the server has given out are good: none."""
        self.ask("POST", "/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self.ask("POST", "/moto-api/reset-auth", b"inf")


@contextmanager
def serving() -> Iterator[Server]:
    """A server until the end of the block."""
    port = free_port()
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    command, void = [sys.executable, "-c", code], subprocess.DEVNULL
    process = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stdout=void, stderr=void)
    try:
        _wait_for(port, process)
        yield Server(port)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, "the server has stopped by itself"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)

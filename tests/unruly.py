"""A server between a client and an S3 server, which spoils some of the requests on their way."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Spoil = Callable[[str, str], bool]  # of a method and a path


class Unruly(ThreadingHTTPServer):
    """Passes requests on to `port`; answers those that `spoil` picks with `status` (0: never)."""

    daemon_threads = True

    def __init__(self, port: int, spoil: Spoil, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.spoil, self.status = port, spoil, status
        self.spoilt: list[str] = []
        self.stopped = threading.Event()

    @property
    def port(self) -> int:
        return self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Unruly

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        body = self._body()
        if self.server.spoil(self.command, self.path):
            self.server.spoilt.append(f"{self.command} {self.path}")
            self._refuse()
        else:
            self._pass_on(body)

    def _body(self) -> list[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return [self.rfile.read(int(self.headers.get("Content-Length") or 0))]
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return chunks

    def _refuse(self) -> None:
        self.close_connection = True
        if not self.server.status:
            self.server.stopped.wait(30)
            return
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _pass_on(self, body: list[bytes]) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        chunked = "Transfer-Encoding" in self.headers
        upstream.request(
            self.command, self.path, body if chunked else body[0], headers, encode_chunked=chunked
        )
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        # the length of what HEAD leaves out counts too
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        upstream.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve


@contextmanager
def unruly(port: int, spoil: Spoil, status: int = 500) -> Iterator[Unruly]:
    """An unruly server in a thread, until the end of the block."""
    server = Unruly(port, spoil, status)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        thread.join()
        server.socket.close()  # server_close would wait for requests that are never answered

"""A Hub on loopback: the part of the Hugging Face Hub's protocol with which its clients push and load.

The clients run unpatched, in a process of their own that has the variables of `HubServer.environment`:

    with HubServer() as hub:
        subprocess.run([sys.executable, "-c", program], env=hub.environment(tmp_path, WRITE_TOKEN), check=True)
        assert hub.store.paths("tester/vit") == ["README.md", "config.json", "model.safetensors"]

`routes` lists the endpoints. Nothing of what is pushed is kept on disk.
"""

import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from .call import READ_TOKEN, USER, WRITE_TOKEN, Answer, Request
from .routes import answer
from .store import Store

__all__ = ["READ_TOKEN", "USER", "WRITE_TOKEN", "Fault", "HubServer"]
PIECE = 2**16  # bytes read at once


@dataclass
class Fault:
    """Requests that go wrong.

    Args:
        method: of the requests.
        path: regular expression, searched in their path.
        kind: a status, such as 503, in place of what was asked; "request" closes the connection while the body of the
            request is read, and does nothing; "answer" does what was asked, and closes the connection while answering.
        times: how many requests; 0 when it is used up.
        after: bytes of the body that pass before the connection is closed; of an answer, 0 passes not even the head.
    """

    method: str
    path: str
    kind: int | Literal["request", "answer"]
    times: int = 1
    after: int = 0


class HubServer:
    """A running Hub, on a port that the system chooses; a context manager, which stops it.

    Attributes:
        url: its address.
        home: `HF_HOME` of processes that need none of their own.
        store: its content.
        faults: what shall go wrong; a request meets the first that fits and is not used up.
        log: method, path and status of each request; None where a fault closed the connection.
    """

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="hub-home-"))
        # silently, whenever the garbage is collected: in a test, the warning of TemporaryDirectory may be an error
        weakref.finalize(self, shutil.rmtree, self.home, ignore_errors=True)
        self.store = Store()
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, int | None]] = []
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, token: str | None) -> dict[str, str]:
        """All variables of a process that knows this Hub only; `home` is its `HF_HOME`."""
        others = {
            name: value
            for name, value in os.environ.items()
            if name == "HF_VIVAE_CACHE" or not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
        }
        own = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",  # its uploads do not speak HTTP alone
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
        }
        return {**others, **own, **({"HF_TOKEN": token} if token else {})}

    def meet(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets and uses up."""
        with self.lock:
            fits = (
                each for each in self.faults if each.times and each.method == method and re.search(each.path, path)
            )
            fault = next(fits, None)
            if fault:
                fault.times -= 1
            return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # a client of many threads connects at once

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error of the server."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body of an answer go out one after the other

    def log_message(self, *_: object) -> None:
        """`HubServer.log` takes the place of stderr."""

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        fault = self.hub.meet(self.command, path)
        if fault is None:
            self._send(path, self._answer())
        elif fault.kind == "request":
            self._read(fault.after)
            self._close(path)
        elif fault.kind == "answer":
            found = self._answer()
            if fault.after:
                self._write(found, fault.after)
            self._close(path)
        else:
            self._read()
            self._send(path, Answer(fault.kind))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _answer(self) -> Answer:
        request = Request(self.command, self.path, self.headers, self._read(), self.hub.url)
        with self.hub.lock:
            return answer(self.hub.store, request)

    def _read(self, first: int | None = None) -> bytes:
        """The body of the request, or its first bytes."""
        body = b""
        pieces = self._pieces()
        while (first is None or len(body) < first) and (piece := next(pieces, b"")):
            body += piece
        return body

    def _pieces(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while length := int(self.rfile.readline(), 16):
                yield self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, PIECE))
            if not piece:
                raise ConnectionAbortedError
            left -= len(piece)
            yield piece

    def _send(self, path: str, found: Answer) -> None:
        self.hub.log.append((self.command, path, found.status))
        self._write(found, None)

    def _write(self, found: Answer, first: int | None) -> None:
        """Send the answer, or its head and the first bytes of its body."""
        self.send_response(found.status)
        for name, value in {"Content-Length": str(len(found.body)), **found.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body[:first])

    def _close(self, path: str) -> None:
        """End the connection without what is left of the request or the answer."""
        self.hub.log.append((self.command, path, None))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

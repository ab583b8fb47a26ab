"""A server on loopback that gives an archive, whole, in part or not at all."""

import io
import re
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from hf_vivae.corpus.download import download
from hf_vivae.network import NetworkError


def archive_of(seed: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("noise.bin", np.random.default_rng(seed).bytes(400_000))
    return file.getvalue()


ARCHIVE = archive_of()


class Server(ThreadingHTTPServer):
    """Answers each request by the next of `script`, and goes on with its last entry.

    An entry is a status, or "ok", or "cut" (half of what was asked for, then nothing), or "elsewhere" (not the bytes
    that were asked for). `requests` keeps the Range of each request. `record` is what Zenodo says of its record 1, as
    JSON or a status; `url_of_record` is the address of its file. Without `declares`, no answer has its length.
    """

    daemon_threads = True

    def __init__(self, script: list, body: bytes = ARCHIVE, ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.body, self.ranges, self.requests = script, body, ranges, []
        self.declared: int | None = None
        self.declares = True
        self.delay = 0.0
        self.record: bytes | int = 404

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/VIVAE.zip"

    @property
    def url_of_record(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/records/1/files/VIVAE.zip/content"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        if re.fullmatch(r"/api/records/\d+", self.path):
            known = isinstance(server.record, bytes)
            return self.answer(*((200, server.record) if known else (server.record, b"no")))
        step = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        time.sleep(server.delay)
        if isinstance(step, int):
            return self.answer(step, b"no")
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if step == "elsewhere":
            return self.answer(206, server.body[7:], {"Content-Range": f"bytes 7-{len(server.body) - 1}/*"})
        if start >= len(server.body):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(server.body)}"})
        span = {"Content-Range": f"bytes {start}-{len(server.body) - 1}/{len(server.body)}"} if start else {}
        body = server.body[start:]
        sent = body[: len(body) // 2] if step == "cut" else body
        return self.answer(206 if start else 200, sent, span, server.declared or len(body))

    def answer(self, status: int, body: bytes, headers: dict | None = None, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.server.declares:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *arguments) -> None:
        pass


def error_of(url: str, destination: Path, **options) -> str:
    with pytest.raises(NetworkError) as error:
        download(url, destination, **options)
    assert not destination.exists()
    return str(error.value)

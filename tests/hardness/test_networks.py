"""Servers that send elsewhere, whose certificate nobody has signed, or that drip. More in test_download."""

import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from archive_server import ARCHIVE, error_of

from hf_vivae.corpus import download as module
from hf_vivae.corpus.download import download

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Answers as it is told to, under both names that this machine has for itself, and keeps the headers."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.heard = answer, []

    def url(self, host: str = "127.0.0.1", scheme: str = "http", login: str = "") -> str:
        return f"{scheme}://{login}{host}:{self.server_port}/VIVAE.zip"

    def handle_error(self, *arguments) -> None:
        """Clients that hang up are meant to."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.heard.append(dict(self.headers))
        self.close_connection = True
        self.server.answer(self)

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def start(serve) -> Iterator[Callable[[Answer], Server]]:
    """`serve` allows the network and shortens the waits."""
    servers = []

    def begin(answer: Answer) -> Server:
        servers.append(Server(answer))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def send_archive(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(ARCHIVE)))
    handler.end_headers()
    handler.wfile.write(ARCHIVE)


def redirect_to(address: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", address)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_another_host_gets_no_password(start, tmp_path):
    """Zenodo sends downloads elsewhere, which is followed; what was said to the one host is not said there."""
    there = start(send_archive)
    here = start(redirect_to(there.url("localhost")))
    assert download(here.url(login="anna:secret@"), tmp_path / "a.zip").read_bytes() == ARCHIVE
    assert "Authorization" in here.heard[0]
    assert "Authorization" not in there.heard[0]


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/VIVAE.zip", "gopher://127.0.0.1"])
def test_no_redirect_leads_into_files_or_other_protocols(address, start, tmp_path):
    server = start(redirect_to(address))
    assert "found a redirect to an address that does not begin with http:// or https://; give" in error_of(
        server.url(), tmp_path / "a.zip"
    )
    assert len(server.heard) == 1, "asked once"


def test_redirects_without_an_end_are_followed_once(start, tmp_path):
    server = start(redirect_to("/VIVAE.zip"))
    assert "found redirects without an end; give a folder" in error_of(server.url(), tmp_path / "a.zip")
    assert len(server.heard) < 40


@pytest.fixture
def certificate(tmp_path) -> Path:
    """Key and certificate of `localhost`, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl that could make a certificate")
    folder = tmp_path / "certificate"
    folder.mkdir()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        str(folder / "key.pem"),
        "-out",
        str(folder / "certificate.pem"),
    ]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return folder


def secured(server: Server, certificate: Path) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


def test_a_certificate_that_nobody_has_signed_is_refused_at_once(start, certificate, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server = secured(start(send_archive), certificate)
    assert "found a certificate that is not trusted; give a folder" in error_of(
        server.url("localhost", "https"), tmp_path / "a.zip"
    )
    assert server.heard == [], "nothing was asked"
    assert waits == []


def test_a_certificate_of_another_host_is_refused(start, certificate, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate / "certificate.pem"))
    server = secured(start(send_archive), certificate)
    assert download(server.url("localhost", "https"), tmp_path / "a.zip").read_bytes() == ARCHIVE
    assert "found a certificate that is not trusted; give a folder" in error_of(
        server.url("127.0.0.1", "https"), tmp_path / "b.zip"
    )


def test_https_is_not_left_for_http(start, certificate, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate / "certificate.pem"))
    plain = start(send_archive)
    server = secured(start(redirect_to(plain.url("localhost"))), certificate)
    assert "found a redirect from https to http, where anybody may change what arrives; give a folder" in error_of(
        server.url("localhost", "https"), tmp_path / "a.zip"
    )
    assert not list(tmp_path.glob("*.part"))


def test_a_server_that_does_not_speak_tls_is_no_connection(start, tmp_path):
    server = start(send_archive)
    assert "found a connection that was cut (SSLError) (attempt 1); give" in error_of(
        server.url("localhost", "https"), tmp_path / "a.zip"
    )


def drip(pause: float, pieces: int, stop_after: int) -> Answer:
    """The archive in pieces, with a pause before each; nothing more after some of them."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(ARCHIVE)))
        handler.end_headers()
        size = -(-len(ARCHIVE) // pieces)
        for number in range(stop_after):
            time.sleep(pause)
            handler.wfile.write(ARCHIVE[number * size : (number + 1) * size])
            handler.wfile.flush()
        handler.server.finished.wait()

    return answer


def test_what_drips_arrives_as_long_as_something_comes(start, tmp_path):
    """The time limit is of a silence, and not of the whole: all pauses together last longer."""
    server = start(drip(0.05, 80, 80))
    server.finished = threading.Event()
    server.finished.set()
    assert download(server.url(), tmp_path / "a.zip", timeout=3.0).read_bytes() == ARCHIVE
    assert len(server.heard) == 1


def test_a_server_that_falls_silent_is_left_and_what_has_come_is_kept(start, tmp_path):
    server = start(drip(0, 10, 5))
    server.finished = threading.Event()
    said = error_of(server.url(), tmp_path / "a.zip", timeout=0.2, attempts=2)
    server.finished.set()
    assert "found a connection that was cut (ConnectionError) (attempt 2); give" in said
    assert 0 < (tmp_path / "a.zip.part").stat().st_size < len(ARCHIVE)
    assert len(server.heard) >= 2

"""The server of the web page, asked as browsers ask it: who is answered, what is deleted, and what stays."""

import json
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from checkpoints_of import write_checkpoint
from forks import Fork

from hf_vivae.inference import demo
from hf_vivae.inference.demo import WAITING, build_demo, run_demo, write_examples
from hf_vivae.inference.demo_server import launch
from hf_vivae.validation import UserError

API = "/gradio_api"
PATIENCE = 60  # seconds after which a test that waits in vain fails
SERVE = "import sys; from hf_vivae.inference.demo import run_demo; sys.exit(run_demo([sys.argv[1]], int(sys.argv[2])))"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("checkpoint")))


class Page:
    """The page as a browser speaks to it.

    Args:
        address: of its server.
        checkpoint: that is chosen.
    """

    def __init__(self, address: str, checkpoint: str) -> None:
        self.client, self.checkpoint = httpx.Client(base_url=address, timeout=PATIENCE), checkpoint
        functions = self.get("/config").json()["dependencies"]
        self.loading = next(one["id"] for one in functions if one["api_name"] == "load_example")
        self.answering = next(one["id"] for one in functions if "load" in [event for _, event in one["targets"]])

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)

    def upload(self, clip: Path, **headers: str) -> httpx.Response:
        return self.client.post(f"{API}/upload", files={"files": (clip.name, clip.read_bytes())}, headers=headers)

    def load_example(self, number: int) -> dict[str, Any]:
        asked = {"data": [number], "fn_index": self.loading, "session_hash": "example"}
        return self.client.post(f"{API}/run/predict", json=asked).json()["data"][0]["value"]

    def join(self, clip: dict[str, Any] | None, session: str) -> httpx.Response:
        asked = {"data": [clip, self.checkpoint], "fn_index": self.answering, "session_hash": session}
        return self.client.post(f"{API}/queue/join", json=asked)

    def answer(self, clip: dict[str, Any]) -> str:
        """The bars of a clip, or what is amiss, as HTML."""
        assert self.join(clip, "session").status_code == 200
        with self.client.stream("GET", f"{API}/queue/data", params={"session_hash": "session"}) as stream:
            messages = (json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:"))
            done = next(message for message in messages if message["msg"] == "process_completed")
        assert done["success"], done
        return done["output"]["data"][0]


@contextmanager
def served(checkpoint: str, folder: Path) -> Iterator[Page]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "clips"))
        page = build_demo([checkpoint], write_examples(folder))
        _, address, _ = launch(page, quiet=True)
        yield Page(address, checkpoint)
        page.close(verbose=False)


@pytest.fixture(scope="module")
def page(checkpoint, tmp_path_factory) -> Iterator[Page]:
    with served(checkpoint, tmp_path_factory.mktemp("examples")) as page:
        yield page


def wait_until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_examples_stay_where_clips_are_deleted(checkpoint, tmp_path, monkeypatch, undrawn):
    monkeypatch.setattr(demo, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(demo, "KEPT_SECONDS", 0.05)
    with served(checkpoint, tmp_path) as page:
        (clip,) = page.upload(tmp_path / "synthetic_anger.wav").json()
        wait_until(lambda: not Path(clip).exists())
        for number in range(6):
            example = page.load_example(number)
            assert page.get(example["url"]).content.startswith(b"RIFF")
        assert "<meter" in page.answer(example)
        answer = page.answer({"path": clip, "meta": {"_type": "gradio.FileData"}})
        assert "found a deleted one" in answer
        assert str(Path(clip).parent) not in answer


def test_pages_of_other_origins_are_refused(page, tmp_path):
    clip = write_examples(tmp_path)[0]
    port = page.client.base_url.port
    for headers in ({}, {"Origin": f"http://127.0.0.1:{port}"}):
        assert page.upload(clip, **headers).status_code == 200
    others = "https://example.org", "null", f"http://127.0.0.1:{port + 1}", f"http://127.0.0.1.example.org:{port}"
    for origin in (*others, "http://["):
        answer = page.upload(clip, Origin=origin)
        assert (answer.status_code, answer.text) == (403, "Requests of other pages are refused")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("localhost:80", 200),  # forwarded from another port
        ("[::1]:{port}", 200),
        ("example.org:{port}", 400),
        ("127.0.0.1.example.org", 400),
        ("", 400),
    ],
)
def test_only_names_of_this_machine_are_answered(host, status, page):
    assert page.get("/config", Host=host.format(port=page.client.base_url.port)).status_code == status


def test_requests_that_wait_are_bounded(checkpoint, tmp_path, monkeypatch):
    goes_on = threading.Event()
    monkeypatch.setattr(demo, "_answer", lambda *_: (goes_on.wait(PATIENCE) and "", None, None, None))
    with served(checkpoint, tmp_path) as page:
        statuses = [page.join(None, f"session{number}").status_code for number in range(WAITING + 3)]
        goes_on.set()
    assert statuses[:WAITING] == [200] * WAITING
    assert statuses[-1] == 503


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_clips_are_for_this_user_alone_and_go_with_the_page(checkpoint, free_port, tmp_path):
    (tmp_path / "temporary").mkdir()
    env = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    process = Fork([checkpoint, free_port], code=SERVE, env=env)
    address = f"http://127.0.0.1:{free_port}"

    def is_served() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            return httpx.get(f"{address}/config").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(is_served)
    page = Page(address, checkpoint)
    (clip,) = page.upload(write_examples(tmp_path)[0]).json()
    (folder,) = (tmp_path / "temporary").glob("hf_vivae-*")
    assert Path(clip).is_relative_to(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    page.client.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert not folder.exists()


@pytest.mark.parametrize("port", [-1, 0, 65536, 99999])
def test_a_number_that_is_no_port_is_refused_before_anything_is_loaded(port):
    with pytest.raises(UserError, match=f"expected --port of 1 to 65535, found {port}; 7860 is usual."):
        run_demo(["nowhere"], port)


def test_a_port_in_use_is_refused_before_anything_is_loaded(page):
    port = page.client.base_url.port
    with pytest.raises(UserError, match=rf"expected a free --port, found {port} \(Address already in use\); give"):
        run_demo(["nowhere"], port)

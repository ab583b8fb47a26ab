"""Downloads from a server on loopback that cuts, damages and refuses: complete, or an error."""

import hashlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import requests
from archive_server import ARCHIVE, Server, archive_of, error_of
from vivae_copies import archived

from hf_vivae import network
from hf_vivae.corpus import CorpusError, load_vivae
from hf_vivae.corpus import download as module
from hf_vivae.corpus.download import download, is_verified
from hf_vivae.corpus.vivae import ZENODO_URL, archive_path
from hf_vivae.files import cache_folder
from hf_vivae.network import NetworkError
from hf_vivae.validation import UserError

ALTERNATIVES = (
    "give a folder or VIVAE.zip with --data_dir, another address with --data_url, "
    "or use the embedded stand-in with --data synthetic."
)


# without the rest of its package, which loads torch and transformers, the module starts in a second
ALONE = """
import pathlib, sys, types
corpus = pathlib.Path(sys.argv[1])
for name, folder in (("hf_vivae", corpus.parent), ("hf_vivae.corpus", corpus)):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(folder)]
from hf_vivae.corpus.download import download
download(*sys.argv[2:])
"""


def test_a_whole_file_arrives_and_is_kept(serve, tmp_path, capsys):
    server = serve(["ok"])
    path = download(server.url, tmp_path / "new" / "VIVAE.zip")
    assert path == tmp_path / "new" / "VIVAE.zip"
    assert path.read_bytes() == ARCHIVE
    assert download(server.url, path) == path
    assert server.requests == [None]
    assert "VIVAE.zip: 100%" in capsys.readouterr().err
    assert not list(path.parent.glob("*.part"))


def whole_chunks(size: int) -> int:
    """Return the bytes kept of a transfer that was cut: the current chunk is lost."""
    return size - size % module.CHUNK_BYTES


def test_a_cut_connection_is_resumed(serve, tmp_path):
    server = serve(["cut", "cut", "ok"])
    assert download(server.url, tmp_path / "a.zip").read_bytes() == ARCHIVE
    first = whole_chunks(len(ARCHIVE) // 2)
    second = first + whole_chunks((len(ARCHIVE) - first) // 2)
    assert server.requests == [None, f"bytes={first}-", f"bytes={second}-"]


def test_a_later_call_goes_on_where_an_earlier_one_ended(serve, tmp_path):
    server = serve(["cut", 404])
    assert error_of(server.url, tmp_path / "a.zip").startswith(
        f"expected a download from {server.url}, found HTTP 404"
    )
    server.script = ["ok"]
    assert download(server.url, tmp_path / "a.zip").read_bytes() == ARCHIVE
    assert server.requests[-1] == f"bytes={whole_chunks(len(ARCHIVE) // 2)}-"


def test_cuts_without_any_progress_end(serve, tmp_path):
    server = serve(["cut"], ranges=False)
    assert error_of(server.url, tmp_path / "a.zip", attempts=3).startswith(
        f"expected a download from {server.url}, found a connection that was cut (ChunkedEncodingError) (attempt 3)"
    )
    assert len(server.requests) == 3


def test_busy_servers_are_asked_again(serve, tmp_path):
    server = serve([503, 429, 503, "ok"])
    assert download(server.url, tmp_path / "a.zip").read_bytes() == ARCHIVE
    assert len(server.requests) == 4


def test_the_wait_doubles(serve, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", lambda seconds: waits.append(seconds))
    server = serve([503])
    message = error_of(server.url, tmp_path / "a.zip", attempts=4)
    assert message == (
        f"expected a download from {server.url}, found HTTP 503 Service Unavailable (attempt 4); {ALTERNATIVES}"
    )
    assert [wait for wait in waits if wait] == [0.01, 0.02, 0.04]


def test_a_server_that_ignores_ranges_begins_again(serve, tmp_path):
    server = serve(["cut", "ok"], ranges=False)
    assert download(server.url, tmp_path / "a.zip").read_bytes() == ARCHIVE


def test_a_part_that_is_whole_is_taken(serve, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(ARCHIVE)
    server = serve(["ok"])
    assert download(server.url, tmp_path / "a.zip").read_bytes() == ARCHIVE
    assert server.requests == [f"bytes={len(ARCHIVE)}-"]


@pytest.mark.parametrize("part", [ARCHIVE + b"more", archive_of(seed=1)[:1000], b"<html>"])
def test_a_part_of_another_file_is_dropped(serve, tmp_path, part):
    (tmp_path / "a.zip.part").write_bytes(part)
    server = serve(["ok"])
    assert download(server.url, tmp_path / "a.zip").read_bytes() == ARCHIVE
    assert server.requests == [f"bytes={len(part)}-", None]


def test_bytes_from_elsewhere_are_not_taken(serve, tmp_path):
    server = serve(["cut", "elsewhere", "ok"])
    assert download(server.url, tmp_path / "a.zip").read_bytes() == ARCHIVE
    assert server.requests == [None, f"bytes={whole_chunks(len(ARCHIVE) // 2)}-", None]


def test_bytes_are_counted_where_urllib3_does_not(serve, tmp_path, monkeypatch):
    server = serve(["ok"])
    whole = requests.Response.iter_content
    # urllib3 before 2 ends a body that was cut without an error.
    monkeypatch.setattr(requests.Response, "iter_content", lambda *arguments: islice(whole(*arguments), 3))
    message = error_of(server.url, tmp_path / "a.zip", attempts=1)
    assert f"found {3 * module.CHUNK_BYTES} of {len(ARCHIVE)} bytes (attempt 1);" in message


def test_fewer_bytes_than_announced_are_no_file(serve, tmp_path):
    server = serve(["ok"])
    server.declared = len(ARCHIVE) + 10
    message = error_of(server.url, tmp_path / "a.zip", attempts=2)
    assert re.search(r"found a connection that was cut \(ChunkedEncodingError\) \(attempt 2\);", message)


def test_fewer_bytes_announced_than_there_are(serve, tmp_path):
    server = serve(["ok"])
    server.declared = len(ARCHIVE) - 10
    assert error_of(server.url, tmp_path / "a.zip") == (
        f"expected a download from {server.url}, found a damaged zip archive (its directory); {ALTERNATIVES}"
    )


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (403, "Forbidden"), (410, "Gone")])
def test_an_absent_file_is_requested_once(serve, tmp_path, status, reason):
    server = serve([status])
    message = f"expected a download from {server.url}, found HTTP {status} {reason}; {ALTERNATIVES}"
    assert error_of(server.url, tmp_path / "a.zip") == message
    assert len(server.requests) == 1


def test_a_page_is_no_archive(serve, tmp_path):
    server = serve(["ok"], body=b"<!DOCTYPE html><title>Not here</title>")
    assert error_of(server.url, tmp_path / "a.zip") == (
        f"expected a download from {server.url}, found another file than a zip archive (it begins with "
        f"b'<!DOCTYPE html><'); {ALTERNATIVES}"
    )
    assert not list(tmp_path.glob("*.part"))


def test_a_damaged_member_is_no_archive(serve, tmp_path):
    server = serve(["ok"], body=ARCHIVE[:1000] + b"?" + ARCHIVE[1001:])
    assert "found a damaged zip archive (noise.bin);" in error_of(server.url, tmp_path / "a.zip")


def compressed(method: int) -> bytes:
    """An archive of one member, in the middle of which bytes can be damaged."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("noise.bin", np.random.default_rng(0).integers(0, 20, 40_000).astype(np.uint8).tobytes())
    return file.getvalue()


def damaged(data: bytes, places: Sequence[int]) -> bytes:
    changed = bytearray(data)
    for place in places:
        changed[place] ^= 0xFF
    return bytes(changed)


WHOLE = compressed(zipfile.ZIP_DEFLATED)
DAMAGED = {
    "stream": damaged(WHOLE, range(5000, 5100)),
    "bzip2": damaged(compressed(zipfile.ZIP_BZIP2), range(5000, 5100)),
    "lzma": damaged(compressed(zipfile.ZIP_LZMA), range(5000, 5100)),
    "place": damaged(WHOLE, [WHOLE.index(b"PK\1\2") + 45]),
    "version": damaged(WHOLE, [WHOLE.index(b"PK\1\2") + 6]),
    "name": damaged(WHOLE, [WHOLE.index(b"PK\1\2") + 9, WHOLE.index(b"PK\1\2") + 46]),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_of_any_kind_is_dropped_and_the_next_start_begins_at_zero(serve, tmp_path, kind):
    server = serve(["ok"], body=DAMAGED[kind])
    assert "found a damaged zip archive (" in error_of(server.url, tmp_path / "a.zip")
    assert not list(tmp_path.glob("*.part"))
    server.body = WHOLE
    assert download(server.url, tmp_path / "a.zip").read_bytes() == WHOLE
    assert server.requests == [None, None]


@pytest.mark.parametrize("kind", ["stream", "place", "version", "name"])
def test_a_damaged_part_that_is_as_long_as_the_file_is_fetched_again_at_once(serve, tmp_path, kind):
    (tmp_path / "a.zip.part").write_bytes(DAMAGED[kind])
    server = serve(["ok"], body=WHOLE)
    assert download(server.url, tmp_path / "a.zip").read_bytes() == WHOLE
    assert server.requests == [f"bytes={len(WHOLE)}-", None]


class TestChecksum:
    """The checksum of Zenodo's record, for a file from Zenodo."""

    MD5 = hashlib.md5(ARCHIVE).hexdigest()

    @pytest.fixture
    def zenodo(self, serve, monkeypatch) -> Server:
        monkeypatch.setattr(module, "ZENODO_HOST", "127.0.0.1")
        server = serve(["ok"])
        server.record = self.record(self.MD5)
        return server

    @staticmethod
    def record(md5: str) -> bytes:
        files = [{"key": "other.txt", "checksum": "md5:0"}, {"key": "VIVAE.zip", "checksum": f"md5:{md5}"}]
        return json.dumps({"id": 1, "files": files}).encode()

    @pytest.mark.parametrize(
        "address", ["api/records/1/files/VIVAE.zip/content", "records/1/files/VIVAE.zip?download=1"]
    )
    def test_a_file_with_it_is_known_as_verified(self, zenodo, tmp_path, address):
        url = f"{zenodo.url.removesuffix('VIVAE.zip')}{address}"
        path = download(url, tmp_path / "a.zip")
        assert is_verified(path)
        path.write_bytes(archive_of(seed=1))
        assert not is_verified(path), "another file has taken its place"

    def test_a_file_without_it_is_refused_and_dropped(self, zenodo, tmp_path):
        zenodo.body = archive_of(seed=1)
        message = error_of(zenodo.url_of_record, tmp_path / "a.zip")
        assert "found an archive with another MD5 than its record on Zenodo gives;" in message
        assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
        zenodo.body = ARCHIVE
        assert download(zenodo.url_of_record, tmp_path / "a.zip").read_bytes() == ARCHIVE
        assert zenodo.requests == [None, None]

    def test_a_part_of_another_version_is_fetched_again(self, zenodo, tmp_path):
        (tmp_path / "a.zip.part").write_bytes(archive_of(seed=1))
        assert download(zenodo.url_of_record, tmp_path / "a.zip").read_bytes() == ARCHIVE

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            (503, "HTTPError"),
            (b"<html>", "JSONDecodeError"),
            (b'{"files": []}', "KeyError"),
            (b"[]", "TypeError"),
            (b'{"files": [{"key": "VIVAE.zip", "checksum": "sha1:12"}]}', "TypeError"),
        ],
    )
    def test_without_a_checksum_there_is_a_warning(self, zenodo, tmp_path, caplog, record, reason):
        (tmp_path / "a.zip.md5").write_text(f"{self.MD5}  a.zip\n")
        zenodo.record = record
        path = download(zenodo.url_of_record, tmp_path / "a.zip")
        assert caplog.messages == [
            f"http://127.0.0.1:{zenodo.server_port}/api/records/1 gives no MD5 of VIVAE.zip ({reason}): "
            "the archive is checked by names and lengths of the clips only."
        ]
        assert not is_verified(path), "an earlier file had it"

    def test_other_hosts_are_not_asked(self, serve, tmp_path, caplog):
        assert not is_verified(download(serve(["ok"]).url_of_record, tmp_path / "a.zip"))
        assert caplog.messages == []

    def test_it_counts_more_than_the_lengths_of_the_clips(self, zenodo, whole_vivae, tmp_path):
        """Lengths were published by users of the corpus, the checksum with the corpus."""
        zenodo.body = archived(tmp_path / "sent.zip", whole_vivae).read_bytes()
        zenodo.record = self.record(hashlib.md5(zenodo.body).hexdigest())
        url = zenodo.url_of_record
        with pytest.raises(CorpusError, match="found 1 with other lengths than VIVAE"):  # record 1 is not VIVAE's
            load_vivae(url=url, cache_dir=tmp_path)
        assert len(load_vivae(url=url.replace("records/1/", "records/4066235/"), cache_dir=tmp_path)) == 1085


def test_a_cache_of_a_user_who_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("HF_VIVAE_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(UserError, match="expected a folder in HF_VIVAE_CACHE, found ~nobody-of-this-name/cache"):
        cache_folder()


@pytest.mark.parametrize(
    "url",
    [
        "http://anna:hunter2@127.0.0.1:{}/VIVAE.zip?X-Amz-Signature=hunter2#hunter2",
        "anna:hunter2@127.0.0.1:{}/VIVAE.zip?key=hunter2",
        "http://anna:hunter2@[127.0.0.1:{}/VIVAE.zip?key=hunter2",
        "http://anna:hunter2@127.0.0.1:99{}/VIVAE.zip?key=hunter2",
        "http://anna:hunter2/hunter2@127.0.0.1:{}/VIVAE.zip",
    ],
)
def test_passwords_and_signatures_are_in_no_message(serve, tmp_path, caplog, capsys, url):
    server = serve([503])
    with pytest.raises(NetworkError) as error:
        download(url.format(server.server_port), tmp_path / "a.zip", attempts=2)
    assert "127.0.0.1" in str(error.value)
    shown = [str(error.value), repr(error.value), error.value.url, caplog.text, *capsys.readouterr()]
    assert not [text for text in shown if "hunter2" in text]


def test_a_port_without_a_server_fails_at_once(serve, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server = serve(["ok"])
    url = server.url
    server.shutdown()
    server.server_close()
    assert error_of(url, tmp_path / "a.zip") == (
        f"expected a download from {url}, found no connection to 127.0.0.1 (Connection refused); {ALTERNATIVES}"
    )
    assert waits == []


def test_names_that_never_resolve_fail_after_seconds(serve, tmp_path, monkeypatch):
    assert network.REACH_SECONDS < 5
    monkeypatch.setattr(network, "REACH_SECONDS", 0.1)
    resolved = threading.Event()

    def hang(*arguments, **options) -> None:
        resolved.wait(60)
        raise OSError("resolved after all")

    monkeypatch.setattr(network.socket, "create_connection", hang)
    assert error_of("https://nowhere.example/VIVAE.zip", tmp_path / "a.zip") == (
        "expected a download from https://nowhere.example/VIVAE.zip, found no connection to nowhere.example "
        f"(no answer); {ALTERNATIVES}"
    )
    resolved.set()


def test_a_host_that_hangs_up_is_no_network(serve, tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        for _ in range(2):
            listener.accept()[0].close()

    threading.Thread(target=hang_up, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/VIVAE.zip"
    with listener:
        assert error_of(url, tmp_path / "a.zip") == (
            f"expected a download from {url}, found a connection that was cut (ConnectionError) (attempt 1); "
            f"{ALTERNATIVES}"
        )


def test_offline_means_offline(serve, tmp_path, monkeypatch):
    server = serve(["ok"])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = f"expected a download from {server.url}, found HF_HUB_OFFLINE=1, which forbids it; {ALTERNATIVES}"
    assert error_of(server.url, tmp_path / "a.zip") == message
    assert server.requests == []


@pytest.mark.parametrize("url", ["VIVAE.zip", "ftp://example.org/VIVAE.zip", "https:///VIVAE.zip"])
def test_other_addresses_are_refused(serve, tmp_path, url):
    reason = "an address that does not begin with http:// or https://"
    assert error_of(url, tmp_path / "a.zip") == f"expected a download from {url}, found {reason}; {ALTERNATIVES}"


def test_errors_of_the_network_are_both_kinds():
    assert issubclass(NetworkError, OSError)
    assert issubclass(NetworkError, ValueError)


def test_two_processes_download_once(serve, tmp_path):
    server = serve(["ok"])
    server.delay = 0.5
    command = [sys.executable, "-c", ALONE, str(Path(module.__file__).parent), server.url, str(tmp_path / "a.zip")]
    workers = [subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "0"}) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert server.requests == [None]
    assert (tmp_path / "a.zip").read_bytes() == ARCHIVE


def test_the_corpus_is_downloaded_once_per_address(serve, tmp_path, tiny_vivae):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for file in tiny_vivae.rglob("*.wav"):
            archive.write(file, f"VIVAE/full_set/{file.name}")
    server = serve(["ok"], body=body.getvalue())
    options = {"url": server.url, "allow_partial": True}
    for cache, fetched in ((tmp_path, 1), (tmp_path, 1), (tmp_path / "other", 2)):
        assert len(load_vivae(cache_dir=cache, **options)) == 48
        assert len(server.requests) == fetched
    assert archive_path(ZENODO_URL, tmp_path) == tmp_path / "VIVAE.zip"
    assert not (tmp_path / "VIVAE.zip").exists()


def test_without_the_network_vivae_fails_at_once(tmp_path):
    message = f"expected a download from {ZENODO_URL}, found HF_HUB_OFFLINE=1, which forbids it; {ALTERNATIVES}"
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        load_vivae(cache_dir=tmp_path)


def test_the_cache_is_the_folder_of_the_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("HF_VIVAE_CACHE")
    assert cache_folder() == Path(huggingface_hub.constants.HF_HOME, "hf_vivae")

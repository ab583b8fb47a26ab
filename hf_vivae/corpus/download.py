"""Downloads of archives: resumed after an interruption, checked, and moved into place when complete."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ..files import CACHE_REMEDY, disk_errors, make_folder
from ..network import REACH_SECONDS, NetworkError, bare_address, check_reachable
from .archive import DAMAGE, open_member

if TYPE_CHECKING:
    import requests


ALTERNATIVES = (
    "give a folder or VIVAE.zip with --data_dir, another address with --data_url, "
    "or use the embedded stand-in with --data synthetic"
)
BACKOFF_SECONDS = 1.0
CHUNK_BYTES = 1 << 14  # an interruption loses the current chunk
MAX_UNPACKED_BYTES = 4 * 2**30  # VIVAE has 0.1 GiB; a larger archive may be a bomb, whose check takes hours
ZENODO_HOST = "zenodo.org"
FILE_OF_RECORD = re.compile(r"/(?:api/)?records?/(\d+)/files/([^/]+)(?:/content)?")
# reasons for which an archive may be damaged by its transfer
MIXED = "parts of different files"
CUT = "an archive that arrived cut or damaged"

logger = logging.getLogger(__name__)


class _Interrupted(Exception):
    """Failed transfer that may succeed when it is repeated."""

    def __init__(self, found: str, answered: bool = True) -> None:
        super().__init__(found)
        self.answered = answered


def download(
    url: str, destination: str | Path, timeout: float = 30.0, attempts: int = 6, alternatives: str = ALTERNATIVES
) -> Path:
    """Download a zip archive, unless the file exists.

    The bytes are collected in `<destination>.part`, which later calls continue where the server can; a lock lets one
    process download at a time. Where the server does not announce the length, the archive's directory, which is at its
    end, shows that all bytes have arrived. A host that does not answer is an error within 5 s. A file from Zenodo must
    have the MD5 of its record, which is saved in `<destination>.md5`.

    Args:
        url: an http or https address.
        destination: of the file.
        timeout: seconds without a byte after which a transfer is interrupted.
        attempts: number of transfers in a row that may fail without progress.
        alternatives: what to do without the network.

    Raises:
        NetworkError: with the address, the reason and what to do without the network.
        UserError: where the file cannot be written; the bytes received so far are kept.
    """
    destination = Path(destination)
    if destination.exists():
        return destination
    try:
        _refuse_offline(url)
        make_folder(destination.parent, CACHE_REMEDY)
        with disk_errors(destination.parent, CACHE_REMEDY):
            return _download_once(url, destination, timeout, attempts)
    except NetworkError as error:
        error.remedy = alternatives
        raise


def _download_once(url: str, destination: Path, timeout: float, attempts: int) -> Path:
    from filelock import FileLock

    with FileLock(f"{destination}.lock"):
        if not destination.exists():
            part = destination.with_name(f"{destination.name}.part")
            check_reachable(url)
            md5 = _published_md5(url, timeout)
            _transfer(url, part, md5, timeout, attempts)
            if md5:
                _md5_file(destination).write_text(f"{md5}  {destination.name}\n")
            else:  # left by an earlier download
                _md5_file(destination).unlink(missing_ok=True)
            os.replace(part, destination)
    return destination


def is_verified(destination: Path) -> bool:
    """Return whether a downloaded file has the MD5 that Zenodo published when it was downloaded."""
    file = _md5_file(destination)
    return file.is_file() and file.read_text().split()[:1] == [_md5(destination)]


def _md5_file(destination: Path) -> Path:
    return destination.with_name(f"{destination.name}.md5")


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def zenodo_file(url: str) -> tuple[str, str] | None:
    """Return record number and file name of an address at Zenodo; None for other addresses."""
    parts = urlsplit(url)
    file = FILE_OF_RECORD.fullmatch(parts.path)
    return (file[1], unquote(file[2])) if file and parts.hostname == ZENODO_HOST else None


def _published_md5(url: str, timeout: float) -> str | None:
    """Return the MD5 of a file in its record at Zenodo; None for other hosts and, with a warning, without one."""
    import requests

    file = zenodo_file(url)
    if file is None:
        return None
    parts = urlsplit(url)
    record = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/api/records/{file[0]}"
    try:
        with requests.get(record, timeout=(REACH_SECONDS, timeout)) as response:
            response.raise_for_status()
            checksums = {entry["key"]: entry["checksum"] for entry in response.json()["files"]}
        return re.fullmatch("md5:([0-9a-f]{32})", checksums[file[1]])[1]
    except (requests.RequestException, KeyError, TypeError) as error:  # TypeError: other JSON, or another checksum
        logger.warning(
            "%s gives no MD5 of %s (%s): the archive is checked by names and lengths of the clips only.",
            record, file[1], type(error).__name__,
        )  # fmt: skip
        return None


def _refuse_offline(url: str) -> None:
    from huggingface_hub import constants

    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise NetworkError(url, "an invalid address: its host has one bracket, or its port is not a number") from error
    if parts.scheme not in ("http", "https") or not host:
        raise NetworkError(url, "an address that does not begin with http:// or https://")
    if constants.HF_HUB_OFFLINE:
        raise NetworkError(url, "HF_HUB_OFFLINE=1, which forbids it")


def _transfer(url: str, part: Path, md5: str | None, timeout: float, attempts: int) -> None:
    failures, largest, answered = 0, _size(part), False
    while True:
        try:
            doubt = _fetch(url, part, timeout)
            _check_archive(part, md5, doubt, url)
            return
        except _Interrupted as error:
            failures = 1 if _size(part) > largest else failures + 1
            largest = max(largest, _size(part))
            answered = answered or error.answered
            if failures >= attempts or not answered:
                raise NetworkError(url, f"{error} (attempt {failures})") from error
            wait = BACKOFF_SECONDS * 2 ** (failures - 1)
            start = "" if _size(part) else " from zero"
            logger.warning("Download of %s: %s; again%s in %.0f s.", bare_address(url), error, start, wait)
            time.sleep(wait)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch(url: str, part: Path, timeout: float) -> str | None:
    """Make one request from the end of `part` on, and write the bytes of the answer.

    Returns:
        `MIXED` where the file was continued, `CUT` where its length was not announced; None for a whole file.
    """
    import requests

    start = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    answered = False
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(REACH_SECONDS, timeout)) as response:
            answered = True
            if response.status_code == 416:  # no bytes are left to send, if `part` is a part of this file
                if response.headers.get("Content-Range") != f"bytes */{start}":
                    part.unlink()
                    raise _Interrupted("another file than at the start of the download")
                return MIXED
            if url.startswith("https:") and not response.url.startswith("https:"):
                raise NetworkError(url, "a redirect from https to http, where anybody may change what arrives")
            status = f"HTTP {response.status_code} {response.reason}"
            if response.status_code >= 500 or response.status_code == 429:  # 429: too many requests
                raise _Interrupted(status)
            if response.status_code not in (200, 206):
                raise NetworkError(url, status)
            continued = response.status_code == 206
            if start and not continued:  # 200: Range is ignored
                logger.warning("%s cannot continue a download, which starts from zero.", bare_address(url))
            _write(response, part, start if continued else 0)
            return MIXED if continued else None if "Content-Length" in response.headers else CUT
    except requests.TooManyRedirects as error:
        raise NetworkError(url, "redirects without an end") from error
    except requests.exceptions.InvalidSchema as error:
        raise NetworkError(url, "a redirect to an address that does not begin with http:// or https://") from error
    except requests.RequestException as error:
        if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise NetworkError(url, "a certificate that is not trusted") from error
        raise _Interrupted(f"a connection that was cut ({type(error).__name__})", answered) from error


def _write(response: requests.Response, part: Path, start: int) -> None:
    from tqdm import tqdm

    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True)
    with part.open("ab" if start else "wb") as file, bar:
        for chunk in response.iter_content(CHUNK_BYTES):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise _Interrupted(f"{_size(part)} of {total} bytes")


def _find_damage(part: Path) -> str | None:
    """Return the damaged part of an archive: its first damaged member or its directory; None if there is none."""
    damaged = "its directory"
    try:
        with zipfile.ZipFile(part) as archive:
            members = archive.infolist()
            if sum(info.file_size for info in members) > MAX_UNPACKED_BYTES:
                return f"more than {MAX_UNPACKED_BYTES / 2**30:.0f} GiB unpacked"
            for info in members:
                if info.flag_bits & 1:  # encrypted; refused when it is read
                    continue
                damaged = info.filename
                with open_member(archive, info) as member:
                    while member.read(CHUNK_BYTES):  # to its end, where the checksum is compared
                        pass
    except DAMAGE:
        return damaged
    return None


def _check_archive(part: Path, md5: str | None, doubt: str | None, url: str) -> None:
    """Refuse a damaged archive, and one without the published MD5; repeat a transfer that may have damaged it.

    Args:
        part: the file.
        md5: of its record; None where none is known.
        doubt: as `_fetch` returns it.
        url: its address.
    """
    damaged = _find_damage(part)
    if damaged is None and md5 in (None, _md5(part)):
        return
    with part.open("rb") as file:
        start = file.read(16)
    part.unlink()
    if doubt == MIXED or (doubt == CUT and b"PK".startswith(start[:2])):
        raise _Interrupted(doubt)
    if damaged is None:
        raise NetworkError(url, "an archive with another MD5 than its record on Zenodo gives")
    if start.startswith(b"PK"):
        raise NetworkError(url, f"a damaged zip archive ({damaged})")
    raise NetworkError(url, f"another file than a zip archive (it begins with {start!r})")

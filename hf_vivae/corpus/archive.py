"""Untrusted zip archives, read member by member into memory; nothing is written at the paths that members name."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ..validation import UserError
from .schema import first_names, is_clutter

# VIVAE's longest clip lasts 2 s (176 kB) and all clips take about 90 MB; archives far above that are refused.
MAX_MEMBER_BYTES, MAX_TOTAL_BYTES = 64 * 2**20, 2 * 2**30
# Exceptions of zipfile for archives with damaged bytes (48,000 were tried): a wrong checksum, a stream that does not
# decode or ends early, impossible sizes and offsets, undecodable names, an unknown version or method, a password.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)
# With any other method, zipfile unpacks a chunk of the archive at once, without a limit on the size of the result.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Member:
    """A file of an archive: its path, and its content or the reason why it cannot be read (`fault`)."""

    path: PurePosixPath
    content: bytes | None
    fault: str = ""


def read_members(source: Path, accepts: Callable[[PurePosixPath], bool]) -> list[Member]:
    """Return the members of a zip archive, without files that operating systems add.

    Args:
        source: the archive.
        accepts: returns True for the paths of the members to read.

    Raises:
        UserError: for an archive that is damaged or encrypted, or would take too much memory.
    """
    with _open(source) as archive:
        members = [(info, path) for info, path in _members(archive) if accepts(path)]
        _check_members([info for info, _ in members], source)
        return [_read_member(archive, info, path) for info, path in members]


def list_members(source: Path) -> list[PurePosixPath]:
    """Return the paths of all members of a zip archive, without files that operating systems add.

    Raises:
        UserError: for a file that is not a complete zip archive.
    """
    with _open(source) as archive:
        return [path for _, path in _members(archive)]


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """Open a member as a file, which yields at most as many bytes as the archive's directory states.

    Raises:
        NotImplementedError: for a compression that unpacks without a limit.
        Exception: one of `DAMAGE`; reading from the file may raise them, too.
    """
    if info.compress_type not in METHODS:
        # the exception that zipfile raises for unknown methods, so that callers treat both alike (`DAMAGE`)
        raise NotImplementedError(f"compression method {info.compress_type}, not stored or deflated")
    return archive.open(info)


def _open(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except DAMAGE as error:
        raise UserError(
            f"expected a folder or a whole zip archive at {source}, found a file that is neither ({error}); "
            "correct --data_dir, or leave it out to download VIVAE."
        ) from error


def _members(archive: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    paths = [(info, PurePosixPath(info.filename.replace("\\", "/"))) for info in archive.infolist()]
    return [(info, path) for info, path in paths if not any(map(is_clutter, path.parts))]


def _check_members(members: list[zipfile.ZipInfo], source: Path) -> None:
    locked = [info.filename for info in members if info.flag_bits & 1]
    if locked:
        raise UserError(
            f"expected an archive without a password, found {len(locked)} encrypted files in {source} "
            f"({first_names(locked)}); unpack it and give the folder with --data_dir."
        )
    large = [info.filename for info in members if info.file_size > MAX_MEMBER_BYTES]
    total = sum(info.file_size for info in members)
    if large or total > MAX_TOTAL_BYTES:
        size = f"more in {first_names(large)}" if large else f"{total / 2**30:.1f} GiB"
        raise UserError(
            f"expected clips of at most {MAX_MEMBER_BYTES // 2**20} MiB and {MAX_TOTAL_BYTES // 2**30} GiB "
            f"in all in {source}, found {size}; get VIVAE.zip again from its source."
        )


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: PurePosixPath) -> Member:
    try:
        with open_member(archive, info) as file:
            # with a limit: where the directory states a wrong size, zipfile would unpack gigabytes and discard them
            return Member(path, file.read(info.file_size))
    except DAMAGE as error:
        return Member(path, None, f"a damaged member of the archive ({error})")

"""Zip archives of strangers, read member by member into memory: nothing is written, so nothing can escape."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ..validation import UserError
from .schema import first_names, is_clutter

# VIVAE's longest clip lasts 2 s (176 kB) and all of it takes some 90 MB: more than this is a trap.
MAX_MEMBER_BYTES, MAX_TOTAL_BYTES = 64 * 2**20, 2 * 2**30
# What zipfile raises for archives with damaged bytes (48,000 were tried): a bad sum, a stream that does not decode or
# ends too early, sizes and places that cannot be, names that are no text, an unknown version or method, a password.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)
# Of all others, zipfile unpacks a piece of the archive at once, however much comes out of it.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Member:
    """One file of an archive: its path, its content, or why there is none."""

    path: PurePosixPath
    content: bytes | None
    fault: str = ""


def read_members(source: Path, wanted: Callable[[PurePosixPath], bool]) -> list[Member]:
    """Members of a zip archive whose path is wanted, without what operating systems leave there.

    Raises:
        ValueError: for what is no whole zip archive, is encrypted, or would take too much memory.
    """
    with _open(source) as archive:
        members = [(info, path) for info, path in _members(archive) if wanted(path)]
        _check([info for info, _ in members], source)
        return [_read(archive, info, path) for info, path in members]


def list_members(source: Path) -> list[PurePosixPath]:
    """Paths of all members of a zip archive, without what operating systems leave there.

    Raises:
        ValueError: for what is no whole zip archive.
    """
    with _open(source) as archive:
        return [path for _, path in _members(archive)]


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """A member as a file that gives no more bytes than the archive's directory says.

    Raises:
        NotImplementedError: for a compression that unpacks without a limit.
        Exception: one of `DAMAGE`, as reading from it does.
    """
    if info.compress_type not in METHODS:
        # as zipfile raises for methods that it does not know, so that readers treat both alike (`DAMAGE`)
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


def _check(members: list[zipfile.ZipInfo], source: Path) -> None:
    locked = [info.filename for info in members if info.flag_bits & 1]
    if locked:
        raise UserError(
            f"expected an archive without a password, found {len(locked)} encrypted files in {source} "
            f"({first_names(locked)}); unpack it and give the folder with --data_dir."
        )
    large = [info.filename for info in members if info.file_size > MAX_MEMBER_BYTES]
    total = sum(info.file_size for info in members)
    if large or total > MAX_TOTAL_BYTES:
        found = f"more in {first_names(large)}" if large else f"{total / 2**30:.1f} GiB"
        raise UserError(
            f"expected clips of at most {MAX_MEMBER_BYTES // 2**20} MiB and {MAX_TOTAL_BYTES // 2**30} GiB "
            f"in all in {source}, found {found}; get VIVAE.zip again from its source."
        )


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: PurePosixPath) -> Member:
    try:
        with open_member(archive, info) as file:
            # no more: where the directory lies about the size, zipfile would unpack gigabytes and then drop them
            return Member(path, file.read(info.file_size))
    except DAMAGE as error:
        return Member(path, None, f"a damaged member of the archive ({error})")

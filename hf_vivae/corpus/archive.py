"""Untrusted archives (zip, tar, tar.gz), read member by member; nothing is written at the paths that members name."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from ..files import is_clutter
from ..validation import UserError, first_names

# The largest corpus, EmoGator, takes 0.5 GiB with clips of up to 30 kB, and VIVAE's longest clip 176 kB; archives far
# above that are refused.
MAX_MEMBER_BYTES, MAX_TOTAL_BYTES = 64 * 2**20, 2 * 2**30
# A tar has no directory: its headers are collected in memory, 0.5 kB for most files, and zeros compress well.
MAX_TAR_MEMBERS, MAX_HEADER_BYTES = 200_000, 256 * 2**20
# Exceptions of zipfile for archives with damaged bytes (48,000 were tried): a wrong checksum, a stream that does not
# decode or ends early, impossible sizes and offsets, undecodable names, an unknown version or method, a password.
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError, RuntimeError)
# With any other method, zipfile unpacks a chunk of the archive at once, without a limit on the size of the result.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
GZIP, TAR, TAR_PLACE = b"\x1f\x8b", b"ustar", 257  # first bytes of a gzip file; those of a tar, and their place


@dataclass(frozen=True)
class Member:
    """A file of an archive: its path, and its content or the reason why it cannot be read (`fault`)."""

    path: PurePosixPath
    content: bytes | None
    fault: str = ""


@dataclass(frozen=True)
class _Entry:
    """A file in the directory of a zip or a header of a tar: its path and size, and if a password locks it."""

    path: PurePosixPath
    size: int
    locked: bool
    info: zipfile.ZipInfo | tarfile.TarInfo


def is_folder(source: Path, expected: str, remedy: str) -> bool:
    """Return True for a folder that can be read, and False for a file.

    Args:
        source: given as `--data_dir`.
        expected: description of folder and archive, for the message.
        remedy: what to do instead.

    Raises:
        UserError: for all others: reading a pipe or a device may never end.
    """
    try:
        if source.is_dir():
            os.scandir(source).close()
            return True
        if not stat.S_ISREG(source.stat().st_mode):
            raise FileNotFoundError
        return False
    except OSError as error:
        absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise UserError(
            f"expected {expected} at {source}, found {'nothing' if absent else error.strerror}; {remedy}."
        ) from error


def read_members(source: Path, accepts: Callable[[PurePosixPath], bool]) -> Iterator[Member]:
    """Yield the members of an archive, without files that operating systems add; one at a time is in memory.

    Args:
        source: the archive.
        accepts: returns True for the paths of the members to read.

    Raises:
        UserError: for an archive that is damaged or encrypted, or would take too much memory.
    """
    with _open(source) as archive:
        entries = [entry for entry in _entries(archive, source) if accepts(entry.path)]
        _check_entries(entries, source)
        for entry in entries:
            yield _read_member(archive, entry)


def list_members(source: Path) -> list[PurePosixPath]:
    """Return the paths of all members of an archive, without files that operating systems add.

    Raises:
        UserError: for a file that is not a complete archive.
    """
    with _open(source) as archive:
        return [entry.path for entry in _entries(archive, source)]


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


class _BoundedReads:
    """A file for tarfile, which keeps headers of any size and number in memory.

    Attributes:
        left: bytes that may still be read; skipped ones do not count.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell
        self.left = MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"more than {MAX_HEADER_BYTES // 2**20} MiB of headers")
        return self._file.read(size)


@contextmanager
def _open(source: Path) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(source, "rb"))
            start = file.read(TAR_PLACE + len(TAR))
            file.seek(0)
            if start.startswith(GZIP) or start.endswith(TAR):
                unpacked = gzip.GzipFile(fileobj=file) if start.startswith(GZIP) else file
                archive = stack.enter_context(tarfile.open(fileobj=_BoundedReads(unpacked), mode="r:"))
            else:
                archive = stack.enter_context(zipfile.ZipFile(file))
        except DAMAGE as error:
            raise _refused(source, error) from error
        yield archive


def _refused(source: Path, error: Exception) -> UserError:
    return UserError(
        f"expected a folder or a whole archive (zip, tar or tar.gz) at {source}, found a file that is neither "
        f"({error}); correct --data_dir, or leave it out to download the corpus."
    )


def _entries(archive: zipfile.ZipFile | tarfile.TarFile, source: Path) -> list[_Entry]:
    if isinstance(archive, zipfile.ZipFile):
        infos = [(info, info.filename, info.file_size, bool(info.flag_bits & 1)) for info in archive.infolist()]
    else:
        infos = [(info, info.name, info.size, False) for info in _tar_files(archive, source)]
    entries = [_Entry(PurePosixPath(name.replace("\\", "/")), *facts, info) for info, name, *facts in infos]
    return [entry for entry in entries if not any(map(is_clutter, entry.path.parts))]


def _tar_files(archive: tarfile.TarFile, source: Path) -> list[tarfile.TarInfo]:
    """Return the files of a tar, without links, devices and sparse files, all headers of which are read."""
    files: list[tarfile.TarInfo] = []
    total = count = 0
    try:
        for info in archive:
            # before the next header, to find which tarfile skips the bytes of this member
            total, count = total + max(info.size, 0), count + 1
            if total > MAX_TOTAL_BYTES or count > MAX_TAR_MEMBERS:
                raise UserError(
                    f"expected at most {MAX_TAR_MEMBERS} members and {MAX_TOTAL_BYTES // 2**30} GiB in {source}, "
                    "found more; get the archive again from its source."
                )
            if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and info.sparse is None:
                files.append(info)
        archive.fileobj.left = MAX_TOTAL_BYTES + MAX_MEMBER_BYTES  # of members, which `_check_entries` limits
        archive.fileobj.read(MAX_MEMBER_BYTES)  # to the end, where gzip compares its checksum
    except UserError:
        raise
    except DAMAGE as error:
        raise _refused(source, error) from error
    return files


def _check_entries(entries: list[_Entry], source: Path) -> None:
    locked = [str(entry.path) for entry in entries if entry.locked]
    if locked:
        raise UserError(
            f"expected an archive without a password, found {len(locked)} encrypted files in {source} "
            f"({first_names(locked)}); unpack it and give the folder with --data_dir."
        )
    large = [str(entry.path) for entry in entries if entry.size > MAX_MEMBER_BYTES]
    total = sum(entry.size for entry in entries)
    if large or total > MAX_TOTAL_BYTES:
        size = f"more in {first_names(large)}" if large else f"{total / 2**30:.1f} GiB"
        raise UserError(
            f"expected clips of at most {MAX_MEMBER_BYTES // 2**20} MiB and {MAX_TOTAL_BYTES // 2**30} GiB "
            f"in all in {source}, found {size}; get the archive again from its source."
        )


def _read_member(archive: zipfile.ZipFile | tarfile.TarFile, entry: _Entry) -> Member:
    try:
        is_zip = isinstance(archive, zipfile.ZipFile)
        with open_member(archive, entry.info) if is_zip else archive.extractfile(entry.info) as file:
            # with a limit: where the directory states a wrong size, zipfile would unpack gigabytes and discard them
            return Member(entry.path, file.read(entry.size))
    except DAMAGE as error:
        return Member(entry.path, None, f"a damaged member of the archive ({error})")

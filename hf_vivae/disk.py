"""Disks that are full or may not be written to: said in one sentence, whichever library fails on them."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from .validation import UserError

CACHE_CURE = "free some room or set HF_VIVAE_CACHE to another folder, and repeat the command"
RUN_CURE = "free some room and repeat the command, and the run goes on from its last checkpoint"
OUTPUT_CURE = "free some room or give another place, and repeat the command"
PLACE_CURE = "give another place, and repeat the command"
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
OF_THE_FILE = (errno.EACCES, errno.EPERM)
NO_ROOM = 2**20  # bytes; torch and libsndfile say only that a write failed, and then less than this is left


class DiskError(UserError):
    """A folder that cannot be written to; the message says why, and what to do."""


@contextmanager
def writing(folder: Path, cure: str) -> Iterator[None]:
    """Put into words what keeps a folder from being written to.

    Args:
        folder: that is written to, perhaps not there yet.
        cure: what to do.

    Raises:
        DiskError: for a disk that is full or read-only. Every other error passes as it is.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        found = find_fault(error, folder)
        if found is None:
            raise
        raise DiskError(f"expected a folder to write to, found {folder} ({found}); {cure}.") from error


@contextmanager
def whole_file(path: Path, cure: str = OUTPUT_CURE) -> Iterator[Path]:
    """Where to write what takes the name of a file once it is whole.

    Args:
        path: of the file; its folder is made. What is there stays until the new one is whole.
        cure: what to do where it cannot be written.

    Raises:
        DiskError: see `writing`.
    """
    part = _part(path)
    with writing(path.parent, cure):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def check_new(path: Path) -> None:
    """Refuse a file that is there, or could not be written, before anything is loaded.

    Args:
        path: given as `--output`.

    Raises:
        UserError: for a name that is taken.
        DiskError: see `check_place`.
    """
    if os.path.lexists(path):
        raise UserError(f"expected a new file as --output, found {path}; remove it, or give another name.")
    check_place(path)


def check_place(path: Path, flag: str = "") -> None:
    """Make a file's folder, and refuse one in which the file could not be written.

    Args:
        path: of the file.
        flag: that names it, for the sentence.

    Raises:
        DiskError: for whatever the system says against it, such as a file in place of a folder.
    """
    part = _part(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink(missing_ok=True)  # a process of another machine may have the same number
    except OSError as error:
        found = "a file" if os.path.isfile(path.parent) else error.strerror
        cure = OUTPUT_CURE if error.errno in OF_THE_DISK else PLACE_CURE
        named = f" as {flag}" if flag else ""
        raise DiskError(f"expected a folder to write to{named}, found {path.parent} ({found}); {cure}.") from error


def make_folder(folder: Path, flag: str = "--output_dir") -> None:
    """Make a folder where there is none, and refuse one in which no file could be written.

    Raises:
        DiskError: see `check_place`.
    """
    check_place(folder / "probe", flag)  # os.access says yes to root, and of disks that are read-only


def read_text(file: Path, cure: str) -> str:
    """The text of a file that a user has named.

    Args:
        file: that is there.
        cure: what to do where it cannot be read.

    Raises:
        UserError: for a file without permission to read it, and one that is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"expected a file to read, found {file} ({error.strerror}); {cure}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"expected text in UTF-8, found none in {file} ({error.reason}); {cure}.") from error


def _part(path: Path) -> Path:
    return path.with_name(f".{os.getpid()}.{path.name}")  # with its suffix, which says what is written


def find_fault(error: Exception, folder: Path) -> str | None:
    """What is wrong with the disk where that is what an error is about; else None."""
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        return error.strerror
    if isinstance(error, OSError) and error.errno in OF_THE_FILE:
        return error.strerror if error.filename and folder in Path(error.filename).parents else None
    if isinstance(error, OSError) and error.errno is not None:
        return None
    return "No space left on device" if _is_full(folder) else None


def _is_full(folder: Path) -> bool:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free < NO_ROOM

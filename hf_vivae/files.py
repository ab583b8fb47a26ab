"""Files and folders: atomic writes, JSON, the cache folder, and one sentence for disks that cannot be written to."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
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


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: readers see the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write strict JSON: NaN, which JSON has not, becomes null."""
    write_text(path, json.dumps(finite(content), indent=2, allow_nan=False) + "\n")


def write_lines(path: Path, entries: list[dict[str, Any]]) -> None:
    """Write one line of strict JSON for each entry."""
    write_text(path, "".join(json.dumps(finite(entry), allow_nan=False) + "\n" for entry in entries))


def read_json(file: Path, cure: str = "remove its folder to train the run again") -> dict[str, Any]:
    """The content of a file of a run folder.

    Raises:
        ValueError: where it is damaged or cannot be read, naming it and the cure.
    """
    try:
        content = json.loads(read_text(file, cure))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"expected JSON in {file}, found a damaged file ({error}); {cure}.") from error
    if not isinstance(content, dict):
        raise UserError(f"expected a JSON object in {file}, found {type(content).__name__}; {cure}.")
    return content


class Claimed(UserError):
    """Another process is at work in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another process is training in {folder}; wait for its end, or give another --output_dir.")
        self.folder = folder


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder while this one writes to it.

    Raises:
        Claimed: where another process is at work there.
        ValueError: where nothing can be written there.
    """
    make_folder(folder)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise Claimed(folder) from error
    try:
        yield
    finally:
        lock.release()


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def cache_folder() -> Path:
    """Folder of what the package downloads or makes: `$HF_VIVAE_CACHE`, else `$HF_HOME/hf_vivae`.

    Raises:
        UserError: for `~name` of a user who is not there.
    """
    from huggingface_hub import constants

    folder = Path(os.environ.get("HF_VIVAE_CACHE") or Path(constants.HF_HOME, "hf_vivae"))
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise UserError(f"expected a folder in HF_VIVAE_CACHE, found {folder} ({error}); set another.") from error


def read_yaml(file: Path) -> dict[str, Any]:
    if not os.path.isfile(file):
        raise UserError(f"expected the recipe {file}, found none; choose another --recipe or --model.")
    try:
        values = yaml.safe_load(read_text(file, "correct it"))
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not valid YAML ({' '.join(str(error).split())}); correct it.") from error
    if not isinstance(values, dict):
        raise UserError(f"expected {file} to hold `key: value` lines, found {type(values).__name__}; correct it.")
    return values

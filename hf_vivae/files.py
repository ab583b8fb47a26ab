"""Files: atomic writes, JSON, YAML and tables, walks, locks, the cache folder, and errors of disks as `DiskError`."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from .validation import UserError

CACHE_REMEDY = "free some room or set HF_VIVAE_CACHE to another folder, and repeat the command"
RUN_REMEDY = "free some room and repeat the command, and the run goes on from its last checkpoint"
OUTPUT_REMEDY = "free some room or give another place, and repeat the command"
PLACE_REMEDY = "give another place, and repeat the command"
FULL_OR_READ_ONLY = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
NOT_PERMITTED = (errno.EACCES, errno.EPERM)
NO_ROOM = 2**20  # bytes; torch and libsndfile only report that a write failed, and then less than this is left


class DiskError(UserError):
    """A folder that cannot be written to; the message gives the reason and what to do."""


@contextmanager
def disk_errors(folder: Path, remedy: str) -> Iterator[None]:
    """Turn errors of a full, read-only or closed disk into `DiskError`.

    Args:
        folder: written to in the block; it may be missing yet.
        remedy: what to do.

    Raises:
        DiskError: for a disk that cannot be written to. Every other error passes as it is.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = find_fault(error, folder)
        if reason is None:
            raise
        raise DiskError(f"expected a folder to write to, found {folder} ({reason}); {remedy}.") from error


def find_fault(error: Exception, folder: Path) -> str | None:
    """Return why a disk could not be written to, or None where the error has another cause."""
    number = error.errno if isinstance(error, OSError) else None
    if number in FULL_OR_READ_ONLY:
        return error.strerror
    if number in NOT_PERMITTED:
        return error.strerror if error.filename and folder in Path(error.filename).parents else None
    if number is not None:
        return None
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return "No space left on device" if shutil.disk_usage(existing).free < NO_ROOM else None


@contextmanager
def atomic_file(path: Path, remedy: str | None = None) -> Iterator[Path]:
    """Give a temporary path whose file replaces `path` when the block ends without an error.

    Other processes see the old file or the whole new one.

    Args:
        path: of the file; its folder is made.
        remedy: what to do where the disk cannot be written to; by default such errors pass as they are.

    Raises:
        DiskError: see `disk_errors`.
    """
    part = _part(path)
    with disk_errors(path.parent, remedy) if remedy else nullcontext():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{os.getpid()}.{path.name}")  # with the suffix, from which writers take the format


def check_new(path: Path) -> None:
    """Refuse an output file that exists or could not be written, before anything is loaded.

    Args:
        path: given as `--output`.

    Raises:
        UserError: for a name that is taken.
        DiskError: see `check_place`.
    """
    if os.path.lexists(path):
        raise UserError(f"expected a new file as --output, found {path}; remove it, or give another name.")
    check_place(path)


def check_place(path: Path, flag: str = "", remedy: str | None = None) -> None:
    """Make a file's folder, and refuse one in which the file could not be written.

    Args:
        path: of the file.
        flag: that gives the path, for the message.
        remedy: what to do; by default, give another place.

    Raises:
        DiskError: for any refusal of the system, such as a file in place of a folder.
    """
    part = _part(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink(missing_ok=True)  # a process of another machine may have the same number
    except OSError as error:
        reason = "a file" if os.path.isfile(path.parent) else error.strerror
        remedy = remedy or (OUTPUT_REMEDY if error.errno in FULL_OR_READ_ONLY else PLACE_REMEDY)
        name = f" as {flag}" if flag else ""
        raise DiskError(f"expected a folder to write to{name}, found {path.parent} ({reason}); {remedy}.") from error


def make_folder(folder: Path, remedy: str | None = None) -> None:
    """Make a folder where there is none, and refuse one in which no file could be written.

    Args:
        folder: given as `--output_dir`, or one of the cache.
        remedy: what to do with a folder of the cache that cannot be written to.

    Raises:
        DiskError: see `check_place`.
    """
    # a file is written, since os.access permits everything to root, even on read-only disks
    check_place(folder / "probe", "" if remedy else "--output_dir", remedy)


def read_text(file: Path, remedy: str) -> str:
    """Return the text of a file that a user has named.

    Args:
        file: an existing file.
        remedy: what to do where it cannot be read.

    Raises:
        UserError: for a file without permission to read it, and one that is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"expected a file to read, found {file} ({error.strerror}); {remedy}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"expected text in UTF-8, found none in {file} ({error.reason}); {remedy}.") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step, see `atomic_file`."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write strict JSON in one step; NaN, which JSON lacks, becomes null."""
    write_text(path, json.dumps(finite(content), indent=2, allow_nan=False) + "\n")


def write_lines(path: Path, entries: list[dict[str, Any]]) -> None:
    """Write one line of strict JSON for each entry, in one step."""
    write_text(path, "".join(json.dumps(finite(entry), allow_nan=False) + "\n" for entry in entries))


def finite(value: Any) -> Any:
    """Return a copy of a JSON value with None in place of NaN and infinity, lists for tuples and text as keys."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(file: Path, remedy: str = "remove its folder to train the run again") -> dict[str, Any]:
    """Return the JSON object of a file, by default one of a run folder.

    Raises:
        UserError: for a file that is damaged, cannot be read or contains no object.
    """
    try:
        content = json.loads(read_text(file, remedy))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"expected JSON in {file}, found a damaged file ({error}); {remedy}.") from error
    if not isinstance(content, dict):
        raise UserError(f"expected a JSON object in {file}, found {type(content).__name__}; {remedy}.")
    return content


def read_yaml(file: Path, kind: type = dict, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Return the content of a YAML file.

    Args:
        file: to read.
        kind: `dict` for a file of `key: value` lines, `list` for a file of entries.
        loader: `SafeLoader` or a class made of it.

    Raises:
        UserError: for a file that is absent, cannot be read, is not valid YAML or of another kind.
    """
    try:
        content = yaml.load(read_text(file, "correct it"), Loader=loader)  # nosec B506
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not valid YAML ({' '.join(str(error).split())}); correct it.") from error
    if not isinstance(content, kind):
        expected = "`key: value` lines" if kind is dict else "a list"
        raise UserError(f"expected {expected} in {file}, found {type(content).__name__}; correct it.")
    return content


def read_table(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a table that a user has named, by column; those of CSV are text.

    Args:
        file: an existing `.csv`, `.jsonl` or `.parquet` file.

    Raises:
        UserError: for a file that cannot be read or contains no such table; rows are counted from 1.
    """
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[file.suffix]
    try:
        return read(file)
    except UnicodeDecodeError as error:
        raise UserError(f"expected text in UTF-8 in {file}, found {error.reason}; save it in UTF-8.") from error
    except OSError as error:  # from the disk, or from pyarrow for damaged pages
        raise UserError(
            f"expected a table that can be read at {file}, found {error.strerror or error}; write it again."
        ) from error


def _read_csv(file: Path) -> list[dict[str, Any]]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        try:
            rows = list(csv.DictReader(lines))
        except csv.Error as error:
            raise UserError(f"expected a CSV table at {file}, found another file ({error}); fix it.") from error
    for number, row in enumerate(rows, 1):
        if None in row:  # the key under which DictReader keeps fields without a column
            raise UserError(f"expected as many fields as columns in {file}, found more in row {number}; fix it.")
    return rows


def _read_jsonl(file: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(file.read_text("utf-8-sig").split("\n"), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):  # not JSON, or a number or nesting too large for Python
            row = line
        if isinstance(row, dict):
            rows.append(row)
        elif line.strip():
            raise UserError(
                f"expected one JSON object per line in {file}, found {line[:40]!r} in line {number}; fix it."
            )
    return rows


def _read_parquet(file: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(file).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"expected a parquet table at {file}, found another file; write it again.") from error


class FolderInUse(UserError):
    """Another process is training in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another process is training in {folder}; wait for its end, or give another --output_dir.")
        self.folder = folder


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Lock a run folder against other processes while this one writes to it.

    Raises:
        FolderInUse: where another process has locked it.
        DiskError: where nothing can be written there.
    """
    make_folder(folder)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise FolderInUse(folder) from error
    try:
        yield
    finally:
        lock.release()


def walk_files(root: Path, enters: Callable[[Path], bool] = lambda folder: True) -> Iterator[Path]:
    """Yield the files under a folder in sorted order, without hidden ones and `__MACOSX`; links are followed once.

    Pipes, sockets and devices are left out: reading one may never end. A link without a target is yielded, so that the
    caller can name it.

    Args:
        root: the folder.
        enters: returns True for subfolders to walk; any other subfolder is yielded like a file, to be named.

    Raises:
        UserError: for a folder that cannot be read.
    """
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=_refuse_folder, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        inner = sorted(name for name in subfolders if not is_clutter(name))
        subfolders[:] = [name for name in inner if enters(Path(folder, name))]
        closed = {*inner} - {*subfolders}
        for name in sorted(name for name in (*names, *closed) if not is_clutter(name)):
            file = os.path.join(folder, name)
            if name in closed or os.path.isfile(file) or not os.path.exists(file):
                yield Path(file)


def _refuse_folder(error: OSError) -> None:
    raise UserError(
        f"expected a folder that can be read at {error.filename}, found one that cannot ({error.strerror}); change "
        "its permissions, or take it out."
    ) from error


def is_clutter(name: str) -> bool:
    """Return True for files and folders that operating systems and tools create, which are never clips."""
    return name == "__MACOSX" or (name.startswith(".") and name != "..")  # "._x.wav" is the resource fork of x.wav


def cache_folder() -> Path:
    """Return the folder of downloads and features: `$HF_VIVAE_CACHE`, else `$HF_HOME/hf_vivae`.

    Raises:
        UserError: for `~name` of a user who does not exist.
    """
    from huggingface_hub import constants

    folder = Path(os.environ.get("HF_VIVAE_CACHE") or Path(constants.HF_HOME, "hf_vivae"))
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise UserError(f"expected a folder in HF_VIVAE_CACHE, found {folder} ({error}); set another.") from error

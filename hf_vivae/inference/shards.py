"""Work on many clips in shards: each process does its own, and the last one to finish joins the results."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from ..files import atomic_file, check_place, disk_errors, read_json, write_json
from ..validation import UserError, readable
from .output import ERROR, KEPT, WRITERS, check_errors_file
from .sources import Shard, UnreadClip, file_state

CLAIM_SECONDS = 1  # wait, since another process may hold the lock for a moment to see whether it is free
Row = tuple[str, Mapping[str, Any] | ValueError]  # name of a clip, and its other columns or the error
Result = TypeVar("Result")


@dataclass(frozen=True)
class ProcessShard:
    """The shards that one of several processes scores.

    Args:
        rank: number of this process among all.
        processes: number of all processes.
    """

    rank: int = 0
    processes: int = 1

    @classmethod
    def of_this_process(cls) -> "ProcessShard":
        """Return the share by the numbers of `accelerate launch` and `torchrun`, on one machine or several.

        Raises:
            UserError: for numbers that no launcher sets.
        """
        rank, processes = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not (rank.isdecimal() and processes.isdecimal() and int(rank) < int(processes)):
            raise UserError(
                f"expected RANK below WORLD_SIZE, as launchers set them, found {rank!r} and {processes!r}; unset both."
            )
        return cls(int(rank), int(processes))

    @property
    def device(self) -> str | None:
        """Return the GPU of this process where several share a machine; None leaves the choice to the pipeline."""
        rank = os.environ.get("LOCAL_RANK")
        return f"cuda:{rank}" if rank and torch.cuda.is_available() else None

    def has(self, number: int) -> bool:
        """Return whether a shard, by its index, belongs to this process."""
        return number % self.processes == self.rank


class Parts:
    """A folder with a Parquet file for each shard, and a JSON file with the settings of all.

    Args:
        folder: is made.
        record: name of the JSON file; readers of a folder of Parquet ignore names that begin with _.
        settings: on which the rows depend, such as the checkpoint; rows in the folder must have the same.
        schema: of the rows, with the columns `file` and `ERROR`.
        content: of the rows, in messages, such as `scores`.

    Raises:
        UserError: for a folder with other files, or with rows of other settings.
    """

    def __init__(self, folder: Path, record: str, settings: dict[str, Any], schema: pa.Schema, content: str) -> None:
        self.folder, self.schema = folder, schema
        path = folder / record
        if folder.exists() and not folder.is_dir():
            raise UserError(f"expected a new folder as --output, found the file {folder}; give another name.")
        again = f"give another --output, or remove {folder}"
        if path.is_file() and (earlier := read_json(path, again)) != settings:
            changed = next(name for name in {*earlier, *settings} if earlier.get(name) != settings.get(name))
            raise UserError(
                f"expected {content} with {changed} {settings.get(changed)!r} in {folder}, found some with "
                f"{earlier.get(changed)!r}; give another --output, or remove that folder."
            )
        if not path.is_file():
            # hidden files are parts of an earlier start that was killed
            if folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
                raise UserError(
                    f"expected an empty or new folder, found other files in {folder}; give another --output."
                )
            write_json(path, settings)

    def path(self, number: int) -> Path:
        """Return the file of a shard, by its index."""
        return self.folder / f"part-{number:06}.parquet"

    def is_done(self, number: int, key: str, version: str) -> bool:
        """Return whether a shard is done and neither it nor the files that its rows name have changed.

        A damaged file is not done, such as that of a disk that lost its power.

        Args:
            number: index of the shard.
            key: of the shard.
            version: of the shard; rows of another version are not used.

        Raises:
            UserError: where other clips have that index, since the input is another.
        """
        file = self.path(number)
        if not file.is_file():
            return False
        try:
            metadata = pq.read_schema(file).metadata or {}
        except pa.ArrowInvalid:
            return False
        if metadata.get(b"shard") != key.encode():
            raise UserError(
                f"expected the clips of an earlier start, found others in their place at {file.name}; give another "
                f"--output, or remove {self.folder}."
            )
        named = json.loads(metadata.get(b"files", b"{}"))
        return metadata.get(b"version") == version.encode() and all(file_state(name) == named[name] for name in named)

    def is_worth_retrying(self, number: int) -> bool:
        """Return whether clips of a finished shard failed for reasons outside of their files, such as a network."""
        return b"retry" in pq.read_schema(self.path(number)).metadata

    def write(self, number: int, key: str, version: str, rows: Sequence[Row], named: Mapping[str, str]) -> None:
        """Write a shard in one step.

        Args:
            number: as for `is_done`.
            key: as for `is_done`.
            version: as for `is_done`.
            rows: of its clips, of which each may have several.
            named: `file_state` of files that its rows name, before they were read.

        Raises:
            DiskError: where it cannot be written.
        """
        cells = [
            {"file": file, ERROR: readable(str(row))} if isinstance(row, ValueError) else {"file": file, **row}
            for file, row in rows
        ]
        metadata = {"shard": key, "version": version, "files": json.dumps(named)}
        if any(isinstance(row, ValueError) and not _is_refusal(row) for _, row in rows):
            metadata["retry"] = ""
        table = pa.Table.from_pylist(cells, schema=self.schema)
        with atomic_file(self.path(number), KEPT) as part:
            pq.write_table(table.replace_schema_metadata(metadata), part)

    def remove_beyond(self, count: int) -> int:
        """Remove parts of an earlier start that had more shards, and return their number."""
        removed = 0
        for file in self.folder.glob("part-*.parquet"):
            number = file.stem.removeprefix("part-")
            if number.isdecimal() and int(number) >= count:
                file.unlink()
                removed += 1
        return removed

    def read(self, number: int) -> pa.Table:
        """Return the rows of a finished shard."""
        return pq.read_table(self.path(number))

    def rows(self, number: int) -> int:
        """Return the number of rows of a finished shard."""
        return pq.read_metadata(self.path(number)).num_rows


def _is_refusal(error: BaseException | None) -> bool:
    """Return whether a clip was refused for its content, and would be again; not where it could not be read."""
    if not isinstance(error, UserError):
        return False
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error is None


def work_through(
    shards: Iterable[Shard],
    output: Path,
    open_parts: Callable[[Path], Parts],
    compute: Callable[[Iterable[UnreadClip]], Iterable[Row]],
    join: Callable[[Iterable[pa.Table]], Result],
    share: ProcessShard,
    bar: tqdm,
) -> Result | None:
    """Compute the rows of shards into a file, or into a folder with a Parquet file for each shard.

    Shards of an earlier start are not computed again, unless their clips have changed or could not be read. Of several
    processes, the last to finish joins the rows, so that none waits for another.

    Args:
        shards: the same in the same order for each process and each start.
        output: a file with a suffix of `WRITERS`, or a folder.
        open_parts: returns the parts in a folder, as `Parts` does.
        compute: returns the rows of clips, and counts them in the bar.
        join: writes the output from the tables of all shards in order, which are read one at a time.
        share: of this process.
        bar: counts clips, and prints how many parts of other processes are missing.

    Returns:
        Result of `join`; None where other processes have not finished, or have already joined the rows.

    Raises:
        UserError: for an output that exists, cannot be written to, or has other rows or files, and where another
            process with the same share is at work on it.
        DiskError: where the disk is full.
    """
    if (name := readable(str(output))) != str(output):  # which Arrow does not open
        raise UserError(f"expected --output with a name in UTF-8, found {name}; give another name.")
    if output.name in ("", ".."):
        output = Path(os.path.abspath(output))
    if not output.name:
        raise UserError(f"expected --output as a file or a new folder, found {output}; give another place.")
    is_file = output.suffix in WRITERS
    folder = output.with_name(f".{output.name}.parts") if is_file else output
    check_place(output)  # FileLock would wait for ever where it cannot make its file
    lock, *claims = (
        FileLock(folder.with_name(f".{folder.name.lstrip('.')}{rank}.lock"))
        for rank in ("", *(f".{rank}" for rank in range(share.processes)))
    )
    own = claims.pop(share.rank)
    with _claim(own, output):
        if is_file and output.exists():
            if share.rank:
                return None
            raise UserError(f"expected a new file as --output, found {output}; remove it, or give another name.")
        check_errors_file(output)
        with lock, disk_errors(folder.parent, KEPT):
            parts = open_parts(folder)
        done = []
        for number, shard in enumerate(shards):
            done.append((number, shard.key, shard.version))
            if not share.has(number):
                continue
            if parts.is_done(*done[-1]) and not parts.is_worth_retrying(number):
                bar.update(parts.rows(number) if shard.clips is None else shard.clips)
            else:
                named: dict[str, str] = {}
                rows = list(compute(_record_files(shard.read(), named)))
                parts.write(*done[-1], rows, named)
    with lock:
        if not folder.is_dir():
            return None
        if removed := parts.remove_beyond(len(done)):
            bar.write(
                f"{removed} parts of an earlier start, with clips that are no longer in the input, were removed.",
                file=sys.stderr,
            )
        missing = sum(not parts.is_done(*shard) for shard in done)
        if missing:
            bar.write(
                f"{missing} of {len(done)} parts are missing, which other processes score; where none of these is at "
                "work any more, repeat the command.",
                file=sys.stderr,
            )
        if missing or not all(map(_is_free, claims)):
            return None
        result = join(parts.read(number) for number in range(len(done)))
        if is_file:
            shutil.rmtree(folder)
    return result


def _record_files(clips: Iterable[UnreadClip], states: dict[str, str]) -> Iterator[UnreadClip]:
    """Yield clips, and record the state of files that their rows name before they are decoded."""
    for clip in clips:
        if clip.named is not None:
            states[clip.named] = file_state(clip.named)
        yield clip


def _claim(lock: FileLock, output: Path) -> AbstractContextManager:
    """Acquire the lock of this process's share, and return the context that releases it."""
    try:
        return lock.acquire(CLAIM_SECONDS)
    except Timeout as error:
        raise UserError(
            f"expected no other process at work on {output}, found one; wait for its end, give another --output, or "
            "share the work with accelerate launch."
        ) from error


def _is_free(claim: FileLock) -> bool:
    try:
        claim.acquire(0)
    except Timeout:
        return False
    claim.release()
    return True

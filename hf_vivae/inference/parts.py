"""Scores of an archive on the disk: a file for each shard, whole or not there, so that a killed run can go on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..disk import whole_file
from ..runs import read_json, write_json
from ..text import readable
from ..validation import UserError
from .clips import file_state
from .scorer import ClipScores

RECORD = "_predict.json"  # readers of a folder of Parquet pass over what begins so
ERROR = "error"
DURATION = "duration"
KEPT = "free some room and repeat the command, which goes on after the parts that are there"


class Parts:
    """A folder with a Parquet file for each shard.

    It has of each clip file, label, probability, a `p_<label>` for each label, duration and how much of it was used in
    seconds, and error.

    Args:
        folder: is made.
        settings: of the scores, such as the checkpoint; what is there must have been made with the same.
        labels: of the checkpoint, in its order.

    Raises:
        ValueError: for a folder that holds other files, or scores with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], labels: Sequence[str]) -> None:
        self.folder, self.labels = folder, list(labels)
        probabilities = [(f"p_{label}", pa.float32()) for label in labels]
        self.schema = pa.schema(
            [
                ("file", pa.string()),
                ("label", pa.string()),
                ("probability", pa.float32()),
                *probabilities,
                (DURATION, pa.float64()),
                ("duration_used", pa.float64()),
                (ERROR, pa.string()),
            ]
        )
        settings = settings | {"labels": self.labels}
        record = folder / RECORD
        if folder.exists() and not folder.is_dir():
            raise UserError(f"expected a new folder as --output, found the file {folder}; give another name.")
        if record.is_file() and (found := read_json(record)) != settings:
            changed = next(name for name in {*found, *settings} if found.get(name) != settings.get(name))
            raise UserError(
                f"expected scores with {changed} {settings.get(changed)!r} in {folder}, found some with "
                f"{found.get(changed)!r}; give another --output, or remove that folder."
            )
        if not record.is_file():
            # what is hidden was half written when something killed an earlier start
            if folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
                raise UserError(
                    f"expected an empty or new folder, found other files in {folder}; give another --output."
                )
            write_json(record, settings)

    def path(self, number: int) -> Path:
        """The file of a shard, by its place among all."""
        return self.folder / f"part-{number:06}.parquet"

    def is_done(self, number: int, key: str, version: str) -> bool:
        """Return whether a shard, and the files that its rows name, have been scored as they are now.

        Args:
            number: its place among all.
            key: of the shard.
            version: of the shard; one with another is to be scored again.

        Raises:
            ValueError: where other clips have that place, since the input is another.
        """
        file = self.path(number)
        if not file.is_file():
            return False
        found = pq.read_schema(file).metadata or {}
        if found.get(b"shard") != key.encode():
            raise UserError(
                f"expected the clips of an earlier start, found others in their place at {file.name}; give another "
                f"--output, or remove {self.folder}."
            )
        named = json.loads(found.get(b"files", b"{}"))
        return found.get(b"version") == version.encode() and all(file_state(name) == named[name] for name in named)

    def is_worth_retrying(self, number: int) -> bool:
        """Return whether clips of a shard that is done have failed for reasons that need not be their own."""
        return b"retry" in pq.read_schema(self.path(number)).metadata

    def write(
        self,
        number: int,
        key: str,
        version: str,
        scores: Sequence[tuple[str, ClipScores | ValueError]],
        named: Mapping[str, str],
    ) -> None:
        """Write a shard in one step: of each clip its name, and its scores or why it has none.

        Args:
            number: as for `is_done`.
            key: as for `is_done`.
            version: as for `is_done`.
            scores: of the clips, in their order.
            named: `file_state` of files that its rows name, before they were read.

        Raises:
            DiskError: where it cannot be written, saying what is kept.
        """
        rows = [self._row(file, result) for file, result in scores]
        metadata = {"shard": key, "version": version, "files": json.dumps(named)}
        if any(isinstance(result, ValueError) and not _is_refusal(result) for _, result in scores):
            metadata["retry"] = ""
        table = pa.Table.from_pylist(rows, schema=self.schema).replace_schema_metadata(metadata)
        with whole_file(self.path(number), KEPT) as part:
            pq.write_table(table, part)

    def _row(self, file: str, result: ClipScores | ValueError) -> dict[str, Any]:
        if isinstance(result, ValueError):
            return {"file": file, ERROR: readable(str(result))}
        scores = result.probabilities
        probabilities = {f"p_{label}": float(score) for label, score in zip(self.labels, scores, strict=True)}
        best = int(scores.argmax())
        return {
            "file": file,
            "label": self.labels[best],
            "probability": float(scores[best]),
            **probabilities,
            DURATION: result.duration,
            "duration_used": result.duration_used,
        }

    def remove_beyond(self, count: int) -> int:
        """Remove parts of an earlier start that had more shards; return how many."""
        removed = 0
        for file in self.folder.glob("part-*.parquet"):
            number = file.stem.removeprefix("part-")
            if number.isdecimal() and int(number) >= count:
                file.unlink()
                removed += 1
        return removed

    def read(self, number: int) -> pa.Table:
        """The scores of a shard that is done."""
        return pq.read_table(self.path(number))

    def rows(self, number: int) -> int:
        """How many clips a shard that is done has."""
        return pq.read_metadata(self.path(number)).num_rows


def _is_refusal(error: BaseException | None) -> bool:
    """Return whether a clip is refused for what its file holds, and would be again; not where it was not read."""
    if not isinstance(error, UserError):
        return False
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error is None

"""Scores of an archive on the disk: a file for each shard, whole or not there, so that a killed run can go on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..disk import whole_file
from ..runs import read_json, write_json
from ..validation import UserError

RECORD = "_predict.json"  # readers of a folder of Parquet pass over what begins so
ERROR = "error"
KEPT = "free some room and repeat the command, which goes on after the parts that are there"


class Parts:
    """A folder with a Parquet file for each shard: file, label, probability, `p_<label>`s and error of each clip.

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
                (ERROR, pa.string()),
            ]
        )
        settings = settings | {"labels": self.labels}
        record = folder / RECORD
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

    def is_done(self, number: int, key: str) -> bool:
        """Whether a shard has been scored.

        Raises:
            ValueError: where another one has that place, since the input has changed.
        """
        file = self.path(number)
        if not file.is_file():
            return False
        if (pq.read_schema(file).metadata or {}).get(b"shard") != key.encode():
            raise UserError(
                f"expected the clips of an earlier start, found others in their place at {file.name}; give another "
                f"--output, or remove {self.folder}."
            )
        return True

    def write(self, number: int, key: str, scores: Sequence[tuple[str, np.ndarray | ValueError]]) -> None:
        """Write a shard in one step: of each clip its name, and its probabilities `(labels,)` or why it has none.

        Raises:
            DiskError: where it cannot be written, saying what is kept.
        """
        rows = [self._row(file, found) for file, found in scores]
        table = pa.Table.from_pylist(rows, schema=self.schema).replace_schema_metadata({"shard": key})
        with whole_file(self.path(number), KEPT) as part:
            pq.write_table(table, part)

    def _row(self, file: str, found: np.ndarray | ValueError) -> dict[str, Any]:
        if isinstance(found, ValueError):
            return {"file": file, ERROR: str(found)}
        probabilities = {f"p_{label}": float(score) for label, score in zip(self.labels, found, strict=True)}
        best = int(found.argmax())
        return {"file": file, "label": self.labels[best], "probability": float(found[best]), **probabilities}

    def read(self, number: int) -> pa.Table:
        """The scores of a shard that is done."""
        return pq.read_table(self.path(number))

    def rows(self, number: int) -> int:
        """How many clips a shard that is done has."""
        return pq.read_metadata(self.path(number)).num_rows

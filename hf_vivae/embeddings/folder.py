"""A folder of embeddings, as `hf-vivae embed` writes it: its parts, its rows, and the record of their index."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..files import read_json
from ..inference.output import ERROR
from ..inference.sources import digest
from ..validation import UserError

EMBEDDING = "embedding"
INDEX = "_index.usearch"  # readers of a folder of Parquet ignore names that begin with _
RECORD = "_index.json"
REPEAT = "repeat hf-vivae embed, which goes on after the finished parts"


@dataclass(frozen=True)
class EmbeddingFolder:
    """A finished folder of embeddings.

    Args:
        path: of the folder.
        checkpoint: digest of the checkpoint that made them, see `checkpoint_digest`.
        name: of that checkpoint: a folder or a Hub id.
        revision: of the Hub id.
        dimension: of an embedding.
        bf16: they were computed in bfloat16.
        parts: name, rows and digest of each Parquet file, in the order of rows.
    """

    path: Path
    checkpoint: str
    name: str
    revision: str | None
    dimension: int
    bf16: bool
    parts: Sequence[dict[str, Any]]

    @classmethod
    def open(cls, path: Path) -> "EmbeddingFolder":
        """Read the record of a folder and check its parts.

        Raises:
            UserError: for a folder that `hf-vivae embed` has not finished, and for parts that are missing or have
                changed since.
        """
        record = path / RECORD
        if not record.is_file():
            raise UserError(
                f"expected a folder that hf-vivae embed has finished, found {path} without {RECORD}; give another, or "
                "repeat hf-vivae embed."
            )
        content = read_json(record, REPEAT)
        if set(content) != {*cls.__dataclass_fields__} - {"path"}:
            raise UserError(f"expected the record of an index in {record}, found other keys; {REPEAT}.")
        folder = cls(path, **content)
        for part in folder.parts:
            file = path / part["file"]
            if not file.is_file():
                raise UserError(f"expected all parts of {path}, found no {part['file']}; {REPEAT}.")
            if describe_part(file) != part:
                raise UserError(f"expected the {part['file']} of the index in {path}, found another; {REPEAT}.")
        return folder

    def tables(self, *columns: str) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Yield the rows that have an embedding, one part at a time.

        Args:
            columns: names.

        Yields:
            Number of each row in the folder `(rows,)`, and the table.
        """
        first = 0
        for part in self.parts:
            table = pq.read_table(self.path / part["file"], columns=[*columns, ERROR])
            numbers = first + np.flatnonzero(table[ERROR].is_null().to_numpy())
            yield numbers, table.filter(table[ERROR].is_null()).select(columns)
            first += part["rows"]

    def rows(self, numbers: Sequence[int], *columns: str) -> list[dict[str, Any]]:
        """Return columns of rows, by their numbers in the folder, in that order."""
        last = np.cumsum([part["rows"] for part in self.parts])
        places = np.searchsorted(last, numbers, side="right")
        rows: dict[int, dict[str, Any]] = {}
        for place in np.unique(places):
            table = pq.read_table(self.path / self.parts[place]["file"], columns=list(columns))
            own = [number for number, other in zip(numbers, places, strict=True) if other == place]
            first = last[place] - self.parts[place]["rows"]
            rows |= zip(own, table.take([number - first for number in own]).to_pylist(), strict=True)
        return [rows[number] for number in numbers]


def describe_part(file: Path) -> dict[str, Any]:
    """Return name, rows and digest of a part; the digest is of its metadata, which change with its content.

    Raises:
        UserError: for a damaged file.
    """
    try:
        metadata = pq.read_metadata(file)
    except pa.ArrowInvalid as error:
        raise UserError(f"expected a Parquet file at {file}, found a damaged one ({error}); {REPEAT}.") from error
    content = digest(str(metadata.to_dict()), str(metadata.metadata))
    return {"file": file.name, "rows": metadata.num_rows, "digest": content}


def unit_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of embeddings as vectors of length 1, `(rows, dimension)` float32; zeros stay zeros."""
    dimension = column.type.list_size
    vectors = column.combine_chunks().flatten().to_numpy().reshape(-1, dimension)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)

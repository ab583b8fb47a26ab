"""The scored clips of a run, as arrays that statistics can count."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..validation import UserError

COLUMNS = ("file", "label", "logits", "fold", "speaker", "intensity", "duration")


@dataclass(frozen=True)
class Predictions:
    """Clips of one part (test, validation or train) of a run, over all its folds, sorted by file and fold.

    Args:
        files: name of each clip, `(clips,)`.
        labels: index of its label, `(clips,)`.
        logits: `(clips, labels)`.
        folds: name of the fold that predicted it, `(clips,)`.
        speakers: `(clips,)`; "" where unknown.
        intensities: `(clips,)`; "" where unknown.
        durations: in seconds, `(clips,)`; NaN where unknown.
    """

    files: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    folds: np.ndarray
    speakers: np.ndarray
    intensities: np.ndarray
    durations: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    @property
    def predicted(self) -> np.ndarray:
        """Index of the label with the largest logit, of equal ones the first, `(clips,)`."""
        return self.logits.argmax(axis=1)


def read_part(folders: Sequence[Path], part: str) -> Predictions | None:
    """Clips of one part from the run folders of a run's folds; None where no fold has that part.

    Args:
        folders: of the folds, each with `predictions.parquet`.
        part: `train`, `validation` or `test`.

    Raises:
        ValueError: for a damaged file, or one that was written without speakers, intensities and durations.
    """
    table = pa.concat_tables([_read(folder / "predictions.parquet", part) for folder in folders])
    if not len(table):
        return None
    table = table.sort_by([("file", "ascending"), ("fold", "ascending")])
    texts = {name: np.array([text or "" for text in table[name].to_pylist()]) for name in ("speaker", "intensity")}
    return Predictions(
        files=np.array(table["file"].to_pylist()),
        labels=table["label"].to_numpy(),
        logits=table["logits"].combine_chunks().flatten().to_numpy().reshape(len(table), -1).astype(np.float64),
        folds=np.array(table["fold"].to_pylist()),
        speakers=texts["speaker"],
        intensities=texts["intensity"],
        durations=table["duration"].cast(pa.float64()).to_numpy().astype(float),
    )


def read_sounds(folder: Path, part: str) -> list[tuple[str, str | None]]:
    """Name of each clip of one part of a fold, and the digest of its sound; None where the fold was written without.

    Args:
        folder: of the fold, with `predictions.parquet`.
        part: `train`, `validation` or `test`.

    Raises:
        ValueError: see `read_part`.
    """
    rows = _read(folder / "predictions.parquet", part, ("file",), ("digest",)).to_pylist()
    return [(row["file"], row.get("digest")) for row in rows]


def _read(file: Path, part: str, needed: Sequence[str] = COLUMNS, wanted: Sequence[str] = ()) -> pa.Table:
    """Rows of one part with the needed columns, and of the wanted ones those that there are."""
    try:
        found = pq.read_schema(file).names
        if not (missing := [name for name in needed if name not in found]):
            columns = [*needed, *(name for name in wanted if name in found)]
            return pq.read_table(file, columns=columns, filters=[("split", "=", part)])
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"expected the predictions of a run in {file}, found a damaged file ({reason}); train the run again."
        ) from error
    raise UserError(
        f"expected the columns {', '.join(needed)} in {file}, found no {', '.join(missing)}; train the run again."
    )

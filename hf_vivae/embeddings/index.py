"""Index of embeddings, and the command `hf-vivae similar`: the nearest clips of an archive.

The index is a graph (HNSW: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs", TPAMI 2020), written by usearch. A search reads from the disk what it
visits, and finds nearly all of the nearest; their similarities are exact.
"""

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio import ClipTooLong
from ..files import atomic_file, read_json, write_json
from ..inference.output import KEPT, terminal_text
from ..validation import UserError
from .embedder import Embedder
from .folder import EMBEDDING, INDEX, RECORD, REPEAT, EmbeddingFolder, describe_part, unit_vectors

if TYPE_CHECKING:
    from usearch.index import Index

SEARCHED = 128  # nodes of the graph that a search keeps; more find more of the nearest, and take longer


def check_usearch(command: str) -> None:
    """Refuse a command that needs usearch where it is not installed.

    Raises:
        UserError: where it is not.
    """
    if find_spec("usearch") is None:
        raise UserError(
            f"expected usearch, which hf-vivae {command} needs, found none; pip install 'hf_vivae[embed]' and repeat "
            "the command."
        )


def write_index(path: Path, embedder: Embedder) -> None:
    """Write the index of a folder whose parts are complete, unless it has one of the same parts.

    Args:
        path: of the folder.
        embedder: that made the embeddings.

    Raises:
        DiskError: where it cannot be written.
    """
    from usearch.index import Index

    name = str(Path(embedder.name).absolute()) if Path(embedder.name).exists() else embedder.name
    parts = [describe_part(file) for file in sorted(path.glob("part-*.parquet"))]
    folder = EmbeddingFolder(
        path, embedder.identity, name, embedder.revision, embedder.dimension, embedder.bf16, parts
    )
    record = {key: value for key, value in asdict(folder).items() if key != "path"}
    try:
        if (path / RECORD).is_file() and read_json(path / RECORD, REPEAT) == record and open_index(folder, 1):
            return
    except UserError:  # of a record or an index that is damaged: both are written again
        pass
    # the inner product of unit vectors is their cosine; 16 bits halve the file
    index = Index(ndim=embedder.dimension, metric="ip", dtype="f16")
    for numbers, table in folder.tables(EMBEDDING):
        if len(numbers):
            index.add(numbers, unit_vectors(table[EMBEDDING]), threads=1)  # the order decides the graph
    (path / RECORD).unlink(missing_ok=True)
    with atomic_file(path / INDEX, KEPT) as part:
        index.save(str(part))
    write_json(path / RECORD, record)


def open_index(folder: EmbeddingFolder, count: int) -> "Index":
    """Return the index of a folder, from which a search for `count` rows reads what it needs.

    Keys are the numbers of rows, distances are 1 - cosine, rounded by the 16 bits of the index.

    Raises:
        UserError: for an index that is missing, damaged, empty or of other embeddings.
    """
    from usearch.index import Index

    file = folder.path / INDEX
    try:
        index = Index.restore(str(file), view=True)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"expected an index at {file}, found a damaged file ({error}); {REPEAT}.") from error
    if index is None or index.ndim != folder.dimension:
        size = "none" if index is None else f"one of dimension {index.ndim}"
        raise UserError(f"expected an index of dimension {folder.dimension} at {file}, found {size}; {REPEAT}.")
    if not len(index):
        raise UserError(f"expected embeddings in {folder.path}, found none; see _errors.csv there for the reasons.")
    if len(index) != (rows := sum(len(numbers) for numbers, _ in folder.tables())):
        raise UserError(f"expected an index of {rows} embeddings at {file}, found one of {len(index)}; {REPEAT}.")
    index.expansion_search = max(SEARCHED, 2 * count)
    return index


def find_similar(folder: EmbeddingFolder, embedding: np.ndarray, count: int) -> list[dict[str, Any]]:
    """Return the rows of a folder with the most similar embeddings, the most similar first.

    Args:
        folder: with its index.
        embedding: `(dimension,)`.
        count: of rows; fewer where the folder has no more.

    Returns:
        `file`, `start` and `end` in seconds (None for a whole clip), `label`, `probability` and `similarity` (cosine).

    Raises:
        UserError: as `open_index`.
    """
    query = embedding / max(np.linalg.norm(embedding), np.finfo(np.float32).tiny)
    numbers = open_index(folder, count).search(query, count).keys.tolist()
    rows = folder.rows(numbers, "file", "start", "end", "label", "probability", EMBEDDING)
    for row in rows:
        vector = np.array(row.pop(EMBEDDING), np.float32)
        row["similarity"] = float(query @ vector / max(np.linalg.norm(vector), np.finfo(np.float32).tiny))
    return sorted(rows, key=lambda row: -row["similarity"])


def run_similar(
    clip: str, path: Path, *, count: int = 10, checkpoint: str | None = None, device: str | None = None
) -> int:
    """Print the clips of a folder of embeddings that are most similar to a clip, and return the exit code."""
    check_usearch("similar")
    folder = EmbeddingFolder.open(path)
    if checkpoint is None and Path(folder.name).is_absolute() and not Path(folder.name).exists():
        raise UserError(
            f"expected the checkpoint of {path} at {folder.name}, found none; give its place as --checkpoint."
        )
    revision = folder.revision if checkpoint is None else None
    embedder = Embedder(checkpoint or folder.name, revision, device, bf16=folder.bf16)
    if embedder.identity != folder.checkpoint:
        raise UserError(
            f"expected the checkpoint that made {path} ({folder.checkpoint[:12]}), found {embedder.identity[:12]} at "
            f"{embedder.name}; give the first as --checkpoint, or repeat hf-vivae embed with another --output."
        )
    (result,) = embedder.score_clips([clip])
    if isinstance(result, ClipTooLong):
        result.remedy = "give a part of it as a file"
    if isinstance(result, ValueError):
        raise result
    for row in find_similar(folder, result.embedding, count):
        place = "" if row["start"] is None else f"{row['start']:.2f}-{row['end']:.2f} s"
        columns = (f"{row['similarity']:.3f}", row["file"], place, f"{row['label']} {row['probability']:.0%}")
        print("\t".join(terminal_text(column) for column in columns))
    return 0

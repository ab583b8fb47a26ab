"""The command `hf-vivae embed`: embeddings of clips, or of windows of recordings, and their index."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from ..inference.output import DURATION, ERROR, WRITERS, write_output
from ..inference.predict import PredictResult, input_shards, report, score_clips
from ..inference.shards import Parts, ProcessShard, Row, work_through
from ..inference.sources import Shard, UnreadClip
from ..inference.timeline import Recording, Windows, measure_levels, score_windows
from ..validation import UserError
from .embedder import EmbeddedClip, Embedder
from .folder import EMBEDDING
from .index import check_usearch, write_index

RECORD = "_embed.json"  # of the settings, in the folder
RECORDINGS_PER_SHARD = 10  # their embeddings are in memory at once: an hour in windows of 1 s has 3600


def embed(
    embedder: Embedder,
    shards: Iterable[Shard],
    output: Path,
    windows: Windows | None,
    share: ProcessShard,
    bar: tqdm,
) -> PredictResult | None:
    """Embed shards into a folder with a Parquet file for each shard, and write their index.

    See `work_through` for shards of an earlier start and of other processes. Columns are the clip's file; `start` and
    `end` of a window in seconds; label and its probability; the embedding, `(dimension,)` float32; the duration of the
    file in seconds; and error.

    Args:
        embedder: a checkpoint.
        shards: as for `predict`.
        output: a folder.
        windows: of recordings; those of silence, and last ones that are too short, have no row. None for whole clips.
        share: of this process.
        bar: counts files.

    Returns:
        Numbers of rows with embeddings and of files without; None where other processes have not finished.

    Raises:
        UserError: as `work_through`.
        DiskError: as `work_through`.
    """
    settings = {
        "checkpoint": embedder.identity,
        "dimension": embedder.dimension,
        "bf16": embedder.bf16,
        "window": windows and windows.seconds,
        "hop": windows and windows.hop,
    }
    schema = pa.schema(
        [
            ("file", pa.string()),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("label", pa.string()),
            ("probability", pa.float32()),
            (EMBEDDING, pa.list_(pa.float32(), embedder.dimension)),
            (DURATION, pa.float64()),
            (ERROR, pa.string()),
        ]
    )

    def compute(clips: Iterable[UnreadClip]) -> Iterator[Row]:
        if windows is None:
            for file, result in score_clips(embedder, clips, bar):
                yield file, result if isinstance(result, ValueError) else _columns(embedder, result)
            return
        for clip in clips:
            try:
                yield from [(clip.file, row) for row in _embed_windows(embedder, clip, windows)]
            except UserError as error:
                yield clip.file, error
            bar.update()

    longest = math.inf if windows else embedder.longest_input

    def join(tables: Iterable[pa.Table]) -> PredictResult:
        result = PredictResult(*write_output(output, schema, tables, longest))
        write_index(output, embedder)
        return result

    return work_through(
        shards, output, lambda folder: Parts(folder, RECORD, settings, schema, "embeddings"), compute, join, share, bar
    )


def _embed_windows(embedder: Embedder, clip: UnreadClip, windows: Windows) -> Iterator[dict]:
    if not isinstance(clip.sound, Path):
        raise UserError(
            f"{clip.file}: expected an audio file with --window, found a row of a table or a stream; save it as a "
            "file, or leave out --window."
        )
    recording = Recording.open(clip.sound)
    _, loud = measure_levels(embedder, recording, windows)
    for step, result in score_windows(embedder, recording, windows, loud):
        start = step * windows.hop
        end = min(start + windows.seconds, recording.seconds)
        yield _columns(embedder, result) | {"start": start, "end": end, DURATION: recording.seconds}


def _columns(embedder: Embedder, result: EmbeddedClip) -> dict:
    best = int(result.probabilities.argmax())
    return {
        "label": embedder.labels[best],
        "probability": float(result.probabilities[best]),
        EMBEDDING: result.embedding,
        DURATION: result.duration,
    }


def run_embed(
    checkpoint: str,
    inputs: Sequence[str],
    *,
    output: Path,
    window: float | None = None,
    hop: float | None = None,
    dataset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    bf16: bool = False,
) -> int:
    """Embed clips, write the embeddings and their index, and return the exit code."""
    check_usearch("embed")
    if output.suffix in WRITERS:
        raise UserError(f"expected --output as a folder, found {output.name}; give a name without a suffix.")
    if hop is not None and window is None:
        raise UserError("expected --window with --hop, found --hop alone; give both, or leave out --hop.")
    windows = None if window is None else Windows(window, window if hop is None else hop)
    shards = input_shards(inputs, dataset, split, RECORDINGS_PER_SHARD if windows else None)
    share = ProcessShard.of_this_process()
    counts = [shard.clips for number, shard in enumerate(shards()) if share.has(number)]
    embedder = Embedder(checkpoint, revision, device or share.device, batch_size, workers, bf16)
    if windows:
        windows.check_length(embedder.longest_input)
    total = None if None in counts else sum(counts)
    with tqdm(total=total, unit="file", smoothing=0.05) as bar:
        result = embed(embedder, shards(), output, windows, share, bar)
    if result is None:
        return 0
    return report(result, output, embedder, "windows embedded" if windows else "clips embedded")

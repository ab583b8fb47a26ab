"""Cache of features: computed once, then read from memory-mapped Arrow.

The key of a cache has the content of the clips and the settings of the extractor, so that features are computed again
where a file or a setting changes.
"""

import ctypes
import hashlib
import json
import logging
import mmap
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import pyarrow.compute
import torch
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..corpus.decoded import clip_peak, load_clip
from ..corpus.schema import clip_digests, corpus_key
from ..files import CACHE_REMEDY, cache_folder, disk_errors, make_folder
from ..models.probe import ProbeForAudioClassification
from ..validation import UserError
from ..version import __version__
from .extraction import batch_features, clip_threads, extract_features, needs_scale, takes_variable_length

logger = logging.getLogger(__name__)
BATCH = 32  # clips decoded and transformed together: 32 mel spectrograms fill the cores, 6 MB


def build_features(
    dataset: datasets.Dataset,
    extractor: FeatureExtractionMixin,
    max_seconds: float | None = None,
    labels: Sequence[int] | None = None,
) -> datasets.Dataset:
    """Return the features of each clip as tensors, in the order of the rows; computed once and kept.

    Args:
        dataset: a corpus, whose clips were checked when it was loaded.
        extractor: of the model; its `mean` and `std` are applied later, by `AudioDataCollator`.
        max_seconds: length to which extractors of the library pad and cut clips; by default that of the longest one.
        labels: label index of each clip, `(clips,)`, for a column `labels`.
    """
    if max_seconds is None:
        max_seconds = max(dataset["duration"])
    settings = json.loads(extractor.to_json_string())
    settings = {name: value for name, value in settings.items() if name not in ("mean", "std", "auto_map")}

    def extract(batch: dict) -> dict:
        clips = decode_batch(batch, extractor.sampling_rate, pool)
        features = list(pool.map(lambda clip: extract_features(extractor, [clip], max_seconds), clips))
        return {name: [clip[name][0] for clip in features] for name in features[0]}

    own_length = takes_variable_length(extractor)
    key = ("features", settings, max_seconds, own_length, corpus_key(dataset))
    with clip_threads() as pool:
        features = cached_map(dataset, extract, key=key, desc="Features", own_length=own_length)
    if labels is not None:
        features = features.add_column("labels", list(labels))
    return features.with_format("torch")


def build_embeddings(
    dataset: datasets.Dataset,
    extractor: FeatureExtractionMixin,
    model: ProbeForAudioClassification,
    max_seconds: float,
) -> datasets.Dataset:
    """Return the hidden states of each clip, pooled over its frames, in the rows' order; computed once and kept.

    Rows have `embeddings` `(states, values)` of all layers, also those that the probe does not use.

    Args:
        dataset: a corpus, whose clips were checked when it was loaded.
        extractor: of the encoder.
        model: the probe; its encoder runs on its own device.
        max_seconds: length to which clips are padded and cut.
    """
    settings = json.loads(extractor.to_json_string())
    weights = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.encoder.state_dict().items()):
        weights.update(name.encode() + tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())

    def embed(batch: dict) -> dict:
        features = extract_features(extractor, decode_batch(batch, extractor.sampling_rate), max_seconds)
        tensors = {name: [torch.from_numpy(clip) for clip in clips] for name, clips in features.items()}
        inputs = batch_features(extractor, tensors)
        embeddings = model.embed(**{name: values.to(model.device) for name, values in inputs.items()})
        return {"embeddings": embeddings.cpu().numpy()}

    key = (weights.hexdigest(), model.config.encoder.to_dict(), model.config.masked_mean, settings, max_seconds)
    if model.config.pooling != "mean":
        key = (*key, model.config.pooling)
    return cached_map(
        dataset, embed, key=("embeddings behind the last norm", *key, corpus_key(dataset)), desc="Embeddings"
    )


def decode_batch(
    batch: dict, sampling_rate: int | None = None, pool: ThreadPoolExecutor | None = None
) -> list[np.ndarray]:
    """Return the samples `(samples,)` of each clip of a batch of rows, at a rate in Hz; by default at its own.

    Args:
        batch: columns `audio` and `file`, and the `digest` of each clip when it was checked.
        sampling_rate: in Hz.
        pool: threads that decode; by default the one that calls.
    """
    digests = batch.get("digest") or [None] * len(batch["file"])

    def decode(source: dict, name: str, digest: str | None) -> np.ndarray:
        return load_clip(source, sampling_rate, name, digest)[0]

    return list((pool.map if pool else map)(decode, batch["audio"], batch["file"], digests))


def fit_extractor(
    extractor: FeatureExtractionMixin,
    dataset: datasets.Dataset,
    train: Sequence[int],
    normalization: str,
    max_seconds: float,
    scale: str = "peak",
) -> datasets.Dataset:
    """Set the scale of an extractor from the training clips, and return the features of all clips.

    Args:
        extractor: changed in place if it is of this package; those of the library have no such settings.
        dataset: the whole corpus.
        train: rows that the scale is measured on.
        normalization: `none` as in the paper, or `mean_std` of the training clips' features.
        max_seconds: see `build_features`.
        scale: `peak` divides waveforms by the training clips' largest sample, `full_scale` leaves full scale at 1.

    Raises:
        UserError: for `mean_std` with an extractor of the library, and where all training clips are silent.
    """
    if needs_scale(extractor):

        def peaks(batch: dict) -> dict:
            rows = zip(batch["audio"], batch["file"], batch["digest"], strict=True)
            return {"peak": [clip_peak(*row) for row in rows]}

        measured = cached_map(dataset, peaks, key=("peaks", corpus_key(dataset)), desc="Measuring clips")
        peak = max(measured[list(train)]["peak"])
        if peak == 0:
            raise UserError("expected sound in the training clips, found nothing but zeros; check the recordings.")
        extractor.peak = peak if scale == "peak" else 1.0
    elif normalization != "none":
        raise UserError(
            f"--normalization {normalization} needs one of this package's feature extractors, found "
            f"{type(extractor).__name__}, which normalises by itself; use --normalization none."
        )
    features = build_features(dataset, extractor, max_seconds)
    if normalization == "mean_std":
        count, total, squares = 0, 0.0, 0.0
        for batch in features.select(sorted(train)).with_format("numpy").iter(batch_size=BATCH):
            values = np.asarray(batch[extractor.model_input_names[0]], dtype=np.float64)
            count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
        extractor.mean = float(total / count)
        extractor.std = float(np.sqrt(max(squares / count - (total / count) ** 2, 1e-12)))
    return features


def by_length(features: datasets.Dataset, rows: Sequence[int]) -> list[int]:
    """Return rows in the order of their lengths, so that batches have little padding; as they are for equal lengths.

    Args:
        features: of all clips of a corpus.
        rows: some of them.
    """
    lengths = feature_lengths(features)
    return sorted(rows, key=lambda row: lengths[row])


def feature_lengths(features: datasets.Dataset) -> list[int]:
    """Return the number of samples or frames of each clip's features, `(clips,)`, after trimming and cutting.

    Args:
        features: those of `build_features` or `build_embeddings`, also with `labels`.
    """
    name = next(name for name in features.column_names if name != "labels")
    chunks = features.data.column(name).chunks
    # of arrays of two dimensions and more, datasets keeps lists of lists under a type of its own
    return [
        length
        for chunk in chunks
        for length in pyarrow.compute.list_value_length(getattr(chunk, "storage", chunk)).to_pylist()
    ]


def cached_map(
    dataset: datasets.Dataset, function: Callable[[dict], dict], key: tuple, desc: str, own_length: bool = False
) -> datasets.Dataset:
    """Return the result of a function for each clip, in the order of the rows; computed once and kept in a file.

    A damaged file is computed again and replaced in one step: other processes that read or write it at the same time
    have a whole one.

    Args:
        dataset: a corpus.
        function: from a batch of rows, with the `digest` of each clip, to a list of arrays for each new column.
        key: everything that the result depends on, as JSON.
        desc: text of the progress bar.
        own_length: whether the first dimension of the arrays differs between clips.

    Raises:
        DiskError: where the file is not there and cannot be written.
        UserError: where a clip has changed since its corpus was read.
    """
    digest = hashlib.sha256(json.dumps([__version__, *key], sort_keys=True).encode()).hexdigest()[:32]
    file = cache_folder() / "features" / f"{digest}.arrow"
    kept = _is_whole(file, len(dataset))
    if not kept:
        make_folder(file.parent, CACHE_REMEDY)
    digests = () if kept or "audio" not in dataset.column_names else clip_digests(dataset)

    def compute(batch: dict, rows: Sequence[int]) -> dict:
        # so that the features of changed clips are not kept under the digests of the former ones
        return function(batch | {"digest": [digests[row] for row in rows]} if digests else batch)

    features = None if kept else _features_of(compute(dataset[:1], [0]), own_length)
    following: Future | None = None

    def compute_ahead(batch: dict, rows: Sequence[int]) -> dict:
        # datasets writes this batch while the next one is computed
        nonlocal following
        current, end = following or thread.submit(compute, batch, rows), rows[-1] + 1
        next_rows = range(end, min(end + BATCH, len(dataset)))
        following = thread.submit(compute, dataset[end : next_rows.stop], next_rows) if next_rows else None
        return current.result()

    def map_to(path: Path, read: bool) -> datasets.Dataset:
        return dataset.map(
            compute_ahead,
            with_indices=True,
            batched=True,
            batch_size=BATCH,
            remove_columns=dataset.column_names,
            features=features,
            load_from_cache_file=read,
            cache_file_name=str(path),
            new_fingerprint=digest,
            desc=desc,
        )

    if not kept:
        # on a full disk, datasets leaves its unfinished file where it is
        with (
            disk_errors(file.parent, CACHE_REMEDY),
            tempfile.TemporaryDirectory(dir=file.parent, prefix=".") as part,
            ThreadPoolExecutor(1) as thread,
        ):
            map_to(Path(part, file.name), read=False)
            os.replace(Path(part, file.name), file)
    return map_to(file, read=True)


def release_pages() -> None:
    """Give the memory of features that were read back to the system, which keeps their files in its cache.

    Without it, the resident memory of a training grows by all its features. Only on Linux, and only for mappings that
    the system itself lists as files of the cache: the content of other memory would be lost.
    """
    if sys.platform != "linux":
        return
    folder = os.path.realpath(cache_folder() / "features") + os.sep
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        addresses, *_, path = line.split(maxsplit=5)
        if path.startswith(folder):
            start, end = (int(address, 16) for address in addresses.split("-"))
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _is_whole(file: Path, rows: int) -> bool:
    """Return whether a file of the cache is there, with this number of rows; log a warning for a damaged one."""
    if not file.exists():
        return False
    try:
        # a file that was cut between two batches is a smaller one to Arrow, and no error
        present = len(datasets.Dataset.from_file(str(file)))
        damage = "" if present == rows else f"{present} of {rows} rows"
    except Exception as error:  # of Arrow for a cut file, and of JSON, keys or types where bytes of its schema differ
        damage = str(error) or type(error).__name__
    if damage:
        logger.warning("%s is damaged (%s): it is computed again.", file, damage)
    return not damage


def _features_of(batch: dict, own_length: bool) -> datasets.Features:
    """Return the Arrow types of a batch: fixed shapes stay arrays, which are read without copying each value."""
    types = {}
    for name, values in batch.items():
        dtype, shape = str(np.asarray(values[0]).dtype), np.shape(values[0])
        shape = (None, *shape[1:]) if own_length else shape
        if not shape:
            types[name] = datasets.Value(dtype)
        elif len(shape) == 1:
            types[name] = datasets.List(datasets.Value(dtype), length=shape[0] or -1)
        else:
            types[name] = getattr(datasets, f"Array{len(shape)}D")(shape, dtype)
    return datasets.Features(types)

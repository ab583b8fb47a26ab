"""Clips to model inputs: each clip is checked and turned into features once, then read from memory-mapped Arrow.

Caches are keyed by what the clips and the extractor are, so that a changed file or setting is computed anew.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
from huggingface_hub import constants
from transformers.feature_extraction_utils import FeatureExtractionMixin

from . import audio
from .checkpoints import extract_features
from .corpus.schema import Corpus
from .models import WaveformFeatureExtractor
from .version import __version__

BATCH = 32  # clips decoded and transformed together: 32 mel spectrograms fill the cores, 6 MB


def cache_folder() -> Path:
    """Where corpora and features are kept: `HF_VIVAE_CACHE`, or `hf_vivae` inside `HF_HOME`."""
    return Path(os.environ.get("HF_VIVAE_CACHE") or Path(constants.HF_HOME) / "hf_vivae")


def scan_clips(corpus: Corpus, on_bad_audio: str = "error") -> tuple[Corpus, np.ndarray]:
    """The corpus without unusable clips, and the largest absolute sample of each clip that is left, `(clips,)`.

    Args:
        corpus: every clip of it is decoded once.
        on_bad_audio: `error` raises; `skip` leaves bad clips out and adds them to the corpus's `problems`.

    Raises:
        ValueError: listing every clip that does not decode or is silent, with the reason.
    """
    scanned = _cached_map(
        corpus.dataset, _scan_batch, key=("scan", _corpus_key(corpus.dataset)), desc="Checking clips"
    )
    problems = {row: text for row, text in enumerate(scanned["problem"]) if text}
    peaks = np.asarray(scanned["peak"])
    if not problems:
        return corpus, peaks
    if on_bad_audio == "error":
        raise ValueError(
            f"{len(problems)} of {len(peaks)} clips cannot be used: {'; '.join(problems.values())}. "
            "Mend or remove these files, or leave them out with --on_bad_audio skip."
        )
    good = [row for row in range(len(peaks)) if row not in problems]
    left = replace(corpus, dataset=corpus.dataset.select(good), problems=(*corpus.problems, *problems.values()))
    return left, peaks[good]


def _scan_batch(batch: dict) -> dict:
    peaks, problems = [], []
    for source, name in zip(batch["audio"], batch["file"], strict=True):
        peak, problem = 0.0, ""
        try:
            peak = float(np.abs(audio.load(source, name=name)[0]).max())
            if peak == 0:
                problem = f"{name}: expected sound, found nothing but zeros"
        except audio.BadAudio as error:
            problem = f"{name}: expected {error.expected}, found {error.found}"
        peaks.append(peak)
        problems.append(problem)
    return {"peak": peaks, "problem": problems}


def build_features(
    dataset: datasets.Dataset, extractor: FeatureExtractionMixin, max_seconds: float
) -> datasets.Dataset:
    """Features of each clip, in the rows' order, before `normalize`; computed once and kept.

    Args:
        dataset: a corpus whose clips have been scanned.
        extractor: of the model; its `mean` and `std` are not applied yet.
        max_seconds: length that library extractors pad and cut to.
    """
    settings = json.loads(extractor.to_json_string())
    settings = {name: value for name, value in settings.items() if name not in ("mean", "std", "auto_map")}

    def extract(batch: dict) -> dict:
        rows = zip(batch["audio"], batch["file"], strict=True)
        clips = [audio.load(source, extractor.sampling_rate, name)[0] for source, name in rows]
        return extract_features(extractor, clips, max_seconds)

    key = ("features", settings, max_seconds, _corpus_key(dataset))
    return _cached_map(dataset, extract, key=key, desc="Features")


def fit_extractor(
    extractor: FeatureExtractionMixin,
    dataset: datasets.Dataset,
    peaks: Sequence[float],
    train: Sequence[int],
    normalization: str,
    max_seconds: float,
) -> datasets.Dataset:
    """Features of all clips, after the extractor has taken its scale from the training clips.

    Args:
        extractor: changed in place where it is one of ours; those of the library have no such settings.
        dataset: the whole corpus.
        peaks: largest absolute sample of each clip, `(clips,)`.
        train: rows that may be looked at.
        normalization: `none` as the report, or `mean_std` of the training clips' features.
        max_seconds: see `build_features`.

    Raises:
        ValueError: where `mean_std` is asked of a library extractor.
    """
    if isinstance(extractor, WaveformFeatureExtractor):
        extractor.peak = float(np.max(np.asarray(peaks)[list(train)]))
    elif normalization != "none":
        raise ValueError(
            f"--normalization {normalization} needs one of this package's feature extractors, found "
            f"{type(extractor).__name__}, which normalises by itself; use --normalization none."
        )
    features = build_features(dataset, extractor, max_seconds)
    if normalization == "mean_std":
        extractor.mean, extractor.std = _mean_and_std(features.select(sorted(train)), extractor.model_input_names[0])
    return features


def _mean_and_std(features: datasets.Dataset, column: str) -> tuple[float, float]:
    count, total, squares = 0, 0.0, 0.0
    for batch in features.with_format("numpy").iter(batch_size=BATCH):
        values = np.asarray(batch[column], dtype=np.float64)
        count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
    mean = total / count
    return float(mean), float(np.sqrt(max(squares / count - mean**2, 1e-12)))


def _cached_map(
    dataset: datasets.Dataset, function: Callable[[dict], dict], key: tuple, desc: str
) -> datasets.Dataset:
    digest = hashlib.sha256(json.dumps([__version__, *key], sort_keys=True).encode()).hexdigest()[:32]
    file = cache_folder() / "features" / f"{digest}.arrow"
    file.parent.mkdir(parents=True, exist_ok=True)
    return dataset.map(
        function,
        batched=True,
        batch_size=BATCH,
        remove_columns=dataset.column_names,
        features=None if file.exists() else _features_of(function(dataset[:1])),
        load_from_cache_file=True,
        cache_file_name=str(file),
        new_fingerprint=digest,
        desc=desc,
    )


def _features_of(batch: dict) -> datasets.Features:
    """The Arrow types of a batch: fixed shapes stay arrays, so that a row is read without a copy for each value."""
    types = {}
    for name, values in batch.items():
        values = np.asarray(values)
        if values.dtype.kind == "U":
            types[name] = datasets.Value("string")
            continue
        dtype, shape = str(values.dtype), values.shape[1:]
        if not shape:
            types[name] = datasets.Value(dtype)
        elif len(shape) == 1:
            types[name] = datasets.List(datasets.Value(dtype), length=shape[0])
        else:
            types[name] = getattr(datasets, f"Array{len(shape)}D")(shape, dtype)
    return datasets.Features(types)


def _corpus_key(dataset: datasets.Dataset) -> str:
    digest = hashlib.sha256()
    for batch in dataset.select_columns(["audio", "file"]).iter(batch_size=256):
        for source, name in zip(batch["audio"], batch["file"], strict=True):
            digest.update(name.encode())
            if source["bytes"] is not None:
                digest.update(hashlib.sha256(source["bytes"]).digest())
            else:
                state = os.stat(source["path"])
                digest.update(f"{source['path']}:{state.st_size}:{state.st_mtime_ns}".encode())
    return digest.hexdigest()

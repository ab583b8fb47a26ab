"""Predictions of a checkpoint for clips that it was not trained on, as a run folder that evaluation reads."""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .. import run_folder
from ..checkpoints.load import load_for_inference
from ..checkpoints.resolve import resolve_checkpoint
from ..corpus.arguments import CorpusArguments
from ..corpus.schema import Corpus, corpus_digest, corpus_record, describe_clips
from ..corpus.tasks import task_labels
from ..features.cache import build_features, by_length
from ..features.extraction import AudioDataCollator
from ..files import make_folder, read_json, write_json
from ..models import short_name
from ..run_folder import UNRESAMPLED
from ..splits.folds import PARTS
from ..validation import UserError
from .runs import read_digests

logger = logging.getLogger(__name__)
REMEDY = "copy the whole folder, or score a copy without run.json, whose scores are marked"
UNKNOWN = "it is not known whether the checkpoint was trained on these clips"


def score_checkpoints(
    checkpoints: Sequence[str], arguments: CorpusArguments, task: str, output: Path, trust_remote_code: bool = False
) -> list[Path]:
    """Predict the clips of a corpus with each checkpoint, and return the folders of the predictions.

    Args:
        checkpoints: run folders of folds, other folders, or Hub ids.
        arguments: of the corpus.
        task: see `score_checkpoint`.
        output: folder of the evaluation.
        trust_remote_code: execute code that is part of a checkpoint.

    Raises:
        UserError: see `score_checkpoint`, and for a checkpoint that is not found.
    """
    # before the corpus, which may take a minute to load
    sources = {name: resolve_checkpoint(name, code=trust_remote_code) for name in checkpoints}
    make_folder(output)
    corpus = arguments.load()
    return [
        score_checkpoint(name, source, corpus, task, output / run_folder.SCORED, trust_remote_code)
        for name, source in sources.items()
    ]


def score_checkpoint(
    checkpoint: str, source: Path, corpus: Corpus, task: str, output: Path, trust_remote_code: bool = False
) -> Path:
    """Predict the clips of a corpus with a checkpoint, and return the folder of the predictions.

    Clips with the sound of a clip that trained or selected the checkpoint are left out, if its folder contains the
    digests of these clips.

    Args:
        checkpoint: its name in tables: run folder of a fold, any other folder, or Hub id.
        source: its folder, as `resolve_checkpoint` returns it.
        corpus: clips to predict.
        task: name of the task; the checkpoint must have its labels.
        output: the folder is made below it.
        trust_remote_code: execute code that is part of the checkpoint.

    Raises:
        UserError: the checkpoint cannot be loaded or has other labels, all clips trained it, or its run folder does
            not contain which clips did.
    """
    started = time.perf_counter()
    model, extractor = load_for_inference(source, trust_remote_code)
    record = read_record(source)
    labels, label_names = task_labels(corpus.dataset, task)
    order = _order_labels(model, label_names, checkpoint)
    described = describe_clips(corpus.dataset)
    used = read_used_digests(source) if record else {}
    if record and record["run"]["select_on"] != "test":
        used.pop("test")
    seen = set().union(*used.values())
    rows = [row for row, clip in enumerate(described) if clip["digest"] not in seen]
    if not rows:
        raise UserError(
            f"expected clips that {checkpoint} was not trained on, found that all {len(described)} trained or "
            "selected it; give another --data."
        )
    if left_out := len(described) - len(rows):
        logger.warning("%d clips that trained or selected %s are left out.", left_out, checkpoint)
    logits = predict_clips(model, extractor, corpus.dataset.select(rows))[:, order]
    predictions = [
        {**described[row], "label": labels[row], "logits": of_clip.tolist(), "fold": "all", "split": "test"}
        for row, of_clip in zip(rows, logits, strict=True)
    ]
    names = [model.config.id2label[index] for index in order]
    digest = corpus_digest(corpus, labels)
    if len(names) > len(label_names):  # not comparable with checkpoints that distinguish fewer labels
        digest = hashlib.sha256(json.dumps([digest, names]).encode()).hexdigest()[:16]
    path_digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]
    folder = output / f"{short_name(checkpoint).replace(':', '-')}-{path_digest}-{digest}"
    make_folder(folder)
    (folder / "results.json").unlink(missing_ok=True)  # of an earlier scoring, else an interrupted one seems finished
    run_folder.write_predictions(folder, predictions)
    spent = {"environment": run_folder.environment(), "seconds": time.perf_counter() - started, "finished": True}
    kept = record or {
        "run": {"model": checkpoint, "recipe": "none", "as_coded": [], "model_config": {}},
        "training": {},
    }
    settings = {
        "run": {**kept["run"], "task": task, "protocol": run_folder.OTHER_CLIPS, "checkpoint": checkpoint},
        "training": {**kept["training"], "seed": None, "data_seed": None},  # each checkpoint is a system of its own
    }
    held_out = {"train": [], "validation": [], "test": [row["file"] for row in predictions]}
    write_json(folder / "run.json", {**settings, "corpus": corpus_record(corpus, digest), **spent, "fold": held_out})
    # no epoch was selected on these clips, and dropout is off, so other caveats of the training do not apply
    caveats = [UNKNOWN] if record is None else [] if record["run"]["resample"] else [UNRESAMPLED]
    results = {"fold": "all", "of_folds": 1, "labels": names, "selection": None, "habits": caveats}
    write_json(folder / "results.json", results)
    return folder


def read_record(source: Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint's `run.json`; None for a checkpoint without it.

    Raises:
        UserError: for a file that is not of a training.
    """
    file = source / "run.json"
    if not file.is_file():
        return None
    record = read_json(file, REMEDY)
    run, training = (record.get(part) for part in ("run", "training"))
    if not (isinstance(run, dict) and isinstance(training, dict) and {"select_on", "resample"} <= run.keys()):
        raise UserError(f"expected the record of a training in {file}, found another; {REMEDY}.")
    return record


def _order_labels(model: PreTrainedModel, label_names: list[str], checkpoint: str) -> list[int]:
    """Return the checkpoint's index of each label of the corpus, then those of its other labels."""
    indices = {name: int(index) for index, name in model.config.id2label.items()}
    if unknown := [name for name in label_names if name not in indices]:
        raise UserError(
            f"expected labels of {checkpoint} ({', '.join(indices)}), found {', '.join(unknown)}; "
            "give another --task or --data, or a --label_map to the labels of the checkpoint."
        )
    return [indices[name] for name in [*label_names, *(name for name in indices if name not in label_names)]]


def read_used_digests(source: Path) -> dict[str, set[str]]:
    """Return the digests of the clips of each part of a run folder; a copy of a clip has the same one.

    Raises:
        UserError: for a run folder without predictions, and for clips without a digest.
    """
    file = source / "predictions.parquet"
    if not file.is_file():
        raise UserError(f"expected {file.name} next to run.json in {source}, found none; {REMEDY}.")
    if read_json(source / "run.json")["run"].get("streaming"):
        raise UserError(
            f"expected the digests of the training clips in {file}, found none, since {source} was trained with "
            "--streaming; score clips that it has not seen with `hf-vivae predict`."
        )
    digests = {part: {digest for _, digest in read_digests(source, part)} for part in PARTS}
    if None in set().union(*digests.values()):
        raise UserError(f"expected a digest of each clip in {file}, found clips without one; {REMEDY}.")
    return digests


@torch.inference_mode()
def predict_clips(
    model: PreTrainedModel, extractor: FeatureExtractionMixin, clips: Dataset, output: str = "logits"
) -> np.ndarray:
    """Return the logits of clips, `(clips, labels)`, or another output of the model."""
    # clips are cut as in training only, at the length that the extractor keeps
    features = build_features(clips, extractor, max(clips["duration"])).with_format("torch")
    ordered = by_length(features, range(len(features)))
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    batches = DataLoader(features.select(ordered), batch_size=32, collate_fn=AudioDataCollator(extractor))
    outputs = [
        getattr(model(**{name: values.to(model.device) for name, values in batch.items()}), output).cpu()
        for batch in batches
    ]
    return torch.cat(outputs)[np.argsort(ordered)].numpy()

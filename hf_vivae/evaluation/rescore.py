"""A trained checkpoint's predictions of clips that it has not learnt from, in a folder that evaluation reads."""

import hashlib
import json
import logging
import time
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
from ..corpus.schema import Corpus, corpus_digest, describe_clips
from ..corpus.tasks import task_labels
from ..features.cache import build_features, by_length
from ..features.extraction import AudioDataCollator
from ..files import make_folder, read_json, write_json
from ..models import short_name
from ..run_folder import UNRESAMPLED
from ..validation import UserError
from .runs import read_sounds

logger = logging.getLogger(__name__)
BARE = "copy the folder as a whole, or score a copy without run.json, whose scores are marked"
UNKNOWN = "nobody knows whether the checkpoint was trained on these clips"


def score_checkpoint(
    checkpoint: str, source: Path, corpus: Corpus, task: str, output: Path, trust_remote_code: bool = False
) -> Path:
    """Predict the clips of a corpus with a checkpoint as it is; the folder with predictions, settings and marks.

    Clips whose sound trained or selected the checkpoint are left out, as far as its folder says which these were.

    Args:
        checkpoint: what tables call it: run folder of a fold, any other folder, or Hub id.
        source: its folder, as `resolve_checkpoint` gives it.
        corpus: clips to predict.
        task: whose labels the checkpoint tells apart.
        output: the folder is made below it.
        trust_remote_code: execute code that the checkpoint brings along.

    Raises:
        ValueError: for checkpoints that cannot be loaded or know other labels, where all clips have trained it, and
            for a run folder that does not say which.
    """
    started = time.perf_counter()
    model, extractor = load_for_inference(source, trust_remote_code)
    record = _read_record(source)
    labels, label_names = task_labels(corpus.dataset, task)
    order = _order_labels(model, label_names, checkpoint)
    described = describe_clips(corpus.dataset)
    rows = _unseen(described, source, record, checkpoint)
    logits = _predict(model, extractor, corpus.dataset.select(rows))[:, order]
    predictions = [
        {**described[row], "label": labels[row], "logits": found.tolist(), "fold": "all", "split": "test"}
        for row, found in zip(rows, logits, strict=True)
    ]
    names = [model.config.id2label[place] for place in order]
    digest = corpus_digest(corpus, labels)
    if len(names) > len(label_names):  # not to be set beside checkpoints that tell fewer labels apart
        digest = hashlib.sha256(json.dumps([digest, names]).encode()).hexdigest()[:16]
    place = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]
    folder = output / f"{short_name(checkpoint).replace(':', '-')}-{place}-{digest}"
    make_folder(folder)
    (folder / "results.json").unlink(missing_ok=True)  # of an earlier scoring: else this one, killed, looks whole
    run_folder.write_predictions(folder, predictions)
    clips = {"name": corpus.name, "clips": len(corpus.dataset), "digest": digest, "problems": list(corpus.problems)}
    spent = {"environment": run_folder.environment(), "seconds": time.perf_counter() - started, "finished": True}
    settings = _settings(checkpoint, record, task)
    held_out = {"train": [], "validation": [], "test": [row["file"] for row in predictions]}
    write_json(folder / "run.json", {**settings, "corpus": clips, **spent, "fold": held_out})
    marked = {"selection": None, "habits": _habits(record)}
    write_json(folder / "results.json", {"fold": "all", "of_folds": 1, "labels": names, **marked})
    return folder


def _read_record(source: Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint's `run.json`; None for one without it."""
    file = source / "run.json"
    if not file.is_file():
        return None
    record = read_json(file, BARE)
    run, training = (record.get(part) for part in ("run", "training"))
    if not (isinstance(run, dict) and isinstance(training, dict) and {"select_on", "resample"} <= run.keys()):
        raise UserError(f"expected the record of a training in {file}, found another; {BARE}.")
    return record


def _order_labels(model: PreTrainedModel, label_names: list[str], checkpoint: str) -> list[int]:
    """The checkpoint's index of each of the corpus's labels, then those of the labels that only it knows."""
    known = {name: int(index) for index, name in model.config.id2label.items()}
    unknown = [name for name in label_names if name not in known]
    if unknown:
        raise UserError(
            f"expected labels that {checkpoint} knows ({', '.join(known)}), found {', '.join(unknown)}; "
            "give another --task or --data."
        )
    return [known[name] for name in [*label_names, *(name for name in known if name not in label_names)]]


def _unseen(
    described: list[dict[str, Any]], source: Path, record: dict[str, Any] | None, checkpoint: str
) -> list[int]:
    seen = _digests_seen(source, record) if record else set()
    rows = [row for row, clip in enumerate(described) if clip["digest"] not in seen]
    if not rows:
        raise UserError(
            f"expected clips that {checkpoint} has not learnt from, found that all {len(described)} trained or "
            "selected it; give another --data."
        )
    if len(rows) < len(described):
        left_out = len(described) - len(rows)
        logger.warning("%d clips that trained or selected %s are left out.", left_out, checkpoint)
    return rows


def _digests_seen(source: Path, record: dict[str, Any]) -> set[str]:
    """What tells the sound of the clips that the checkpoint owes something to, under whatever name."""
    parts = {"train", "validation", *(["test"] if record["run"]["select_on"] == "test" else [])}
    file = source / "predictions.parquet"
    if not file.is_file():
        raise UserError(f"expected {file.name} beside run.json in {source}, found none; {BARE}.")
    sounds = {digest for part in parts for _, digest in read_sounds(source, part)}
    if None in sounds:
        raise UserError(f"expected a digest of each clip in {file}, found clips without one; {BARE}.")
    return sounds


@torch.inference_mode()
def _predict(model: PreTrainedModel, extractor: FeatureExtractionMixin, clips: Dataset) -> np.ndarray:
    # no cut but those of the training, which the extractor has kept
    features = build_features(clips, extractor, max(clips["duration"])).with_format("torch")
    ordered = by_length(features, range(len(features)))
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    batches = DataLoader(features.select(ordered), batch_size=32, collate_fn=AudioDataCollator(extractor))
    found = [
        model(**{name: values.to(model.device) for name, values in batch.items()}).logits.cpu() for batch in batches
    ]
    return torch.cat(found)[np.argsort(ordered)].numpy()  # (clips, labels)


def _settings(checkpoint: str, record: dict[str, Any] | None, task: str) -> dict[str, Any]:
    absent = {"run": {"model": checkpoint, "recipe": "none", "as_coded": [], "model_config": {}}, "training": {}}
    kept = record or absent
    run = {**kept["run"], "task": task, "protocol": run_folder.OTHER_CLIPS, "checkpoint": checkpoint}
    # no seed tells these apart: each checkpoint is a system of its own
    return {"run": run, "training": {**kept["training"], "seed": None, "data_seed": None}}


def _habits(record: dict[str, Any] | None) -> list[str]:
    """Marks of what still holds here: no epoch was selected on these clips, and dropout is off."""
    if record is None:
        return [UNKNOWN]
    return [] if record["run"]["resample"] else [UNRESAMPLED]

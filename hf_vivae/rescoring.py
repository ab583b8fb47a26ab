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

from . import runs
from .checkpoints import resolve_checkpoint
from .collator import ClipCollator
from .corpus import GENERATED
from .corpus.schema import Corpus
from .corpus.tasks import task_labels
from .features import build_features, corpus_digest
from .loading import LONGEST_INPUT, load_trained
from .models import short_name
from .scoring import describe_clips

logger = logging.getLogger(__name__)
PROTOCOL = "other-clips"  # every clip of a corpus that the checkpoint has not learnt from
UNKNOWN = "nobody knows whether the checkpoint was trained on these clips"


def score_checkpoint(
    checkpoint: str, corpus: Corpus, task: str, output: Path, trust_remote_code: bool = False
) -> Path:
    """Predict the clips of a corpus with a checkpoint as it is; the folder with predictions, settings and marks.

    Clips that trained or selected the checkpoint are left out, as far as its folder says which these were.

    Args:
        checkpoint: run folder of a fold, any other folder, or Hub id.
        corpus: clips to predict.
        task: whose labels the checkpoint tells apart.
        output: the folder is made below it.
        trust_remote_code: execute code that the checkpoint brings along.

    Raises:
        ValueError: for checkpoints that cannot be loaded or know other labels, and where all clips have trained it.
    """
    started = time.perf_counter()
    source = resolve_checkpoint(checkpoint, code=trust_remote_code)
    model, extractor = load_trained(source, trust_remote_code)
    record = runs.read_json(source / "run.json") if (source / "run.json").is_file() else None
    labels, label_names = task_labels(corpus.dataset, task)
    places = _match_labels(model, label_names, checkpoint)
    digest = corpus_digest(corpus, labels)
    rows = _unseen(corpus, digest, record, checkpoint)
    logits = _predict(model, extractor, corpus.dataset.select(rows))
    described = describe_clips(corpus.dataset)
    predictions = [
        {**described[row], "label": places[labels[row]], "logits": found.tolist(), "fold": "all", "split": "test"}
        for row, found in zip(rows, logits, strict=True)
    ]
    name = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]
    folder = output / f"{short_name(checkpoint).replace(':', '-')}-{name}-{digest}"
    runs.make_folder(folder)
    runs.write_predictions(folder, predictions)
    clips = {"name": corpus.name, "clips": len(corpus.dataset), "digest": digest, "problems": list(corpus.problems)}
    spent = {"environment": runs.environment(), "seconds": time.perf_counter() - started, "finished": True}
    settings = _settings(checkpoint, record, task)
    held_out = {"train": [], "validation": [], "test": [row["file"] for row in predictions]}
    runs.write_json(folder / "run.json", {**settings, "corpus": clips, **spent, "fold": held_out})
    names = [model.config.id2label[place] for place in range(model.config.num_labels)]
    marked = {"selection": None, "habits": _habits(source, record)}
    runs.write_json(folder / "results.json", {"fold": "all", "of_folds": 1, "labels": names, **marked})
    return folder


def _match_labels(model: PreTrainedModel, label_names: list[str], checkpoint: str) -> list[int]:
    """The checkpoint's index of each of the corpus's labels."""
    known = {name: index for index, name in model.config.id2label.items()}
    unknown = [name for name in label_names if name not in known]
    if unknown:
        raise ValueError(
            f"expected labels that {checkpoint} knows ({', '.join(known)}), found {', '.join(unknown)}; "
            "give another --task or --data."
        )
    return [int(known[name]) for name in label_names]


def _unseen(corpus: Corpus, digest: str, record: dict[str, Any] | None, checkpoint: str) -> list[int]:
    files = corpus.dataset["file"][:]
    seen = _names_seen(corpus, digest, record) if record else set()
    rows = [row for row, file in enumerate(files) if file not in seen]
    if not rows:
        raise ValueError(
            f"expected clips that {checkpoint} has not learnt from, found that all {len(files)} trained or selected "
            "it; give another --data."
        )
    if len(rows) < len(files):
        logger.warning("%d clips that trained or selected %s are left out.", len(files) - len(rows), checkpoint)
    return rows


def _names_seen(corpus: Corpus, digest: str, record: dict[str, Any]) -> set[str]:
    # VIVAE, its core set and a folder that has grown keep their names; generated corpora share VIVAE's names, but
    # with another seed not its clips
    learnt = record["corpus"]
    kinds = {name.split("-")[0] for name in (learnt["name"], corpus.name)}
    if learnt["digest"] != digest and (len(kinds) > 1 or kinds & set(GENERATED)):
        return set()
    return {*record["fold"]["train"], *record["fold"]["validation"]}


@torch.inference_mode()
def _predict(model: PreTrainedModel, extractor: FeatureExtractionMixin, clips: Dataset) -> np.ndarray:
    features = build_features(clips, extractor, min(max(clips["duration"]), LONGEST_INPUT)).with_format("torch")
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    batches = DataLoader(features, batch_size=32, collate_fn=ClipCollator(extractor))
    found = [
        model(**{name: values.to(model.device) for name, values in batch.items()}).logits.cpu() for batch in batches
    ]
    return torch.cat(found).numpy()  # (clips, labels)


def _settings(checkpoint: str, record: dict[str, Any] | None, task: str) -> dict[str, Any]:
    absent = {"run": {"model": checkpoint, "recipe": "none", "as_coded": []}, "training": {}}
    kept = record or absent
    run = {**kept["run"], "task": task, "protocol": PROTOCOL, "checkpoint": checkpoint}
    return {"run": run, "training": {"seed": None, "data_seed": None, **kept["training"]}}


def _habits(source: Path, record: dict[str, Any] | None) -> list[str]:
    if record is None:
        return [UNKNOWN]
    results = json.loads((source / "results.json").read_text(encoding="utf-8"))
    return results["habits"]

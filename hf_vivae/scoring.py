"""A trained model to logits of every clip, and logits to scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from .metrics import ClassificationScores
from .splits import PARTS, Fold
from .trainer import VivaeTrainer


def predict_parts(
    trainer: VivaeTrainer, features: Dataset, fold: Fold, files: Sequence[str], labels: Sequence[int]
) -> list[dict[str, Any]]:
    """Rows of file, label, logits, fold and split for every clip of a fold; each part is predicted once.

    Args:
        trainer: of the model to score.
        features: of all clips of the corpus.
        fold: rows of each part.
        files: name of each clip of the corpus, `(clips,)`.
        labels: label index of each clip of the corpus, `(clips,)`.
    """
    rows = []
    for part in PARTS:
        clips = getattr(fold, part)
        logits = trainer.predict(features.select(clips)).predictions  # (clips of the part, labels)
        rows += [
            {"file": files[clip], "label": labels[clip], "logits": row.tolist(), "fold": fold.name, "split": part}
            for clip, row in zip(clips, logits, strict=True)
        ]
    return rows


def score_rows(rows: Sequence[dict[str, Any]], label_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Scores of test, validation and training clips, each over all rows of that part, whatever their fold."""
    scorer, scores = ClassificationScores(label_names), {}
    for part in reversed(PARTS):
        chosen = [row for row in rows if row["split"] == part]
        logits = np.asarray([row["logits"] for row in chosen])
        scores[part] = scorer.compute(predictions=logits, references=[row["label"] for row in chosen])
    return scores


def selection(trainer: VivaeTrainer) -> dict[str, Any] | None:
    """How the epoch that is scored was chosen; None where nothing was: the last one, or a solver's solution."""
    best = trainer.state.best_global_step
    if not trainer.args.load_best_model_at_end or not best:
        return None
    epoch = next(entry["epoch"] for entry in trainer.state.log_history if entry.get("step") == best)
    return {"on": "validation", "metric": trainer.args.metric_for_best_model, "epoch": epoch}

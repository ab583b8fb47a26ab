"""A trained model to logits of every clip, and logits to scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.special import softmax
from transformers import set_seed

from .features import by_length
from .habits import ReportHabits, how_reported
from .metrics import ClassificationScores, one_versus_rest_auc
from .splits import PARTS
from .trainer import VivaeTrainer


def predict_parts(
    trainer: VivaeTrainer,
    features: Dataset,
    fold: str,
    parts: dict[str, Sequence[int]],
    described: Sequence[dict[str, Any]],
    labels: Sequence[int],
) -> list[dict[str, Any]]:
    """A row for every clip of a fold, as `runs.write_predictions` writes it; each part is predicted once.

    Args:
        trainer: of the model to score.
        features: of all clips of the corpus.
        fold: its name.
        parts: row indices of each part.
        described: each clip of the corpus, as `features.describe_clips` gives it.
        labels: label index of each clip of the corpus, `(clips,)`.
    """
    rows = []
    # what dropout draws where it stays on shall not depend on what was done before, such as a resume
    set_seed(trainer.args.seed)
    for part, chosen in parts.items():
        ordered = by_length(features, chosen)
        predicted = trainer.predict(features.select(ordered)).predictions  # (clips of the part, labels)
        logits = dict(zip(ordered, predicted.tolist(), strict=True))
        rows += [
            {**described[clip], "label": labels[clip], "logits": logits[clip], "fold": fold, "split": part}
            for clip in chosen
        ]
    return rows


def score_rows(rows: Sequence[dict[str, Any]], label_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Scores of test, validation and training clips, each over all rows of that part, whatever their fold.

    Beside those of `ClassificationScores`, `majority` is what always saying the label that is most frequent among the
    training clips of a clip's fold gets: that label, None where it differs between folds, and the accuracy.
    """
    scorer, scores = ClassificationScores(label_names), {}
    frequent = _most_frequent_by_fold(rows)
    labels = {label_names[index] for index in frequent.values()}
    label = labels.pop() if len(labels) == 1 else None
    for part in reversed(PARTS):
        chosen = [row for row in rows if row["split"] == part]
        if not chosen:  # without a validation part, where the epoch is selected on test
            continue
        logits = np.asarray([row["logits"] for row in chosen])
        scores[part] = scorer.compute(predictions=logits, references=[row["label"] for row in chosen])
        hits = sum(row["label"] == frequent[row["fold"]] for row in chosen)
        scores[part]["majority"] = {"label": label, "accuracy": hits / len(chosen)}
    return scores


def _most_frequent_by_fold(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    labels: dict[str, list[int]] = {}
    for row in rows:
        if row["split"] == "train":
            labels.setdefault(row["fold"], []).append(row["label"])
    return {fold: most_frequent(found) for fold, found in labels.items()}


def most_frequent(labels: Sequence[int]) -> int:
    """The most frequent label index, of equally frequent ones the first."""
    return int(np.bincount(labels).argmax())


def report_scores(
    habits: ReportHabits,
    rows: Sequence[dict[str, Any]],
    label_names: Sequence[str],
    seed: int,
) -> dict[str, Any] | None:
    """AUC in the report's ways, beside the run's own scores; None where neither it nor a loss is asked for so.

    Args:
        habits: which ways.
        rows: those of `predict_parts`, for all clips.
        label_names: name of each label.
        seed: of the run; a redrawn split has another one.
    """
    how = how_reported(habits)
    if how is None:
        return None
    test = [row for row in rows if row["split"] == "test"]
    if habits.auc_split == "redrawn":
        redrawn = np.random.default_rng((seed, 1)).permutation(len(rows))[: len(test)]
        test = [rows[row] for row in sorted(redrawn)]
    scores = np.asarray([row["logits"] for row in test])
    if habits.auc_scores == "probabilities":
        scores = softmax(scores, axis=1)
    auc = one_versus_rest_auc(scores, np.asarray([row["label"] for row in test]), label_names)
    defined = [area for area in auc.values() if not np.isnan(area)]
    return {"how": how, "auc": auc, "macro_auc": float(np.mean(defined)) if defined else None}

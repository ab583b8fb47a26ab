"""Predictions to `results.json`, and the summary that the terminal shows."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.special import softmax
from transformers import set_seed

from ..features.cache import by_length
from ..metrics import ClassificationScores, macro_auc, most_frequent_by_fold, one_versus_rest_auc
from ..models import short_name
from ..run_folder import UNRESAMPLED
from ..splits.folds import PARTS
from ..validation import printable
from .arguments import ReproductionArguments
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
    train = [row for row in rows if row["split"] == "train"]
    frequent = most_frequent_by_fold([row["label"] for row in train], [row["fold"] for row in train])
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


def report_scores(
    habits: ReproductionArguments,
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
    mean = macro_auc(auc)
    return {"how": how, "auc": auc, "macro_auc": None if math.isnan(mean) else mean}


def score_caveats(habits: ReproductionArguments, eval_dropout: bool, selected: bool) -> list[str]:
    """A sentence for each habit that the scores of a run owe something to; they stand below its tables.

    Args:
        habits: of the run.
        eval_dropout: whether dropout stayed on while scoring.
        selected: whether an epoch was selected at all.
    """
    sentences = {
        "epochs or settings are selected on the test clips": habits.select_on == "test" and selected,
        "dropout is on while scoring": eval_dropout,
        UNRESAMPLED: not habits.resample,
    }
    return [sentence for sentence, true in sentences.items() if true]


def how_reported(habits: ReproductionArguments) -> str | None:
    """What the report's way of computing AUC and loss has changed, or None where nothing has."""
    ways: dict[str, Any] = {
        "AUC of logits": habits.auc_scores == "logits",
        "AUC on a redrawn split": habits.auc_split == "redrawn",
        "losses summed over batches": habits.loss_reduction == "sum",
    }
    return ", ".join(way for way, true in ways.items() if true) or None


def format_results(results: dict[str, Any]) -> str:
    """The scores of a run for a terminal, chance and majority below; each line says which clips they are from.

    Args:
        results: content of a run's `results.json`.
    """
    data = results["data"]
    title = (
        f"{short_name(results['model'])} on {data} clips, {results['protocol']}, {results['task']}, "
        f"recipe {' with '.join([results['recipe'], *results['as_coded']])}"
    )
    if "folds" in results:
        title += f" ({len(results['folds'])} of {results['of_folds']} folds, pooled)"
    width = len(f"validation ({data})")
    lines = [title, f"{'':{width}}{'clips':>7}{'accuracy':>10}{'UAR':>8}{'macro F1':>10}{'macro AUC':>11}{'loss':>8}"]
    parts = [part for part in ("train", "validation", "test") if part in results]
    for part in parts:
        scores = results[part]
        auc = math.nan if scores["macro_auc"] is None else scores["macro_auc"]
        lines.append(
            f"{f'{part} ({data})':{width}}{scores['n']:7d}{scores['accuracy']:10.1%}{scores['uar']:8.1%}"
            f"{scores['macro_f1']:10.1%}{auc:11.3f}{scores['loss']:8.3f}"
        )
    labels = len(results["labels"])
    chance = f"{1 / labels:10.1%}{1 / labels:8.1%}{'':10}{0.5:11.3f}{math.log(labels):8.3f}"
    lines.append(f"{'chance':{width}}{'':7}{chance}")
    majority = results["test"]["majority"]
    line = f"{'majority':{width}}{'':7}{majority['accuracy']:10.1%}"
    # where folds say different labels, UAR and AUC over all of them need not be those of chance
    lines.append(line if majority["label"] is None else f"{line}{1 / labels:8.1%}{'':10}{0.5:11.3f}")
    lines.append(f"note: majority is always saying {_frequent(majority['label'])} on the test clips")
    lines += [f"note on {part} ({data}): {note}" for part in parts for note in results[part]["notes"]]
    lines += [f"note: {habit}" for habit in results["habits"]]
    if reported := results.get("reported"):
        lines.append(f"as the report computes it ({reported['how']}): macro AUC {reported['macro_auc']:.3f}")
    return "\n".join(map(printable, lines))


def _frequent(label: str | None) -> str:
    if label is None:
        return "the most frequent label of the fold's training clips"
    return f"{label}, the most frequent label of the training clips,"

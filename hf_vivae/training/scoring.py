"""Predictions and scores of a run, and the summary of them for a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.special import softmax
from transformers import set_seed

from ..corpus.schema import with_label_map
from ..features.cache import by_length
from ..features.streamed import StreamedClips
from ..metrics import ClassificationScores, macro_auc, most_frequent_by_fold, one_versus_rest_auc
from ..models import short_name
from ..models.probe import ProbeForAudioClassification
from ..run_folder import UNRESAMPLED
from ..splits.folds import PARTS
from ..validation import printable
from .arguments import ReproductionArguments
from .linear import embedding_distances
from .trainer import VivaeTrainer


def predict_parts(
    trainer: VivaeTrainer,
    features: Dataset | StreamedClips,
    fold: str,
    parts: dict[str, Sequence[int]],
    clips: Sequence[dict[str, Any]] | Mapping[int, dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return a row for every clip of a fold, as for `run_folder.write_predictions`; each part is predicted once.

    Args:
        trainer: of the model.
        features: of all clips of the corpus.
        fold: its name.
        parts: row indices of each part.
        clips: description and `label` of each clip of the corpus, as in `TrainingData`.
    """
    rows = []
    # where dropout stays on, its random numbers must not depend on previous steps, such as a resume
    set_seed(trainer.args.seed)
    for part, indices in parts.items():
        ordered = list(indices) if isinstance(features, StreamedClips) else by_length(features, indices)
        predictions = trainer.predict(features.select(ordered)).predictions  # (clips of the part, labels)
        logits = dict(zip(ordered, predictions.tolist(), strict=True))
        part_rows = [{**clips[index], "logits": logits[index], "fold": fold, "split": part} for index in indices]
        if isinstance(trainer.model, ProbeForAudioClassification):
            for row, distance in zip(part_rows, embedding_distances(trainer.model, features, indices), strict=True):
                row["distance"] = distance
        rows += part_rows
    return rows


def score_rows(
    rows: Sequence[dict[str, Any]], label_names: Sequence[str], frequent: Mapping[str, int] | None = None
) -> dict[str, dict[str, Any]]:
    """Return scores of test, validation and training clips, each over all rows of that part, of any fold.

    In addition to the scores of `ClassificationScores`, `majority` has the accuracy of predicting, for each clip, the
    most frequent label of the training clips of its fold; and this label, or None where it differs between folds.

    Args:
        rows: those of `predict_parts`.
        label_names: name of each label.
        frequent: index of that label by fold; by default, that of the rows of training clips.
    """
    scorer, scores = ClassificationScores(label_names), {}
    if frequent is None:
        train = [row for row in rows if row["split"] == "train"]
        frequent = most_frequent_by_fold([row["label"] for row in train], [row["fold"] for row in train])
    labels = {label_names[index] for index in frequent.values()}
    label = labels.pop() if len(labels) == 1 else None
    for part in reversed(PARTS):
        clips = [row for row in rows if row["split"] == part]
        if not clips:  # without a validation part, where the epoch is selected on test
            continue
        logits = np.asarray([row["logits"] for row in clips])
        scores[part] = scorer.compute(predictions=logits, references=[row["label"] for row in clips])
        hits = sum(row["label"] == frequent[row["fold"]] for row in clips)
        scores[part]["majority"] = {"label": label, "accuracy": hits / len(clips)}
    return scores


def report_scores(
    run: ReproductionArguments,
    rows: Sequence[dict[str, Any]],
    label_names: Sequence[str],
    seed: int,
) -> dict[str, Any] | None:
    """Return the AUC as the paper's notebook computes it; None for a run that computes nothing as the notebook does.

    Args:
        run: settings of the reproduction, which define the computation.
        rows: those of `predict_parts`, for all clips.
        label_names: name of each label.
        seed: of the run; that of a redrawn split is derived from it.
    """
    ways = {
        "AUC of logits": run.auc_scores == "logits",
        "AUC on a redrawn split": run.auc_split == "redrawn",
        "losses summed over batches": run.loss_reduction == "sum",
    }
    how = ", ".join(way for way, is_used in ways.items() if is_used)
    if not how:
        return None
    test = [row for row in rows if row["split"] == "test"]
    if run.auc_split == "redrawn":
        redrawn = np.random.default_rng((seed, 1)).permutation(len(rows))[: len(test)]
        test = [rows[index] for index in sorted(redrawn)]
    scores = np.asarray([row["logits"] for row in test])
    if run.auc_scores == "probabilities":
        scores = softmax(scores, axis=1)
    auc = one_versus_rest_auc(scores, np.asarray([row["label"] for row in test]), label_names)
    mean = macro_auc(auc)
    return {"how": how, "auc": auc, "macro_auc": None if math.isnan(mean) else mean}


def score_caveats(run: ReproductionArguments, eval_dropout: bool, selected: bool) -> list[str]:
    """Return a sentence for each setting that a reader of the scores must know; they stand below its tables.

    Args:
        run: settings of the reproduction.
        eval_dropout: whether dropout stayed on in evaluation.
        selected: whether an epoch was selected at all.
    """
    sentences = {
        "epochs or settings are selected on the test clips": run.select_on == "test" and selected,
        "dropout is on while scoring": eval_dropout,
        UNRESAMPLED: not run.resample,
    }
    return [sentence for sentence, applies in sentences.items() if applies]


def format_results(results: dict[str, Any]) -> str:
    """Return the scores of a run as text for a terminal, with the clips of each line, chance and majority.

    Args:
        results: content of a run's `results.json`.
    """
    data = results["data"]
    clips = with_label_map(f"{data} clips", results.get("label_map"))
    title = (
        f"{short_name(results['model'])} on {clips}, {results['protocol']}, {results['task']}, "
        f"recipe {' with '.join([results['recipe'], *results['as_coded']])}"
    )
    if "folds" in results:
        title += f" ({len(results['folds'])} of {results['of_folds']} folds, pooled)"
    width = len(f"validation ({data})")
    lines = [title, f"{'':{width}}{'clips':>7}{'accuracy':>10}{'UAR':>8}{'macro F1':>10}{'macro AUC':>11}{'loss':>8}"]
    parts = [part for part in PARTS if part in results]
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
    # where folds have different labels, UAR and AUC over all of them need not be those of chance
    lines.append(line if majority["label"] is None else f"{line}{1 / labels:8.1%}{'':10}{0.5:11.3f}")
    most = "the most frequent label of the fold's training clips"
    if majority["label"] is not None:
        most = f"{majority['label']}, the most frequent label of the training clips,"
    lines.append(f"note: majority predicts {most} for every test clip")
    lines += [f"note on {part} ({data}): {note}" for part in parts for note in results[part]["notes"]]
    lines += [f"note: {caveat}" for caveat in results["habits"]]
    if reported := results.get("reported"):
        lines.append(f"as the paper computes it ({reported['how']}): macro AUC {reported['macro_auc']:.3f}")
    return "\n".join(map(printable, lines))

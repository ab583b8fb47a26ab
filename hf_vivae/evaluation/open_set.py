"""Rejection of clips that have none of a run's labels: AUROC and false positives, by its own test clips and others."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from ..checkpoints.load import load_for_inference
from ..checkpoints.open_set import OutputLabels, output_labels
from ..corpus.folder import read_unlabelled
from ..corpus.schema import describe_clips
from ..files import make_folder, write_json
from ..reporting.tables import Row, Table, make_table
from ..validation import UserError
from .bootstrap import Estimate, ResampledClips, auc, estimates, ratio
from .report import write_tables
from .rescore import predict_clips, read_used_digests
from .runs import FoldFolder, by_run, find_folders, read_part

logger = logging.getLogger(__name__)
TPR = 0.95
ALL = "all"  # the row of all unknown clips
CAPTION = (
    "Known clips, the test clips of each run with one of its labels, against unknown clips, by how far the likeliest "
    "label's logit is above that of `unknown`, or by the largest logit of a checkpoint that rejects nothing. AUROC is "
    "the probability that a known clip has the higher value; FPR is the share of unknown clips that are accepted "
    "where 95 % of the known ones are. Both are means over the folds. Bounds are 95 % bootstrap intervals, for which "
    "whole speakers of the known clips are drawn where these are known, else clips; unknown clips are drawn one by "
    'one. The last two columns are the shares that the checkpoint itself rejects; "-": it rejects nothing, or there '
    "are fewer than 5 clips."
)
COLUMNS = {
    "run": None, "unknown": None, "rejects by": None, "AUROC": ".3f", "AUROC from": ".3f", "AUROC to": ".3f",
    "FPR at 95 % TPR": ".1%", "FPR from": ".1%", "FPR to": ".1%", "known clips": "d", "unknown clips": "d",
    "known rejected": ".1%", "unknown rejected": ".1%",
}  # fmt: skip


@dataclass(frozen=True)
class FoldMargins:
    """Margins of one fold: how far the likeliest label's logit is above that of `unknown`; rejected clips are below 0.

    Args:
        output: labels of the fold's checkpoint.
        known: margins of its test clips that have one of its labels, `(clips,)`.
        files: of these clips.
        speakers: of these clips; "" where unknown.
        unknown: margins of the unknown clips, `(clips,)`; NaN for those that the checkpoint has learnt from.
    """

    output: OutputLabels
    known: np.ndarray
    files: np.ndarray
    speakers: np.ndarray
    unknown: np.ndarray


def evaluate_open_set(runs: Sequence[Path], folders: Sequence[Path], on_bad_audio: str = "error") -> Table:
    """Return a table with a row for each run and folder of unknown clips, and one for all of these folders.

    Args:
        runs: run folders, or folders that contain some at any depth.
        folders: clips that have none of the labels of the runs, of any number and depth of subfolders.
        on_bad_audio: as for `read_folder`.

    Raises:
        UserError: for runs and folders that cannot be read, folders without clips, and where all clips of a folder
            trained or selected a checkpoint.
    """
    finished, left_out = find_folders(runs)
    for sentence in left_out:
        logger.warning("%s", sentence)
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise UserError(f"expected folders of clips with --unknown, found none at {missing[0]}; correct it.")
    corpora = [read_unlabelled(folder, on_bad_audio) for folder in folders]
    for folder, corpus in zip(folders, corpora, strict=True):
        corpus.log_problems()
        if not len(corpus.dataset):
            raise UserError(f"expected clips in the folder {folder} of --unknown, found none; give another.")
    clips = concatenate_datasets([corpus.dataset for corpus in corpora])
    names = np.repeat([str(folder) for folder in folders], [len(corpus.dataset) for corpus in corpora])
    rows = []
    for folds in by_run(finished):
        margins = [_fold_margins(fold, clips) for fold in folds]
        name = str(folds[0].path if len(folds) == 1 else folds[0].path.parent)
        for title in [*map(str, folders), *([ALL] if len(folders) > 1 else [])]:
            chosen = np.ones(len(names), bool) if title == ALL else names == title
            if not all(np.isfinite(fold.unknown[chosen]).any() for fold in margins):
                raise UserError(
                    f"expected clips in {title} that {name} was not trained on, found that all trained or selected a "
                    "checkpoint; give another folder as --unknown."
                )
            rows.append({"run": name, "unknown": title, **_score(margins, chosen)})
    return make_table("open_set", CAPTION, COLUMNS, rows)


def write_open_set(folder: Path, table: Table) -> None:
    """Write the table as Markdown and CSV, and `results.json`.

    Args:
        folder: of the report; files of an earlier one are replaced.
        table: of `evaluate_open_set`.
    """
    make_folder(folder)
    write_tables(folder, [table])
    cells = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    write_json(folder / "results.json", {"open_set": cells})


def _fold_margins(fold: FoldFolder, clips: Dataset) -> FoldMargins:
    model, extractor = load_for_inference(fold.path)
    output = output_labels(model.config)
    tested = read_part([fold.path], "test")
    has_label = np.isin(tested.labels, output.known)
    parts = read_used_digests(fold.path)
    used = [clip["digest"] in parts["train"] | parts["validation"] for clip in describe_clips(clips)]
    if any(used):
        logger.warning("%d unknown clips that trained or selected %s are left out.", sum(used), fold.path)
    unknown = margins(output, predict_clips(model, extractor, clips))
    known = margins(output, tested.logits[has_label])
    return FoldMargins(
        output, known, tested.files[has_label], tested.speakers[has_label], np.where(used, np.nan, unknown)
    )


def margins(output: OutputLabels, logits: np.ndarray) -> np.ndarray:
    """Return how far the largest logit is above that of `unknown`, `(clips,)`; where there is none, the largest logit.

    Args:
        output: labels of the checkpoint.
        logits: of the model, `(clips, labels)`.
    """
    merged = output.merge(torch.from_numpy(np.asarray(logits, dtype=np.float64))).numpy()
    if output.unknown is None:
        return merged.max(axis=1)
    return merged[:, :-1].max(axis=1) - merged[:, -1]


def _score(folds: Sequence[FoldMargins], chosen: np.ndarray) -> Row:
    """Return the cells of some unknown clips."""
    files = np.concatenate([fold.files for fold in folds])
    unknown = np.flatnonzero(chosen & np.isfinite([fold.unknown for fold in folds]).any(axis=0))
    names = np.array([f"unknown clip {place}" for place in unknown])  # each is a cluster of its own
    speakers = np.concatenate([fold.speakers for fold in folds])
    speakers = np.concatenate((speakers, names if (speakers != "").all() else np.full(len(names), "")))
    statistics, start = [], 0
    for fold in folds:
        scored = np.isfinite(fold.unknown[unknown])
        margin = np.concatenate((fold.known, fold.unknown[unknown][scored]))
        places = np.concatenate((np.arange(start, start + len(fold.known)), len(files) + np.flatnonzero(scored)))
        is_known = np.arange(len(margin)) < len(fold.known)
        statistics.append((auc(is_known, margin, places), false_positive_rate(is_known, margin, places)))
        start += len(fold.known)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        areas, rates = zip(*((area(weights), rate(weights)) for area, rate in statistics), strict=True)
        return {"auroc": np.mean(areas, axis=0), "fpr": np.mean(rates, axis=0)}

    whole = statistic(np.ones((len(speakers), 1)))
    clips = ResampledClips(np.concatenate((files, names)), speakers, ())
    scores = estimates({name: float(values[0]) for name, values in whole.items()}, statistic, clips)
    output = folds[0].output
    row = {
        "rejects by": "background" if output.background else "maximum logit" if output.unknown else "nothing",
        **_cells("AUROC", "AUROC", scores["auroc"]),
        **_cells("FPR at 95 % TPR", "FPR", scores["fpr"]),
        "known clips": len(files),
        "unknown clips": len(unknown),
    }
    if output.unknown is not None:
        row["known rejected"] = float(np.mean(np.concatenate([fold.known for fold in folds]) < 0))
        of_unknown = np.concatenate([fold.unknown[unknown] for fold in folds])
        row["unknown rejected"] = float(np.mean(of_unknown[np.isfinite(of_unknown)] < 0))
    return row


def _cells(column: str, name: str, estimate: Estimate) -> Row:
    low, high = estimate.speakers or estimate.clips or (None, None)
    return {column: estimate.value, f"{name} from": low, f"{name} to": high}


def false_positive_rate(
    positive: np.ndarray, scores: np.ndarray, indices: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the share of negative rows at the score that 95 % of the positive ones reach, as a function of weights.

    Args:
        positive: true for rows of known clips, `(rows,)`.
        scores: higher for known clips, `(rows,)`.
        indices: index of each row's clip among the weights, `(rows,)`.
    """
    known = np.flatnonzero(positive)[np.argsort(-scores[positive])]
    unknown = np.flatnonzero(~positive)[np.argsort(-scores[~positive])]
    above = np.searchsorted(-scores[unknown], -scores[known], side="right")  # unknown rows at or above each known one

    def rate(weights: np.ndarray) -> np.ndarray:
        reached = np.cumsum(weights[indices[known]], axis=0)
        first = (reached >= TPR * reached[-1] - 1e-9).argmax(axis=0)
        sums = np.zeros((len(unknown) + 1, weights.shape[1]))
        np.cumsum(weights[indices[unknown]], axis=0, out=sums[1:])
        accepted = sums[above[first], np.arange(weights.shape[1])]
        return np.where(reached[-1] > 0, ratio(accepted, sums[-1]), np.nan)

    return rate

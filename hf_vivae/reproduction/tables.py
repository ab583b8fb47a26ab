"""Tables 5 and 6 of the paper with the reproduced scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from ..evaluation.scores import mean_and_sd, wilson_interval
from ..models import MODELS
from ..reporting.tables import FROM, TO, Row, Table, describe_baselines, make_table
from .report2022 import EMOTIONS, LABEL, NO_RUN, RUNS, ReportedRun
from .runs import VARIANTS, Collection, StudyRun

PAPER_RULE = "paper's: best on test clips"
OUR_RULE = "ours: best on validation clips"
LAST_EPOCH = "none: last epoch"
SOLVER = "none: solved at once"
LAST_EPOCHS = 50  # whose mean is less noisy than the best epoch
RUN_KEY = ("model", "variant", "rule")
IDENTITY = {**dict.fromkeys((*RUN_KEY, "seed")), "epoch": "g"}
POINTS = "difference (points)"
AUC_KEY = ("model", "variant", "AUC")
MACRO = "macro"
TABLE_6 = (
    "Table 6: area under the ROC curve of each class against the rest, on test clips, and its mean over the classes "
    "(of the paper, which prints no mean, that of its six figures). Weights are the saved ones, of the epoch in the "
    'table. Rows "as coded" are computed as in the paper\'s notebook and are no test scores where the split is '
    'redrawn; the "test clips" row below is of the same weights. Differences are to the paper. Chance, and always '
    "predicting the same label, is 0.500. A class that the clips lack has no AUC. "
)
EMPTY = (
    '"-": no such figure. The paper has no vit-32-69; logistic regression has neither epochs nor batches, nor losses '
    "in the paper; seeds are averaged where a mean is meaningful, and their spread is given for our figures."
)


@dataclass(frozen=True)
class EpochScores:
    """Scores of one epoch of a run.

    Args:
        run: the run.
        rule: by which the epoch was selected.
        epoch: its number; None for a solver, and where the run has no test scores of its epochs.
        train: loss, loss_sum and accuracy during training; for a solver those of its solution.
        test: loss, loss_sum and accuracy.
    """

    run: StudyRun
    rule: str
    epoch: float | None
    train: Mapping[str, Any]
    test: Mapping[str, Any]


def select_epochs(run: StudyRun) -> list[EpochScores]:
    """Return the epoch with the best test accuracy, of equal ones the first, and the epoch of the saved weights.

    A run that selects on its test clips, or is fitted by a solver, only has the first.
    """
    results, epochs = run.results, run.epochs()
    if not epochs:
        return [EpochScores(run, SOLVER, None, results["train"], results["test"])]
    best = max((epoch for epoch in epochs if epoch.test), key=lambda epoch: epoch.test["accuracy"], default=None)
    selected = [EpochScores(run, PAPER_RULE, *((best.epoch, best.train, best.test) if best else (None, {}, {})))]
    if run.record["run"]["select_on"] == "validation":
        kept = run.scored_epoch()
        test = {**results["test"], "loss_sum": kept.test.get("loss_sum")}
        rule = OUR_RULE if results["selection"] else LAST_EPOCH
        selected.append(EpochScores(run, rule, kept.epoch, kept.train, test))
    return selected


def table5(collection: Collection) -> list[Table]:
    """Return Table 5 in three parts that fit on a page: test accuracy, training accuracy, losses."""
    runs, ours = collection.of(*VARIANTS), f"ours ({collection.corpus})"
    epochs = [selected for run in sorted(runs, key=row_order) for selected in select_epochs(run)]
    rules = (PAPER_RULE, OUR_RULE, LAST_EPOCH, SOLVER)
    epochs.sort(key=lambda selected: (row_order(selected.run), rules.index(selected.rule)))
    notes = EMPTY + explain_caveats(runs)
    uniform = ""
    if runs:
        loss = math.log(len(runs[0].results["labels"]))
        uniform = f"Equal probabilities for all labels have a mean loss of {loss:.3f}. "
    return [
        _test_accuracy(epochs, ours, baselines(runs) + notes),
        _train_accuracy(epochs, ours, baselines(runs, "train") + notes),
        _losses(epochs, ours, uniform + notes),
    ]


def _test_accuracy(epochs: Sequence[EpochScores], ours: str, notes: str) -> Table:
    last = {"mean of last epochs": ".1%", "sd of last epochs": ".1%", "last epochs": "d"}
    rows = []
    for selected in epochs:
        accuracies = [epoch.test["accuracy"] for epoch in selected.run.epochs() if epoch.test][-LAST_EPOCHS:]
        figures = (*mean_and_sd(accuracies), len(accuracies) or None)
        row = {"paper's epoch": reported_run(selected.run).epoch, **_accuracy(selected, "test", ours)}
        rows.append({**_identity(selected), **row, **dict(zip(last, figures, strict=True))})
    caption = (
        "Table 5, test accuracy. Rows by the paper's rule show the epoch that is best on the clips that it is scored "
        "on, which makes its score too high; rows by our rule were selected without them. Bounds are 95 % Wilson "
        f"intervals. Mean and standard deviation (sd) over the last {LAST_EPOCHS} epochs, or all if there are fewer. "
        f"{notes}"
    )
    columns = {**IDENTITY, "paper's epoch": "g", **_accuracy_columns("test", ours), **last}
    rows = with_seeds(rows, RUN_KEY, (f"test, {ours}", "mean of last epochs"), (f"test, {LABEL}", POINTS))
    return make_table("table5-test-accuracy", caption, columns, rows)


def _train_accuracy(epochs: Sequence[EpochScores], ours: str, notes: str) -> Table:
    rows = [{**_identity(selected), **_accuracy(selected, "train", ours)} for selected in epochs]
    caption = (
        "Table 5, training accuracy: of the same epochs, counted during training with dropout on, as in the paper; of "
        f"logistic regression with its solution. Bounds are 95 % Wilson intervals. {notes}"
    )
    rows = with_seeds(rows, RUN_KEY, (f"train, {ours}",), (f"train, {LABEL}", POINTS))
    return make_table("table5-train-accuracy", caption, {**IDENTITY, **_accuracy_columns("train", ours)}, rows)


def _identity(selected: EpochScores) -> Row:
    run = selected.run
    return {"model": run.model, "variant": run.group, "rule": selected.rule, "seed": run.seed, "epoch": selected.epoch}


def _accuracy(selected: EpochScores, part: str, ours: str) -> Row:
    accuracy, clips = getattr(selected, part).get("accuracy"), selected.run.results[part]["n"]
    reported = getattr(reported_run(selected.run), f"{part}_accuracy")
    gap = difference(accuracy, reported)
    figures = {f"{part}, {ours}": accuracy, **interval(accuracy, clips), f"{part}, {LABEL}": reported}
    return {"clips": clips, **figures, POINTS: None if gap is None else 100 * gap}


def _accuracy_columns(part: str, ours: str) -> dict[str, str]:
    columns = {"clips": "d", f"{part}, {ours}": ".1%", FROM: ".1%", TO: ".1%"}
    return {**columns, f"{part}, {LABEL}": ".1%", POINTS: "+.1f"}


def _losses(epochs: Sequence[EpochScores], ours: str, notes: str) -> Table:
    columns = {}
    for part in ("train", "test"):
        columns |= {f"{part} sum, {ours}": ".2f", f"{part} sum, {LABEL}": ".2f"}
        columns |= {f"{part} mean, {ours}": ".3f", f"{part} mean, {LABEL}": ".3f", f"{part} difference": "+.3f"}
    rows = [
        {**_identity(selected), **_loss(selected, "train", ours), **_loss(selected, "test", ours)}
        for selected in epochs
    ]
    caption = (
        "Table 5, losses of the same epochs: cross entropy in nats, as sum over batches of their means, and as mean: "
        "of the batches in training, of the clips in test. The paper prints sums, and a mean for wav2vec2; its means "
        "here are its sums divided by its 29 training and 8 test batches. Differences are of means, since sums "
        f"grow with the number of batches. Training losses are from training, with dropout on. {notes}"
    )
    averaged = [column for column in columns if column.endswith(ours)]
    rows = with_seeds(rows, RUN_KEY, averaged, [column for column in columns if column not in averaged])
    return make_table("table5-losses", caption, {**IDENTITY, **columns}, rows)


def _loss(selected: EpochScores, part: str, ours: str) -> Row:
    scores, reported = getattr(selected, part), reported_run(selected.run)
    mean = reported.mean_loss(part)
    return {
        f"{part} sum, {ours}": scores.get("loss_sum"),
        f"{part} sum, {LABEL}": getattr(reported, f"{part}_loss") if reported.summed else None,
        f"{part} mean, {ours}": scores.get("loss"),
        f"{part} mean, {LABEL}": mean,
        f"{part} difference": difference(scores.get("loss"), mean),
    }


def table6(collection: Collection) -> Table:
    """Return Table 6: for each model the paper's row, then ours of each variant and the difference."""
    runs = sorted(collection.of(*VARIANTS), key=row_order)
    labels = runs[0].results["labels"] if runs else list(EMOTIONS)
    rows: list[Row] = []
    for _, group in groupby(runs, key=lambda run: run.model):
        seeds = list(group)
        reported = _reported(seeds[0], labels)
        rows += [reported] if reported[MACRO] is not None else []
        for row in with_seeds(_rows(seeds, collection.corpus), AUC_KEY, (*map(_column, labels), MACRO), ()):
            rows.append(row)
            if reported[MACRO] is not None and not str(row["seed"]).startswith("sd"):
                areas = {label: difference(row[label], reported[label]) for label in (*labels, MACRO)}
                rows.append({**{key: row[key] for key in ("model", "variant", "seed")}, "AUC": "difference", **areas})
    columns = {
        **dict.fromkeys((*AUC_KEY, "seed")),
        "epoch": "g",
        **dict.fromkeys((*map(_column, labels), MACRO), ".3f"),
    }
    return make_table("table6", TABLE_6 + EMPTY + explain_caveats(runs), columns, rows)


def _column(label: str) -> str:
    return f"label {label}" if label in (*AUC_KEY, "seed", "epoch", MACRO) else label


def _reported(run: StudyRun, labels: Sequence[str]) -> Row:
    figures = reported_run(run)
    areas = dict(zip(EMOTIONS, figures.auc, strict=False))
    macro = fmean(figures.auc) if figures.auc else None
    return {"model": run.model, "AUC": LABEL, **{_column(label): areas.get(label) for label in labels}, MACRO: macro}


def _rows(runs: Sequence[StudyRun], corpus: str) -> list[Row]:
    """Return the rows of a model's runs, with the seeds of one kind next to each other."""
    rows = []
    for _, group in groupby(runs, key=lambda run: run.group):
        seeds = list(group)
        for run in seeds:
            if (reported := run.results["reported"]) is not None:
                rows.append(_row(run, f"as coded ({corpus}): {reported['how']}", reported))
        rows += [_row(run, f"ours ({corpus}), test clips", run.results["test"]) for run in seeds]
    return rows


def _row(run: StudyRun, kind: str, scores: Mapping) -> Row:
    kept = run.scored_epoch()
    identity = {"model": run.model, "variant": run.group, "AUC": kind, "seed": run.seed, "epoch": kept and kept.epoch}
    areas = {_column(label): area for label, area in scores["auc"].items()}
    return {**identity, **areas, MACRO: scores["macro_auc"]}


def row_order(run: StudyRun) -> tuple[int, int]:
    """Return a key that sorts runs like the rows of the paper: by model, then variant."""
    return list(MODELS).index(run.model), VARIANTS.index(run.group)


def reported_run(run: StudyRun) -> ReportedRun:
    """Return the paper's figures for the model of a run; `NO_RUN` where the run has other labels."""
    return RUNS.get(run.model, NO_RUN) if list(run.results["labels"]) == list(EMOTIONS) else NO_RUN


def difference(ours: float | None, other: float | None) -> float | None:
    """Return the first minus the second; None where one is missing."""
    return None if ours is None or other is None else ours - other


def interval(accuracy: float | None, clips: int) -> Row:
    """Return the 95 % interval of an accuracy over so many clips."""
    low, high = (None, None) if accuracy is None else wilson_interval(round(accuracy * clips), clips)
    return {FROM: low, TO: high}


def with_seeds(
    rows: Sequence[Row], alike: Sequence[str], averaged: Sequence[str], mean_only: Sequence[str]
) -> list[Row]:
    """Return the rows, with mean and standard deviation below those that only differ by their seed.

    Args:
        rows: with a column "seed", and sorted so that rows of one kind are neighbours.
        alike: columns with equal values for one kind.
        averaged: columns with mean and standard deviation; empty where a seed has no figure.
        mean_only: columns with a mean only.
    """
    with_means = []
    for kind, group in groupby(rows, key=lambda row: {column: row[column] for column in alike}):
        seeds = list(group)
        with_means += seeds
        if len(seeds) > 1:
            values = {column: [row.get(column) for row in seeds] for column in (*averaged, *mean_only)}
            spread = {
                column: (None, None) if None in of_seeds else mean_and_sd(of_seeds)
                for column, of_seeds in values.items()
            }
            means, sds = ({column: pair[index] for column, pair in spread.items()} for index in (0, 1))
            with_means.append({**kind, "seed": f"mean of {len(seeds)}", **means})
            with_means.append({**kind, "seed": f"sd of {len(seeds)}", **{column: sds[column] for column in averaged}})
    return with_means


def baselines(runs: Sequence[StudyRun], part: str = "test") -> str:
    """Return a sentence on the accuracies that need no learning, on these runs' clips of a part; empty without runs.

    Args:
        runs: with the same labels; each may have a split of its own.
        part: `train` or `test`.
    """
    if not runs:
        return ""
    clips = {"train": "the training clips", "test": "the test clips"}[part]
    majorities = [run.results[part]["majority"]["accuracy"] for run in runs]
    return describe_baselines(len(runs[0].results["labels"]), majorities, clips)


def explain_caveats(runs: Sequence[StudyRun]) -> str:
    """Return a sentence for each caveat of the runs' scores, with the runs that have it; empty where none has any."""
    by_caveat: dict[str, dict[str, dict[str, None]]] = {}
    for run in runs:
        for caveat in run.results["habits"]:
            by_caveat.setdefault(caveat, {}).setdefault(run.name or run.group, {})[run.model] = None
    sentences = []
    for caveat, models in by_caveat.items():
        names = "; ".join(f"{name} of {', '.join(of_name)}" for name, of_name in models.items())
        sentences.append(f" Marked, since {caveat}: {names}.")
    return "".join(sentences)

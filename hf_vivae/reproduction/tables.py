"""Tables 5 and 6 of the paper beside the reproduced scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from ..evaluation.scores import mean_and_sd, wilson_interval
from ..models import MODELS
from ..reporting.tables import FROM, TO, Cell, Row, Table, make_table
from .report2022 import EMOTIONS, LABEL, NO_RUN, RUNS, ReportedRun
from .runs import VARIANTS, Collection, StudyRun

REPORT_RULE = "report's: best on test clips"
OUR_RULE = "ours: best on validation clips"
LAST_EPOCH = "none: last epoch"
SOLVER = "none: solved at once"
LAST_EPOCHS = 50  # their mean says what the best epoch of a noisy curve does not
RUN_KEY = ("model", "variant", "rule")
IDENTITY = {**dict.fromkeys((*RUN_KEY, "seed")), "epoch": "g"}
POINTS = "difference (points)"


@dataclass(frozen=True)
class Picked:
    """The scores of one epoch of a run.

    Args:
        run: which.
        rule: how the epoch was picked.
        epoch: its number; None after a solver, and where the run kept no test scores of its epochs.
        train: loss, loss_sum and accuracy while training; after a solver those of its solution.
        test: loss, loss_sum and accuracy.
    """

    run: StudyRun
    rule: str
    epoch: float | None
    train: Mapping[str, Any]
    test: Mapping[str, Any]


def picked_epochs(run: StudyRun) -> list[Picked]:
    """The epoch with the best test accuracy, of equal ones the first, and the one whose weights the run has kept.

    A run that selects on its test clips has only the first, and so has one that a solver fits.
    """
    results, epochs = run.results, run.epochs()
    if not epochs:
        return [Picked(run, SOLVER, None, results["train"], results["test"])]
    best = max((epoch for epoch in epochs if epoch.test), key=lambda epoch: epoch.test["accuracy"], default=None)
    if best is None:
        picked = [Picked(run, REPORT_RULE, None, {}, {})]
    else:
        picked = [Picked(run, REPORT_RULE, best.epoch, best.train, best.test)]
    if run.record["run"]["select_on"] == "validation":
        kept = run.scored_epoch()
        test = {**results["test"], "loss_sum": kept.test.get("loss_sum")}
        picked.append(Picked(run, OUR_RULE if results["selection"] else LAST_EPOCH, kept.epoch, kept.train, test))
    return picked


def table5(collection: Collection) -> list[Table]:
    """Table 5 in three parts, so that it prints on a page: test accuracy, training accuracy, losses."""
    runs, ours = collection.of(*VARIANTS), f"ours ({collection.corpus})"
    picked = [one for run in sorted(runs, key=order) for one in picked_epochs(run)]
    rules = (REPORT_RULE, OUR_RULE, LAST_EPOCH, SOLVER)
    picked.sort(key=lambda one: (order(one.run), rules.index(one.rule)))
    notes = EMPTY + habits(runs)
    return [
        _test_accuracy(picked, ours, baselines(runs) + notes),
        _train_accuracy(picked, ours, baselines(runs, "train") + notes),
        _losses(picked, ours, _uniform_loss(runs) + notes),
    ]


def _uniform_loss(runs: Sequence[StudyRun]) -> str:
    if not runs:
        return ""
    return f"Equal probabilities for all labels have a mean loss of {math.log(len(runs[0].results['labels'])):.3f}. "


def _test_accuracy(picked: Sequence[Picked], ours: str, notes: str) -> Table:
    last = {"mean of last epochs": ".1%", "sd of last epochs": ".1%", "last epochs": "d"}
    rows = []
    for one in picked:
        accuracies = [epoch.test["accuracy"] for epoch in one.run.epochs() if epoch.test][-LAST_EPOCHS:]
        figures = (*mean_and_sd(accuracies), len(accuracies) or None)
        row = {"report's epoch": reported_run(one.run).epoch, **_accuracy(one, "test", ours)}
        rows.append({**_identity(one), **row, **dict(zip(last, figures, strict=True))})
    caption = (
        "Table 5, test accuracy. Rows by the report's rule show the epoch that is best on the very clips that it is "
        "scored on, which flatters it; rows by our rule were picked without them. Bounds are 95 % Wilson intervals. "
        f"Mean and standard deviation (sd) over the last {LAST_EPOCHS} epochs, or as many as there are. {notes}"
    )
    columns = {**IDENTITY, "report's epoch": "g", **_accuracy_columns("test", ours), **last}
    rows = with_seeds(rows, RUN_KEY, (f"test, {ours}", "mean of last epochs"), (f"test, {LABEL}", POINTS))
    return make_table("table5-test-accuracy", caption, columns, rows)


def _train_accuracy(picked: Sequence[Picked], ours: str, notes: str) -> Table:
    rows = [{**_identity(one), **_accuracy(one, "train", ours)} for one in picked]
    caption = (
        "Table 5, training accuracy: of the same epochs, counted while they trained, with dropout on, as in the "
        f"report; of logistic regression with its solution. Bounds are 95 % Wilson intervals. {notes}"
    )
    rows = with_seeds(rows, RUN_KEY, (f"train, {ours}",), (f"train, {LABEL}", POINTS))
    return make_table("table5-train-accuracy", caption, {**IDENTITY, **_accuracy_columns("train", ours)}, rows)


def _identity(one: Picked) -> Row:
    run = one.run
    return {"model": run.model, "variant": run.group, "rule": one.rule, "seed": run.seed, "epoch": one.epoch}


def _accuracy(one: Picked, part: str, ours: str) -> Row:
    accuracy, clips = getattr(one, part).get("accuracy"), one.run.results[part]["n"]
    reported = getattr(reported_run(one.run), f"{part}_accuracy")
    gap = difference(accuracy, reported)
    figures = {f"{part}, {ours}": accuracy, **interval(accuracy, clips), f"{part}, {LABEL}": reported}
    return {"clips": clips, **figures, POINTS: None if gap is None else 100 * gap}


def _accuracy_columns(part: str, ours: str) -> dict[str, str]:
    columns = {"clips": "d", f"{part}, {ours}": ".1%", FROM: ".1%", TO: ".1%"}
    return {**columns, f"{part}, {LABEL}": ".1%", POINTS: "+.1f"}


def _losses(picked: Sequence[Picked], ours: str, notes: str) -> Table:
    columns = {}
    for part in ("train", "test"):
        columns |= {f"{part} sum, {ours}": ".2f", f"{part} sum, {LABEL}": ".2f"}
        columns |= {f"{part} mean, {ours}": ".3f", f"{part} mean, {LABEL}": ".3f", f"{part} difference": "+.3f"}
    rows = [{**_identity(one), **_loss(one, "train", ours), **_loss(one, "test", ours)} for one in picked]
    caption = (
        "Table 5, losses of the same epochs: cross entropy in nats, as sum over batches of their means, and as mean: "
        "of the batches in training, of the clips in test. The report prints sums, and a mean for wav2vec2; its means "
        "here are its sums divided by its 29 training and 8 test batches. Differences are of means, since sums "
        f"grow with the number of batches. Training losses are those while training, with dropout on. {notes}"
    )
    averaged = [column for column in columns if column.endswith(ours)]
    rows = with_seeds(rows, RUN_KEY, averaged, [column for column in columns if column not in averaged])
    return make_table("table5-losses", caption, {**IDENTITY, **columns}, rows)


def _loss(one: Picked, part: str, ours: str) -> Row:
    scores, reported = getattr(one, part), reported_run(one.run)
    mean = getattr(reported, f"mean_{part}_loss")
    return {
        f"{part} sum, {ours}": scores.get("loss_sum"),
        f"{part} sum, {LABEL}": getattr(reported, f"{part}_loss") if reported.summed else None,
        f"{part} mean, {ours}": scores.get("loss"),
        f"{part} mean, {LABEL}": mean,
        f"{part} difference": difference(scores.get("loss"), mean),
    }


AUC_KEY = ("model", "variant", "AUC")
MACRO = "macro"
NOTE = (
    "Table 6: area under the ROC curve of each class against the rest, on test clips, and its mean over the classes "
    "(the report prints no mean; it is that of its six figures). Weights are those that the run kept, of the epoch "
    'named. Rows "as coded" are computed as the report\'s notebook does and are no test scores where the split is '
    'redrawn; the "test clips" row below is of the same weights. Differences are to the report. Chance, and always '
    "saying the same label, is 0.500. A class that the clips lack has no AUC. "
)


def table6(collection: Collection) -> Table:
    """Table 6: for each model the report's row, then ours of each variant and the difference."""
    runs = sorted(collection.of(*VARIANTS), key=order)
    labels = runs[0].results["labels"] if runs else list(EMOTIONS)
    rows: list[Row] = []
    for _, group in groupby(runs, key=lambda run: run.model):
        seeds = list(group)
        reported = _reported(seeds[0], labels)
        rows += [reported] if reported[MACRO] is not None else []
        for row in with_seeds(_rows(seeds, collection.corpus), AUC_KEY, (*map(_column, labels), MACRO), ()):
            rows.append(row)
            if reported[MACRO] is not None and not str(row["seed"]).startswith("sd"):
                rows.append(_difference(row, reported, labels))
    columns = {
        **dict.fromkeys((*AUC_KEY, "seed")),
        "epoch": "g",
        **dict.fromkeys((*map(_column, labels), MACRO), ".3f"),
    }
    return make_table("table6", NOTE + EMPTY + habits(runs), columns, rows)


def _column(label: str) -> str:
    return f"label {label}" if label in (*AUC_KEY, "seed", "epoch", MACRO) else label


def _reported(run: StudyRun, labels: Sequence[str]) -> Row:
    figures = reported_run(run)
    areas = dict(zip(EMOTIONS, figures.auc, strict=False))
    macro = fmean(figures.auc) if figures.auc else None
    return {"model": run.model, "AUC": LABEL, **{_column(label): areas.get(label) for label in labels}, MACRO: macro}


def _rows(runs: Sequence[StudyRun], corpus: str) -> list[Row]:
    """Rows of a model's runs, seeds of one kind next to each other."""
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
    identity = {"model": run.model, "variant": run.group, "AUC": kind, "seed": run.seed}
    return {**identity, "epoch": kept and kept.epoch, **_by_column(scores["auc"]), MACRO: scores["macro_auc"]}


def _by_column(areas: Mapping[str, float]) -> Row:
    return {_column(label): area for label, area in areas.items()}


def _difference(row: Row, reported: Row, labels: Sequence[str]) -> Row:
    areas = {label: difference(row[label], reported[label]) for label in (*labels, MACRO)}
    return {**{column: row[column] for column in ("model", "variant", "seed")}, "AUC": "difference", **areas}


EMPTY = (
    '"-": no such figure. The report has no vit-32-69; logistic regression has neither epochs nor batches, nor losses '
    "in the report; seeds are averaged where a mean says something, and their spread is given for our figures."
)


def order(run: StudyRun) -> tuple[int, int]:
    """Sorts runs of variants as the report has its rows: by model, then variant."""
    return list(MODELS).index(run.model), VARIANTS.index(run.group)


def reported_run(run: StudyRun) -> ReportedRun:
    """The report's figures for the model of a run; none where the run tells other labels apart."""
    return RUNS.get(run.model, NO_RUN) if list(run.results["labels"]) == list(EMOTIONS) else NO_RUN


def difference(ours: float | None, other: float | None) -> float | None:
    """The first minus the second; None where one is missing."""
    return None if ours is None or other is None else ours - other


def interval(accuracy: float | None, clips: int) -> Row:
    """The 95 % interval of an accuracy over so many clips."""
    low, high = (None, None) if accuracy is None else wilson_interval(round(accuracy * clips), clips)
    return {FROM: low, TO: high}


def with_seeds(
    rows: Sequence[Row], alike: Sequence[str], averaged: Sequence[str], carried: Sequence[str]
) -> list[Row]:
    """The rows, and below those that differ by their seed only two more: mean and standard deviation.

    Args:
        rows: sorted, so that rows of one kind are neighbours; they have a column "seed".
        alike: columns that tell the kind.
        averaged: columns with mean and standard deviation; empty where a seed has no figure.
        carried: columns with a mean only.
    """
    found = []
    for kind, group in groupby(rows, key=lambda row: {column: row[column] for column in alike}):
        seeds = list(group)
        found += seeds
        if len(seeds) > 1:
            spread = {column: _spread([row.get(column) for row in seeds]) for column in (*averaged, *carried)}
            means = {column: mean for column, (mean, _) in spread.items()}
            found.append({**kind, "seed": f"mean of {len(seeds)}", **means})
            found.append({**kind, "seed": f"sd of {len(seeds)}", **{column: spread[column][1] for column in averaged}})
    return found


def _spread(values: list[Cell]) -> tuple[float | None, float | None]:
    return (None, None) if None in values else mean_and_sd(values)


def baselines(runs: Sequence[StudyRun], part: str = "test") -> str:
    """A sentence on the accuracies that need no learning, on these runs' clips of a part; nothing without runs.

    Args:
        runs: with the same labels; each may have a split of its own.
        part: `train` or `test`.
    """
    if not runs:
        return ""
    shares = [run.results[part]["majority"]["accuracy"] for run in runs]
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    clips = {"train": "training", "test": "test"}[part]
    return (
        f"Chance is right for {1 / len(runs[0].results['labels']):.1%} of the clips; always saying the most frequent "
        f"label of the training clips for {low if low == high else f'{low} to {high}'} of the {clips} clips. "
    )


def habits(runs: Sequence[StudyRun]) -> str:
    """A sentence that names the runs whose scores owe something to the report's habits, and which; else nothing."""
    marked: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for habit in run.results["habits"]:
            models = marked.setdefault(habit, {}).setdefault(run.name or run.group, [])
            if run.model not in models:
                models.append(run.model)
    sentences = []
    for habit, found in marked.items():
        names = "; ".join(f"{name} of {', '.join(models)}" for name, models in found.items())
        sentences.append(f" Marked, since {habit}: {names}.")
    return "".join(sentences)

"""Table 5 of the 2022 report: epoch, losses and accuracies from run folders, the report's figures beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .collection import VARIANTS, Collection, StudyRun
from .report2022 import LABEL
from .statistics import mean_and_sd
from .study_rows import (
    EMPTY,
    FROM,
    TO,
    Row,
    baselines,
    difference,
    habits,
    interval,
    make_table,
    order,
    reported_run,
    with_seeds,
)
from .tables import Table

REPORT_RULE = "report's: best on test clips"
OUR_RULE = "ours: best on validation clips"
LAST_EPOCH = "none: last epoch"
SOLVER = "none: solved at once"
LAST_EPOCHS = 50  # their mean says what the best epoch of a noisy curve does not
KIND = ("model", "variant", "rule")
IDENTITY = {**dict.fromkeys((*KIND, "seed")), "epoch": "g"}
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
    rows = with_seeds(rows, KIND, (f"test, {ours}", "mean of last epochs"), (f"test, {LABEL}", POINTS))
    return make_table("table5-test-accuracy", caption, columns, rows)


def _train_accuracy(picked: Sequence[Picked], ours: str, notes: str) -> Table:
    rows = [{**_identity(one), **_accuracy(one, "train", ours)} for one in picked]
    caption = (
        "Table 5, training accuracy: of the same epochs, counted while they trained, with dropout on, as in the "
        f"report; of logistic regression with its solution. Bounds are 95 % Wilson intervals. {notes}"
    )
    rows = with_seeds(rows, KIND, (f"train, {ours}",), (f"train, {LABEL}", POINTS))
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
    rows = with_seeds(rows, KIND, averaged, [column for column in columns if column not in averaged])
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

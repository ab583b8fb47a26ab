"""Table 6 of the 2022 report: AUC of each class from run folders, the report's figures above them."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import fmean

from .collection import VARIANTS, Collection, StudyRun
from .report2022 import EMOTIONS, LABEL
from .study_rows import EMPTY, Row, difference, habits, make_table, order, reported_run, with_seeds
from .tables import Table

KIND = ("model", "variant", "AUC")
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
        for row in with_seeds(_rows(seeds, collection.corpus), KIND, (*map(_column, labels), MACRO), ()):
            rows.append(row)
            if reported[MACRO] is not None and not str(row["seed"]).startswith("sd"):
                rows.append(_difference(row, reported, labels))
    columns = {**dict.fromkeys((*KIND, "seed")), "epoch": "g", **dict.fromkeys((*map(_column, labels), MACRO), ".3f")}
    return make_table("table6", NOTE + EMPTY + habits(runs), columns, rows)


def _column(label: str) -> str:
    return f"label {label}" if label in (*KIND, "seed", "epoch", MACRO) else label


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

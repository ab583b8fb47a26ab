"""Tables of what systems score: pooled with bounds and spread, AUC of each label, by fold, and calibration."""

import math
from collections.abc import Sequence
from statistics import fmean

from .evaluation_rows import (
    BOUNDS,
    CHANCE,
    HOW_BOUNDED,
    MAJORITY,
    baselines,
    bounds,
    explain_ensembles,
    explain_stars,
    mean_majority,
    starred,
    system_table,
)
from .group_scores import GroupScores
from .statistics import mean_and_sd
from .study_rows import Row, make_table
from .system_scores import SystemScores
from .tables import Table

HEADINGS = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro F1", "macro_auc": "macro AUC"}
FORMATS = {"accuracy": ".1%", "UAR": ".1%", "macro F1": ".1%", "macro AUC": ".3f"}
SCORES = (
    "Scores of the test clips of all folds together, means over seeds, best UAR first. UAR is the mean recall over "
    "the labels. Epochs or settings are those of the best score that is named, on the clips that are named. Chance "
    "guesses each label as often; majority always says the most frequent label of a fold's training clips (of the "
    "test clips themselves, where a checkpoint was scored on other clips). "
    '"-": no such figure.'
)
OVERVIEW = (
    "Every system under every protocol. UAR, with its bounds, accuracy and macro AUC are pooled over the test clips "
    "of all folds, means over seeds. {bounded}Protocols ask different questions of different clips: compare systems "
    "within one. "
)
BOUNDED = (
    "Pooled {score} with its uncertainty. {bounded}{wilson}Mean and sd over folds are of each fold's own score; the "
    "sd over folds is within a seed, the sd over seeds that of the pooled score. "
    '"-": speakers are unknown or fewer than 5, all clips are right, or there is one fold or one seed.'
)
WILSON = "Wilson's count a clip once, whatever the number of seeds. "
AUC = (
    "Area under the ROC curve of each label against the rest, by its softmax probability, pooled over folds; means "
    'over seeds. {bounded}They are of the macro AUC. "-": too few clips or speakers.'
)
BY_FOLD = (
    "The test clips of each fold and seed alone. {baselines}UAR and macro AUC of a fold without some label are means "
    "over its other labels, and no match for those of the rest; the pooled scores are the headline. "
    '"-": no label is missing.'
)
CALIBRATION = (
    "How well probabilities tell how often they are right: expected calibration error (ECE, 15 bins) and mean cross "
    "entropy (nats) of the test clips, as trained and scaled by a temperature for each fold that is fitted on its "
    "validation clips (Guo et al. 2017), which a probe predicts before it trains on them too; means over seeds. At "
    "bound: folds whose temperature is the smallest or largest that was tried. "
    'Chance gives all labels the same probability. "-": no validation clips.'
)


def score_tables(group: GroupScores) -> list[Table]:
    """The headline, UAR and accuracy with bounds, AUC, calibration, and folds or seeds where a system has several."""
    tables = [_scores(group), _bounded(group, "uar"), _bounded(group, "accuracy"), _auc(group), _calibration(group)]
    by_fold = _by_fold(group)
    return [*tables, by_fold] if len(by_fold.rows) > len(group.systems) else tables


def _scores(group: GroupScores) -> Table:
    columns = {"system": None, "seeds": None, "folds": None, "clips": "d", **FORMATS, "selected by": None}
    rows = _baseline_rows(group)
    for scores in group.systems:
        system = scores.system
        known: Row = {"system": system.name, "seeds": ", ".join(system.seeds), "folds": system.covered}
        values = {heading: scores.estimates[key].value for key, heading in HEADINGS.items()}
        said = {"selected by": system.selection, "marked": "; ".join(system.habits) or None}
        rows.append({**known, "clips": scores.clips, **values, **said})
    if any(scores.system.habits for scores in group.systems):
        columns["marked"] = None
    caption = SCORES + explain_ensembles(scores.system for scores in group.systems)
    return system_table(group, "scores", caption, columns, rows)


def overview(groups: Sequence[GroupScores]) -> Table:
    """The headline of every system under every protocol, on one page."""
    columns = {"system": None, "corpus": None, "task": None, "protocol": None, "folds": None, "clips": "d"}
    columns |= {"UAR": ".1%", **BOUNDS, "accuracy": ".1%", "macro AUC": ".3f", "selected by": None}
    rows = [_overview_row(group, scores) for group in groups for scores in group.systems]
    rows.sort(key=lambda row: (row["system"], row["corpus"], row["task"], row["protocol"]))
    stars = explain_stars(scores.system for group in groups for scores in group.systems)
    caption = f"{OVERVIEW.format(bounded=HOW_BOUNDED)}{_chances(groups)}{stars}"
    return make_table("overview", caption, columns, rows)


def _overview_row(group: GroupScores, scores: SystemScores) -> Row:
    clips, uar = group.group.clips, scores.estimates["uar"]
    values = {HEADINGS[key]: scores.estimates[key].value for key in ("accuracy", "uar", "macro_auc")}
    return {
        "system": starred(scores.system),
        "corpus": clips.corpus,
        "task": clips.task,
        "protocol": clips.protocol,
        "folds": scores.system.covered,
        "clips": scores.clips,
        **values,
        **bounds(uar),
        "selected by": scores.system.selection,
    }


def _chances(groups: Sequence[GroupScores]) -> str:
    """What needs no learning, over all groups."""
    labels = sorted({len(group.group.labels) for group in groups})
    majorities = [mean_majority(group)["accuracy"] for group in groups]
    chance = " or ".join(f"{1 / count:.1%} ({count} labels)" for count in labels)
    low, high = (f"{share:.1%}" for share in (min(majorities), max(majorities)))
    return (
        f"Chance is a UAR and an accuracy of {chance}; always saying the most frequent label has an accuracy of "
        f"{low if low == high else f'{low} to {high}'}."
    )


def _baseline_rows(group: GroupScores) -> list[Row]:
    chance, majority = 1 / len(group.group.labels), mean_majority(group)
    return [
        {"system": CHANCE, "accuracy": chance, "UAR": chance, "macro AUC": 0.5},
        {"system": MAJORITY, **{heading: majority[key] for key, heading in HEADINGS.items()}},
    ]


def _bounded(group: GroupScores, key: str) -> Table:
    score, wilson = HEADINGS[key], key == "accuracy"
    columns = {
        "system": None,
        score: ".1%",
        **BOUNDS,
        **({"Wilson from": ".1%", "Wilson to": ".1%"} if wilson else {}),
    }
    columns |= dict.fromkeys(("mean over folds", "sd over folds", "sd over seeds"), ".1%")
    rows = [{"system": row["system"], score: row[score]} for row in _baseline_rows(group)]
    for scores in group.systems:
        estimate, (low, high) = scores.estimates[key], scores.wilson
        known = {"system": scores.system.name, score: estimate.value, "Wilson from": low, "Wilson to": high}
        rows.append({**known, **bounds(estimate), **_spread(scores, key)})
    caption = BOUNDED.format(score=score, bounded=HOW_BOUNDED, wilson=WILSON if wilson else "")
    return system_table(group, key, caption, columns, rows)


def _spread(scores: SystemScores, key: str) -> Row:
    """Over the folds of a seed, and over seeds; the former averaged over seeds."""
    over_folds = [mean_and_sd([fold[key] for fold in folds.values()]) for folds in scores.by_fold.values()]
    sds = [sd for _, sd in over_folds if sd is not None]
    return {
        "mean over folds": fmean(mean for mean, _ in over_folds),
        "sd over folds": fmean(sds) if sds else None,
        "sd over seeds": mean_and_sd([of_seed[key] for of_seed in scores.by_seed.values()])[1],
    }


def _auc(group: GroupScores) -> Table:
    labels = {f"auc {label}": f"AUC {label}" for label in group.group.labels}
    columns = {"system": None, **dict.fromkeys((*labels.values(), "macro AUC", *BOUNDS), ".3f")}
    rows: list[Row] = [{"system": CHANCE, **dict.fromkeys((*labels.values(), "macro AUC"), 0.5)}]
    for scores in group.systems:
        values = {heading: scores.estimates[key].value for key, heading in labels.items()}
        macro = scores.estimates["macro_auc"]
        rows.append({"system": scores.system.name, **values, "macro AUC": macro.value, **bounds(macro)})
    return system_table(group, "auc", AUC.format(bounded=HOW_BOUNDED), columns, rows)


def _by_fold(group: GroupScores) -> Table:
    columns = {"system": None, "seed": None, "fold": None, "clips": "d", **FORMATS, "labels missing": None}
    rows = [
        {"system": scores.system.name, "seed": seed, "fold": fold, **_fold_row(found)}
        for scores in group.systems
        for seed, folds in scores.by_fold.items()
        for fold, found in folds.items()
    ]
    return system_table(group, "by-fold", BY_FOLD.format(baselines=baselines(group)), columns, rows)


def _fold_row(found: dict) -> Row:
    values = {heading: found[key] for key, heading in HEADINGS.items()}
    return {"clips": found["clips"], **values, "labels missing": ", ".join(found["absent"]) or None}


def _calibration(group: GroupScores) -> Table:
    headings = {
        "ece": "ECE",
        "ece_scaled": "ECE with temperature",
        "loss": "loss",
        "loss_scaled": "loss with temperature",
    }
    columns = {"system": None, **dict.fromkeys((*headings.values(), "temperature from", "temperature to"), ".3f")}
    rows: list[Row] = [{"system": CHANCE, "loss": math.log(len(group.group.labels))}]
    for scores in group.systems:
        found = scores.calibration
        values = {heading: found.scores[key] for key, heading in headings.items()}
        rows.append({"system": scores.system.name, **values, **_temperatures(found.temperatures, found.at_bound)})
    return system_table(group, "calibration", CALIBRATION, {**columns, "at bound": "d"}, rows)


def _temperatures(temperatures: Sequence[float], at_bound: int) -> Row:
    if not temperatures:
        return {}
    return {"temperature from": min(temperatures), "temperature to": max(temperatures), "at bound": at_bound}

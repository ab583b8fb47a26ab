"""Tables of the evaluation report."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from ..reporting.tables import SCORE_NAMES, Row, Table, describe_baselines, make_table, share_range
from .bootstrap import Estimate
from .comparison import GroupScores
from .scores import SystemScores, mean_and_sd
from .systems import System

CHANCE, MAJORITY = "chance", "majority"
FORMATS = {name: ".3f" if key == "macro_auc" else ".1%" for key, name in SCORE_NAMES.items()}
BOUNDS = {f"{drawn} {end}": ".1%" for drawn in ("speakers", "clips") for end in ("from", "to")}
NAMES = ("system", "first", "second")  # columns with names of systems
MOST_NAMED = 5  # systems in a sentence
HOW_BOUNDED = (
    "Bounds are 95 % bootstrap intervals over speakers (whole speakers are drawn; for unseen voices) and over clips. "
)
# McNemar's test
DEPENDENT = "It takes clips as independent, which those of one speaker are not: trust bounds over speakers more."
ENSEMBLE = (
    " The {name} assigns each label the mean of its members' probabilities (Lakshminarayanan, Pritzel and "
    "Blundell 2017): {members}. All have the same weight, and nothing is fitted; if the members were selected by "
    "scores on these clips, its score is too high."
)
SCORES = (
    "Scores of the test clips of all folds together, means over seeds, best UAR first. UAR is the mean recall over "
    "the labels. Epochs or settings are selected by the score and on the clips of the column. Chance guesses each "
    "label with equal probability; majority always predicts the most frequent label of a fold's training clips (of "
    'the test clips themselves, where no training clips are known). "-": no such figure.'
)
OVERVIEW = (
    "Every system under every protocol. UAR, with its bounds, accuracy and macro AUC are pooled over the test clips "
    "of all folds, means over seeds. {bounded}Protocols measure different things on different clips: compare systems "
    "within one. "
)
BOUNDED = (
    "Pooled {score} with its uncertainty. {bounded}{wilson}Mean and sd over folds are of the scores of single folds, "
    "within a seed; the sd over seeds is of the pooled score. "
    '"-": speakers are unknown or fewer than 5, all clips are right, or there is one fold or one seed.'
)
WILSON = "Wilson's bounds count a clip once for any number of seeds. "
AUC = (
    "Area under the ROC curve of each label against the rest, by its softmax probability, pooled over folds; means "
    'over seeds. {bounded}These are of the macro AUC. "-": too few clips or speakers.'
)
BY_FOLD = (
    "The test clips of each fold and seed alone. {baselines}UAR and macro AUC of a fold without some label are means "
    "over its other labels, and not comparable with those of other folds; the pooled scores are the main result. "
    '"-": no label is missing.'
)
CALIBRATION = (
    "Agreement of probabilities and accuracy: expected calibration error (ECE, 15 bins) and mean cross entropy "
    "(nats) of the test clips, as trained and with a temperature for each fold that is fitted on its validation "
    "clips (Guo et al. 2017), which a probe predicts before it is trained on them, too; means over seeds. At bound: "
    "folds whose temperature is the smallest or largest possible. Chance has the same probability for all labels. "
    '"-": no validation clips.'
)


def score_tables(group: GroupScores) -> list[Table]:
    """Return scores, UAR and accuracy with bounds, AUC, calibration, and single folds where there are several."""
    tables = [_scores(group), _bounded(group, "uar"), _bounded(group, "accuracy"), _auc(group), _calibration(group)]
    by_fold = _by_fold(group)
    return [*tables, by_fold] if len(by_fold.rows) > len(group.systems) else tables


def _scores(group: GroupScores) -> Table:
    columns = {"system": None, "seeds": None, "folds": None, "clips": "d", **FORMATS, "selected by": None}
    rows = _baseline_rows(group)
    for scores in group.systems:
        system = scores.system
        row: Row = {"system": system.name, "seeds": ", ".join(system.seeds), "folds": system.covered}
        row |= {"clips": scores.clips, "selected by": system.selection, "marked": "; ".join(system.caveats) or None}
        rows.append(row | {name: scores.estimates[key].value for key, name in SCORE_NAMES.items()})
    if any(scores.system.caveats for scores in group.systems):
        columns["marked"] = None
    caption = SCORES + explain_ensembles(scores.system for scores in group.systems)
    return system_table(group, "scores", caption, columns, rows)


def overview(groups: Sequence[GroupScores]) -> Table:
    """Return the main scores of all systems under all protocols."""
    columns = {"system": None, "corpus": None, "task": None, "protocol": None, "folds": None, "clips": "d"}
    columns |= {"UAR": ".1%", **BOUNDS, "accuracy": ".1%", "macro AUC": ".3f", "selected by": None}
    rows = [
        {
            "system": scores.system.name_with_star,
            "corpus": group.group.clips.corpus,
            "task": group.group.clips.task,
            "protocol": group.group.clips.protocol,
            "folds": scores.system.covered,
            "clips": scores.clips,
            **{SCORE_NAMES[key]: scores.estimates[key].value for key in ("accuracy", "uar", "macro_auc")},
            **bounds(scores.estimates["uar"]),
            "selected by": scores.system.selection,
            "labels by": group.group.clips.label_map or None,
        }
        for group in groups
        for scores in group.systems
    ]
    rows.sort(key=lambda row: (row["system"], row["corpus"], row["task"], row["protocol"]))
    if any(group.group.clips.label_map for group in groups):
        columns["labels by"] = None
    counts = sorted({len(group.group.labels) for group in groups})
    chance = " or ".join(f"{1 / count:.1%} ({count} labels)" for count in counts)
    majority = share_range([group.majority["accuracy"] for group in groups])
    stars = explain_stars(scores.system for group in groups for scores in group.systems)
    caption = (
        f"{OVERVIEW.format(bounded=HOW_BOUNDED)}Chance is a UAR and an accuracy of {chance}; always predicting the "
        f"most frequent label has an accuracy of {majority}.{stars}"
    )
    return make_table("overview", caption, columns, rows)


def _baseline_rows(group: GroupScores) -> list[Row]:
    chance = 1 / len(group.group.labels)
    return [
        {"system": CHANCE, "accuracy": chance, "UAR": chance, "macro AUC": 0.5},
        {"system": MAJORITY, **{name: group.majority[key] for key, name in SCORE_NAMES.items()}},
    ]


def _bounded(group: GroupScores, key: str) -> Table:
    score, wilson = SCORE_NAMES[key], key == "accuracy"
    columns = {"system": None, score: ".1%", **BOUNDS}
    columns |= dict.fromkeys(("Wilson from", "Wilson to"), ".1%") if wilson else {}
    columns |= dict.fromkeys(("mean over folds", "sd over folds", "sd over seeds"), ".1%")
    rows = [{"system": row["system"], score: row[score]} for row in _baseline_rows(group)]
    for scores in group.systems:
        estimate, (low, high) = scores.estimates[key], scores.wilson
        row = {"system": scores.system.name, score: estimate.value, "Wilson from": low, "Wilson to": high}
        rows.append({**row, **bounds(estimate), **_spread(scores, key)})
    caption = BOUNDED.format(score=score, bounded=HOW_BOUNDED, wilson=WILSON if wilson else "")
    return system_table(group, key, caption, columns, rows)


def _spread(scores: SystemScores, key: str) -> Row:
    """Return mean and spread over the folds of a seed, averaged over seeds, and the spread over seeds."""
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
        areas = {heading: scores.estimates[key].value for key, heading in labels.items()}
        macro = scores.estimates["macro_auc"]
        rows.append({"system": scores.system.name, **areas, "macro AUC": macro.value, **bounds(macro)})
    return system_table(group, "auc", AUC.format(bounded=HOW_BOUNDED), columns, rows)


def _by_fold(group: GroupScores) -> Table:
    columns = {"system": None, "seed": None, "fold": None, "clips": "d", **FORMATS, "labels missing": None}
    rows = [
        {
            "system": scores.system.name,
            "seed": seed,
            "fold": fold,
            "clips": of_fold["clips"],
            **{name: of_fold[key] for key, name in SCORE_NAMES.items()},
            "labels missing": ", ".join(of_fold["absent"]) or None,
        }
        for scores in group.systems
        for seed, folds in scores.by_fold.items()
        for fold, of_fold in folds.items()
    ]
    return system_table(group, "by-fold", BY_FOLD.format(baselines=baselines(group)), columns, rows)


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
        calibration = scores.calibration
        row: Row = {"system": scores.system.name}
        row |= {heading: calibration.scores[key] for key, heading in headings.items()}
        if temperatures := calibration.temperatures:
            row |= {"temperature from": min(temperatures), "temperature to": max(temperatures)}
            row["at bound"] = calibration.at_bound
        rows.append(row)
    return system_table(group, "calibration", CALIBRATION, {**columns, "at bound": "d"}, rows)


def baselines(group: GroupScores) -> str:
    """Return a sentence on the accuracies that need no learning."""
    return describe_baselines(len(group.group.labels), [group.majority["accuracy"]], "the test clips")


def bounds(estimate: Estimate) -> Row:
    """Return the columns `BOUNDS`; None where there are no bounds."""
    ends = (*(estimate.speakers or (None, None)), *(estimate.clips or (None, None)))
    return dict(zip(BOUNDS, ends, strict=True))


def explain_stars(systems: Iterable[System]) -> str:
    """Return the caveats of these systems, as sentences to add to a caption; empty where none has any."""
    by_caveat: dict[str, list[str]] = defaultdict(list)
    for system in systems:
        for caveat in system.caveats:
            by_caveat[caveat].append(system.name)
    sentences = []
    for caveat, names in by_caveat.items():
        listed = ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} systems"
        sentences.append(f" * {caveat}: {listed}.")
    return "".join(sentences)


def explain_ensembles(systems: Iterable[System]) -> str:
    """Return a sentence on each ensemble among these systems, to add to a caption; empty where there is none."""
    return "".join(
        ENSEMBLE.format(name=system.name, members="; ".join(system.members)) for system in systems if system.members
    )


def system_table(
    group: GroupScores, name: str, caption: str, columns: Mapping[str, str | None], rows: Sequence[Row]
) -> Table:
    """Return a table with systems of a group, with a star where their scores have caveats.

    Args:
        group: the group.
        name: stem of its files in the group's folder.
        caption: see `Table`; clips and protocol are added before it, and the meaning of stars after it.
        columns: as for `make_table`.
        rows: as for `make_table`; the columns `NAMES` have names of systems without stars.
    """
    clips, systems = group.group.clips, {scores.system.name: scores.system for scores in group.systems}
    shown = [
        {
            column: systems[cell].name_with_star if column in NAMES and cell in systems else cell
            for column, cell in row.items()
        }
        for row in rows
    ]
    named = {row[column] for row in rows for column in NAMES if column in row}
    stars = explain_stars(system for name, system in systems.items() if name in named)
    caption = f"On {clips.title}. {caption.strip()}{stars}"
    return make_table(f"{clips.slug}/{name}", caption, columns, shown)


BY_GROUP = {
    "speaker": "Accuracy by speaker. ",
    "intensity": "Accuracy by intensity. Listeners find the category of an emotion most ambiguous at peak intensity "
    "(Holz, Larrouy-Maestri and Poeppel 2021); so does a system with a difference at peak whose bounds are below 0. ",
    "duration": "Accuracy by duration, in groups of about as many clips. ",
}
DIFFERENCE = (
    "Over all folds and seeds, with Wilson's 95 % bounds. The difference is the group's accuracy minus that of all "
    "other clips. {bounded}{baselines}The UAR of a group without some label is a mean over its other labels. "
    '"-": no bounds (a single speaker has none over speakers), or no label is missing.'
)
DIFFERENCES = (
    "Accuracy and UAR of the first system minus those of the second, on the same clips and seeds, in points; two that "
    "guess would differ by 0. {bounded}Bounds that exclude 0 are evidence of a difference, but of many pairs some do "
    'so by chance. "-": speakers are unknown or fewer than 5.'
)
MCNEMAR = (
    "McNemar's test of two systems of one seed: the clips that only one of them classified correctly, and the "
    "probability of counts at least as unequal if both were equally accurate, also adjusted for {tests} (Holm). "
    f"{DEPENDENT}"
)
CONFUSION = (
    "Test clips of all seeds by true label (row) and predicted label (column), and their share of the clips of the "
    "true label. {baselines}"
)


def detail_tables(group: GroupScores) -> list[Table]:
    """Return scores by group of clips, comparisons in pairs where there are any, and confusion."""
    tables = [_by_group(group, name) for name in BY_GROUP if any(scores.groups[name] for scores in group.systems)]
    if group.pairs:
        tables.append(_differences(group))
    if any(pair.comparison.p_value is not None for pair in group.pairs):
        tables.append(_mcnemar(group))
    return [*tables, _confusion(group)]


def _by_group(group: GroupScores, name: str) -> Table:
    points = {f"difference {column}": "+.1f" for column in BOUNDS}
    columns = {"system": None, name: None, "clips": "d", "accuracy": ".1%", "Wilson from": ".1%", "Wilson to": ".1%"}
    columns |= {"UAR": ".1%", "difference (points)": "+.1f", **points, "labels missing": None}
    rows = [
        {
            "system": scores.system.name,
            name: score.name,
            "clips": score.clips,
            "accuracy": score.accuracy,
            "Wilson from": score.low,
            "Wilson to": score.high,
            "UAR": score.uar,
            "difference (points)": _points(score.against_rest.value),
            **{f"difference {column}": _points(end) for column, end in bounds(score.against_rest).items()},
            "labels missing": ", ".join(score.absent) or None,
        }
        for scores in group.systems
        for score in scores.groups[name]
    ]
    caption = BY_GROUP[name] + DIFFERENCE.format(bounded=HOW_BOUNDED, baselines=baselines(group))
    return system_table(group, f"by-{name}", caption, columns, rows)


def _points(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _differences(group: GroupScores) -> Table:
    columns = {"first": None, "second": None, "seeds": None, "clips": "d", "score": None}
    columns |= dict.fromkeys(("difference (points)", *BOUNDS), "+.1f")
    rows = [
        {
            "first": pair.first.name,
            "second": pair.second.name,
            "seeds": ", ".join(pair.seeds),
            "clips": pair.comparison.clips,
            "score": SCORE_NAMES[key],
            "difference (points)": _points(estimate.value),
            **{column: _points(end) for column, end in bounds(estimate).items()},
        }
        for pair in group.pairs
        for key, estimate in (("accuracy", pair.comparison.accuracy), ("uar", pair.comparison.uar))
    ]
    return system_table(group, "differences", DIFFERENCES.format(bounded=HOW_BOUNDED), columns, rows)


def _mcnemar(group: GroupScores) -> Table:
    columns = {"first": None, "second": None, "seed": None, "clips": "d", "only first right": "d"}
    columns |= {"only second right": "d", "p": ".2g", "p adjusted": ".2g"}
    rows = [
        {
            "first": pair.first.name,
            "second": pair.second.name,
            "seed": pair.seeds[0],
            "clips": pair.comparison.clips,
            "only first right": pair.comparison.only_first,
            "only second right": pair.comparison.only_second,
            "p": pair.comparison.p_value,
            "p adjusted": pair.adjusted,
        }
        for pair in group.pairs
        if pair.comparison.p_value is not None
    ]
    tests = "1 test" if len(rows) == 1 else f"{len(rows)} tests"
    return system_table(group, "mcnemar", MCNEMAR.format(tests=tests), columns, rows)


def _confusion(group: GroupScores) -> Table:
    labels = group.group.labels
    columns = {"system": None, "true label": None, **{f"clips {label}": "d" for label in labels}}
    columns |= {f"share {label}": ".1%" for label in labels}
    rows = []
    for scores in group.systems:
        totals = scores.confusion.sum(axis=1)
        for label, counts, total in zip(labels, scores.confusion.tolist(), totals.tolist(), strict=True):
            shares = [count / total if total else None for count in counts]
            cells = zip(columns, (scores.system.name, label, *counts, *shares), strict=True)
            rows.append(dict(cells))
    return system_table(group, "confusion", CONFUSION.format(baselines=baselines(group)), columns, rows)

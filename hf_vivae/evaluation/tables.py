"""Tables of the evaluation report."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from ..reporting.tables import Row, Table, make_table
from .bootstrap import Estimate
from .comparison import GroupScores, Pair
from .runs import EvaluationSet
from .scores import GroupScore, SystemScores, mean_and_sd, mean_over_seeds
from .systems import System

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


CHANCE, MAJORITY = "chance", "majority"
BOUNDS = {f"{drawn} {end}": ".1%" for drawn in ("speakers", "clips") for end in ("from", "to")}
NAMES = ("system", "first", "second")  # columns with names of systems
MOST_NAMED = 5  # systems in a sentence
HOW_BOUNDED = (
    "Bounds are 95 % bootstrap intervals over speakers (whole speakers are drawn; for unseen voices) and over clips. "
)
# McNemar's test, that is
DEPENDENT = "It takes clips as independent, which those of one speaker are not: trust bounds over speakers more."
ENSEMBLE = (
    " The {name} gives each label the mean of its members' probabilities (Lakshminarayanan, Pritzel and Blundell "
    "2017): {members}. All weigh the same, and nothing is fitted; members that were picked by scores on these clips "
    "would make its score too high."
)


def where(clips: EvaluationSet) -> str:
    """Which clips, as the titles and captions of an evaluation say it."""
    folds = "one fold" if clips.of_folds == 1 else f"{clips.of_folds} folds"
    return f"{clips.clips} {clips.corpus} clips, {clips.task}, {clips.protocol} ({folds})"


def slug(clips: EvaluationSet) -> str:
    """Name of the folders with a group's tables and pictures."""
    return f"{clips.corpus}-{clips.task}-{clips.protocol}-{clips.of_folds}-{clips.digest[:8]}"


def mean_majority(group: GroupScores) -> dict[str, float]:
    """Scores of always saying the most frequent label of the training clips, means over the systems' splits."""
    return mean_over_seeds([scores.majority for scores in group.systems])


def baselines(group: GroupScores) -> str:
    """A sentence on the accuracies that need no learning."""
    return (
        f"Chance is right for {1 / len(group.group.labels):.1%} of the clips, always saying the most frequent label "
        f"of the training clips for {mean_majority(group)['accuracy']:.1%}. "
    )


def bounds(estimate: Estimate) -> Row:
    """The columns `BOUNDS`; empty where there are none."""
    ends = (*(estimate.speakers or (None, None)), *(estimate.clips or (None, None)))
    return dict(zip(BOUNDS, ends, strict=True))


def starred(system: System) -> str:
    """Its name, with a star where its scores owe something to a habit of publications."""
    return f"{system.name} *" if system.habits else system.name


def explain_stars(systems: Iterable[System]) -> str:
    """What the stars of these systems mean, to be added to a caption; nothing where none has one."""
    names: dict[str, list[str]] = defaultdict(list)
    for system in systems:
        for habit in system.habits:
            names[habit].append(system.name)
    return "".join(f" * {habit}: {_listed(found)}." for habit, found in names.items())


def explain_ensembles(systems: Iterable[System]) -> str:
    """What the ensembles among these systems are, to be added to a caption; nothing where there is none."""
    joined = [system for system in systems if system.members]
    return "".join(ENSEMBLE.format(name=system.name, members="; ".join(system.members)) for system in joined)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} systems"


def system_table(
    group: GroupScores, name: str, caption: str, columns: Mapping[str, str | None], rows: Sequence[Row]
) -> Table:
    """A table with systems of a group, starred where they have to be.

    Args:
        group: the group.
        name: stem of its files, which lie in the group's folder.
        caption: see `Table`; which clips the numbers are of is put before it, and what stars mean after it.
        columns: as for `make_table`.
        rows: as for `make_table`; plain names of systems stand in the columns `NAMES`.
    """
    clips, systems = group.group.clips, {scores.system.name: scores.system for scores in group.systems}
    shown = [
        {
            column: starred(systems[cell]) if column in NAMES and cell in systems else cell
            for column, cell in row.items()
        }
        for row in rows
    ]
    named = {row[column] for row in rows for column in NAMES if column in row}
    stars = explain_stars(system for name, system in systems.items() if name in named)
    caption = f"On {where(clips)}. {caption.strip()}{stars}"
    return make_table(f"{slug(clips)}/{name}", caption, columns, shown)


BY_GROUP = {
    "speaker": "Accuracy by speaker. ",
    "intensity": "Accuracy by intensity. Listeners find the category of an emotion most ambiguous at peak intensity "
    "(Holz, Larrouy-Maestri and Poeppel 2021): a difference at peak with bounds below 0 says the same of a system. ",
    "duration": "Accuracy by duration, in groups of about as many clips. ",
}
DIFFERENCE = (
    "Over all folds and seeds, with Wilson's 95 % bounds. The difference is the group's accuracy minus that of all "
    "other clips. {bounded}{baselines}UAR of a group without some label is a mean over its other labels. "
    '"-": no bounds (a single speaker has none over speakers), or no label is missing.'
)
DIFFERENCES = (
    "Accuracy and UAR of the first system minus those of the second, on the same clips and seeds, in points; two that "
    "guess would differ by 0. {bounded}Bounds that leave out 0 speak for a difference, but of many pairs some do by "
    'chance. "-": speakers are unknown or fewer than 5.'
)
MCNEMAR = (
    "McNemar's test of two systems of one seed: the clips that only one has right, and the probability of numbers as "
    f"unequal if both were right alone equally often, also adjusted for {{tests}} (Holm). {DEPENDENT}"
)
CONFUSION = (
    "Test clips of all seeds by true label (row) and predicted label (column), and their share of the clips of the "
    "true label. {baselines}"
)


def detail_tables(group: GroupScores) -> list[Table]:
    """Groups of clips that are known, pairs where there are some, and confusion."""
    tables = [_by_group(group, name) for name in BY_GROUP if any(scores.groups[name] for scores in group.systems)]
    if group.pairs:
        tables.append(_differences(group))
    if tested := [pair for pair in group.pairs if pair.comparison.p_value is not None]:
        tables.append(_mcnemar(group, tested))
    return [*tables, _confusion(group)]


def _by_group(group: GroupScores, name: str) -> Table:
    points = {f"difference {column}": "+.1f" for column in BOUNDS}
    columns = {"system": None, name: None, "clips": "d", "accuracy": ".1%", "Wilson from": ".1%", "Wilson to": ".1%"}
    columns |= {"UAR": ".1%", "difference (points)": "+.1f", **points, "labels missing": None}
    rows = [
        {"system": scores.system.name, name: found.name, **_group_row(found)}
        for scores in group.systems
        for found in scores.groups[name]
    ]
    caption = BY_GROUP[name] + DIFFERENCE.format(bounded=HOW_BOUNDED, baselines=baselines(group))
    return system_table(group, f"by-{name}", caption, columns, rows)


def _group_row(found: GroupScore) -> Row:
    ends = {f"difference {column}": _points(end) for column, end in bounds(found.against_rest).items()}
    return {
        "clips": found.clips,
        "accuracy": found.accuracy,
        "Wilson from": found.low,
        "Wilson to": found.high,
        "UAR": found.uar,
        "difference (points)": _points(found.against_rest.value),
        **ends,
        "labels missing": ", ".join(found.absent) or None,
    }


def _points(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _differences(group: GroupScores) -> Table:
    columns = {"first": None, "second": None, "seeds": None, "clips": "d", "score": None}
    columns |= dict.fromkeys(("difference (points)", *BOUNDS), "+.1f")
    rows = []
    for pair in group.pairs:
        known = {"first": pair.first.name, "second": pair.second.name, "seeds": ", ".join(pair.seeds)}
        for score, estimate in (("accuracy", pair.comparison.accuracy), ("UAR", pair.comparison.uar)):
            ends = {column: _points(end) for column, end in bounds(estimate).items()}
            values = {"clips": pair.comparison.clips, "score": score, "difference (points)": _points(estimate.value)}
            rows.append({**known, **values, **ends})
    return system_table(group, "differences", DIFFERENCES.format(bounded=HOW_BOUNDED), columns, rows)


def _mcnemar(group: GroupScores, tested: Sequence[Pair]) -> Table:
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
        for pair in tested
    ]
    return system_table(
        group, "mcnemar", MCNEMAR.format(tests="1 test" if len(tested) == 1 else f"{len(tested)} tests"), columns, rows
    )


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

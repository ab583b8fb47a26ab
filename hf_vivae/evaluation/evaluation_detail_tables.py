"""Tables of an evaluation beyond the scores: by speaker, intensity and duration, differences, and confusion."""

from collections.abc import Sequence

from .evaluation_rows import BOUNDS, DEPENDENT, HOW_BOUNDED, baselines, bounds, system_table
from .group_scores import GroupScores, Pair
from .groups import GroupScore
from .study_rows import Row
from .tables import Table

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

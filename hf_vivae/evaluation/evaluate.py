"""Evaluation of finished runs: scores, tables, figures and the report."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..corpus.vivae import VIVAE_CLIPS
from ..files import make_folder, read_json, write_json, write_text
from ..reporting.tables import Table, make_table
from ..validation import check_choice
from .bootstrap import Bounds
from .comparison import GroupScores, Pair, score_group
from .published import OVER_FOLDS, POOLED, OurScore, published_tables, read_published
from .report import report_evaluation
from .runs import find_folders
from .scores import SystemScores
from .systems import Group, System, add_ensembles, join
from .tables import (
    detail_tables,
    explain_ensembles,
    explain_stars,
    mean_majority,
    overview,
    score_tables,
    starred,
    where,
)


@dataclass(frozen=True)
class Evaluation:
    """What was scored.

    Args:
        groups: in the order of corpus, task and protocol.
        left_out: a sentence for each run folder that is not evaluated.
    """

    groups: tuple[GroupScores, ...]
    left_out: tuple[str, ...]


def evaluate(
    places: Sequence[Path], output: Path, baseline: str | None = None, ensemble: Sequence[str] | None = None
) -> Evaluation:
    """Score and compare all finished runs below some folders, and write tables, figures and a report.

    Args:
        places: folders that are run folders or hold some, at any depth.
        output: folder for what is written; tables and pictures of an earlier evaluation are replaced.
        baseline: name of the system that all others are compared with; all pairs of up to 10 systems by default.
        ensemble: names of systems to join to one more, as for `add_ensembles`; none by default.

    Raises:
        ValueError: a place is no folder, no finished run is found, no system has a name that is given, or systems
            cannot be joined.
    """
    from tqdm import tqdm

    folders, left_out = find_folders(places)
    found = join(folders)
    if ensemble is not None:
        _check_names(found, ensemble, "--ensemble")
        found = add_ensembles(found, ensemble)
    if baseline is not None:
        _check_names(found, [baseline], "--baseline")
    make_folder(output)
    with tqdm(total=sum(len(group.systems) for group in found), desc="scoring", unit="system", delay=1) as progress:
        groups = tuple(score_group(group, baseline, progress.update) for group in found)
    tables = {table.name: table for table in _all_tables(groups)}
    contents = {f"tables/{table.name}.md": table.to_markdown() for table in tables.values()}
    contents |= {f"tables/{table.name}.csv": table.to_csv() for table in tables.values()}
    for name, content in contents.items():
        write_text(output / name, content)
    pictures = report_evaluation(output, groups, tables, left_out)
    files = [*contents, *(picture.as_posix() for picture in pictures)]
    _remove_earlier(output, files)
    write_json(output / "results.json", evaluation_results(groups, left_out) | {"files": files})
    return Evaluation(groups, tuple(left_out))


def _remove_earlier(output: Path, files: Sequence[str]) -> None:
    """Remove the tables and pictures that an earlier evaluation wrote and this one did not; no file of anybody else's.

    Args:
        output: folder of the evaluation.
        files: that this one wrote, relative to it.
    """
    results = output / "results.json"
    listed = read_json(results).get("files") if results.is_file() else None
    earlier = {str(name) for name in listed} if isinstance(listed, list) else set()
    # by what lies in the two folders, since results.json may be anybody's and name files elsewhere
    for path in (*output.glob("tables/**/*"), *output.glob("figures/**/*")):
        name = path.relative_to(output).as_posix()
        if name in earlier and name not in files and path.is_file():
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()


def _check_names(groups: Sequence[Group], given: Sequence[str], flag: str) -> None:
    known = [system.name for group in groups for system in group.systems]
    for name in given:
        check_choice(flag, name, known)


def _all_tables(groups: Sequence[GroupScores]) -> list[Table]:
    tables = [overview(groups)]
    tables += [table for group in groups for table in (*score_tables(group), *detail_tables(group))]
    if any(group.group.clips.corpus != "folder" for group in groups):  # which no publication has figures of
        tables += published_tables(our_scores(groups), read_published())
    return [*tables, _runs(groups)]


def _runs(groups: Sequence[GroupScores]) -> Table:
    columns = {"corpus": None, "protocol": None, "system": None, "seed": None, "fold": None, "seconds": ".0f"}
    rows = [
        {
            "corpus": group.group.clips.corpus,
            "protocol": group.group.clips.protocol,
            "system": starred(scores.system),
            "seed": run.seed,
            "fold": fold.fold,
            "seconds": fold.seconds,
            "run folder": str(fold.path),
        }
        for group in groups
        for scores in group.systems
        if not scores.system.members
        for run in scores.system.runs
        for fold in run.folds
    ]
    return make_table(
        "runs", "The folds that were found, and how long each took.", columns | {"run folder": None}, rows
    )


def our_scores(groups: Sequence[GroupScores]) -> list[OurScore]:
    """Scores as published figures have them: pooled with their bounds, over speakers where known, and over folds."""
    return [our for group in groups for scores in group.systems for our in _ours(group, scores)]


def _ours(group: GroupScores, scores: SystemScores) -> list[OurScore]:
    clips, system = group.group.clips, scores.system
    is_vivae = clips.corpus == "vivae" and clips.clips == VIVAE_CLIPS
    whole = is_vivae and system.whole and not any(fold.problems for fold in system.folds)
    found = []
    for metric in ("accuracy", "uar", "macro_f1", "macro_auc"):
        estimate = scores.estimates[metric]
        values = [(POOLED, estimate.value, estimate.speakers or estimate.clips or (None, None))]
        of_folds = [fold[metric] for folds in scores.by_fold.values() for fold in folds.values()]
        if len(system.runs[0].fold_names) > 1 and None not in of_folds:
            values.append((OVER_FOLDS, fmean(of_folds), (None, None)))
        found += [
            OurScore(
                starred(system), clips.corpus, whole, clips.task, clips.protocol, metric, averaging, value, *ends,
                "; ".join([system.selection, *system.habits]), len(system.runs), scores.clips,
            )
            for averaging, value, ends in values
        ]  # fmt: skip
    return found


def evaluation_results(groups: Sequence[GroupScores], left_out: Sequence[str]) -> dict[str, Any]:
    """Names and unrounded numbers of each group, its systems and their comparisons.

    Args:
        groups: in their order.
        left_out: a sentence for each run folder that is not evaluated.
    """
    return {"groups": [_group(group) for group in groups], "left_out": list(left_out)}


def _group(group: GroupScores) -> dict[str, Any]:
    labels = group.group.labels
    chance = {"accuracy": 1 / len(labels), "uar": 1 / len(labels), "macro_auc": 0.5, "loss": math.log(len(labels))}
    return {
        **asdict(group.group.clips),
        "labels": labels,
        "chance": chance,
        "majority": mean_majority(group),
        "systems": [_system(scores) for scores in group.systems],
        "comparisons": [_pair(pair) for pair in group.pairs],
        "not_compared": group.not_compared,
    }


def _system(scores: SystemScores) -> dict[str, Any]:
    system, calibration = scores.system, scores.calibration
    return {
        "name": system.name,
        "marked": system.habits,
        "selection": system.selection,
        "folds": system.covered,
        **_made_of(system),
        "clips": scores.clips,
        "scores": {name: asdict(estimate) for name, estimate in scores.estimates.items()},
        "wilson": scores.wilson,
        "majority": scores.majority,
        "by_seed": scores.by_seed,
        "by_fold": scores.by_fold,
        **{f"by_{name}": [asdict(found) for found in groups] for name, groups in scores.groups.items()},
        "calibration": {
            **calibration.scores,
            "temperatures": calibration.temperatures,
            "at_bound": calibration.at_bound,
            "reliability": calibration.plain.bins,
            "reliability_scaled": calibration.scaled and calibration.scaled.bins,
        },
        "confusion_matrix": scores.confusion.tolist(),
    }


def _made_of(system: System) -> dict[str, Any]:
    """Settings and run folders; of an ensemble, the systems that have these."""
    if system.members:
        return {"members": system.members, "runs": [{"seed": run.seed} for run in system.runs]}
    runs = [{"seed": run.seed, "folders": {fold.fold: str(fold.path) for fold in run.folds}} for run in system.runs]
    return {"settings": {name: json.loads(value) for name, value in system.folds[0].settings}, "runs": runs}


def _pair(pair: Pair) -> dict[str, Any]:
    names = {"first": pair.first.name, "second": pair.second.name, "seeds": pair.seeds}
    return {**names, **asdict(pair.comparison), "p_value_adjusted": pair.adjusted}


MOST_LINES = 20
COLUMNS = ("", "folds", "seeds", "clips", "UAR", "95 % over speakers", "accuracy", "macro AUC")


def format_evaluation(evaluation: Evaluation) -> str:
    """The headline of each group, with what is marked in it, and what is left out."""
    parts = [_format_group(group) for group in evaluation.groups]
    if evaluation.left_out:
        parts.append("\n".join(_first(evaluation.left_out)))
    return "\n\n".join(parts)


def _format_group(group: GroupScores) -> str:
    chance, majority = 1 / len(group.group.labels), mean_majority(group)
    rows = [
        COLUMNS,
        ("chance", "", "", "", f"{chance:.1%}", "", f"{chance:.1%}", "0.500"),
        ("majority", "", "", "", f"{majority['uar']:.1%}", "", f"{majority['accuracy']:.1%}", "0.500"),
        *map(_row, group.systems),
    ]
    systems = [scores.system for scores in group.systems]
    said = [explained.strip() for explained in (explain_ensembles(systems), explain_stars(systems)) if explained]
    return "\n".join([where(group.group.clips), *_first(_align(rows)), *said])


def _row(scores: SystemScores) -> tuple[str, ...]:
    system, estimates = scores.system, scores.estimates
    auc = estimates["macro_auc"].value
    return (
        starred(system),
        system.covered,
        str(len(system.runs)),
        str(scores.clips),
        f"{estimates['uar'].value:.1%}",
        _interval(estimates["uar"].speakers),
        f"{estimates['accuracy'].value:.1%}",
        "-" if auc is None else f"{auc:.3f}",
    )


def _interval(bounds: Bounds | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.1%} to {bounds[1]:.1%}"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, the first column flushed left, all others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _first(lines: Sequence[str]) -> list[str]:
    """As many as are read, and how many more there are."""
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"and {more} more in the report"] if more > 0 else [])]

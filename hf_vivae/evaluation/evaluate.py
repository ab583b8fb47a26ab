"""Evaluation of finished runs: scores, tables, figures and the report, started by `recipes/evaluate.py`."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..corpus.vivae import VIVAE_CLIPS
from ..files import make_folder, read_json, write_json
from ..reporting.tables import SCORE_NAMES, Table, make_table
from ..validation import check_choice
from .comparison import GroupScores, score_group
from .published import OVER_FOLDS, POOLED, OurScore, published_tables, read_published
from .report import report_evaluation, write_tables
from .runs import find_folders
from .scores import SystemScores
from .systems import Group, add_ensembles, join_folds
from .tables import detail_tables, explain_ensembles, explain_stars, overview, score_tables

MOST_LINES = 20  # of a group in the terminal
COLUMNS = ("", "folds", "seeds", "clips", "UAR", "95 % over speakers", "accuracy", "macro AUC")


@dataclass(frozen=True)
class Evaluation:
    """Scores of an evaluation.

    Args:
        groups: in the order of corpus, task and protocol.
        left_out: a sentence for each run folder that is not evaluated.
    """

    groups: tuple[GroupScores, ...]
    left_out: tuple[str, ...]


def evaluate(
    paths: Sequence[Path], output: Path, baseline: str | None = None, ensemble: Sequence[str] | None = None
) -> Evaluation:
    """Score and compare all finished runs below some folders, and write tables, figures and a report.

    Args:
        paths: run folders, or folders that contain some at any depth.
        output: folder of the evaluation; tables and pictures of an earlier one are replaced.
        baseline: name of the system that all others are compared with; all pairs of up to 10 systems by default.
        ensemble: names of systems to join to an ensemble, as for `add_ensembles`; no ensemble by default.

    Raises:
        UserError: a path is no folder, no finished run is found, no system has one of the names, or systems cannot
            be joined.
    """
    from tqdm import tqdm

    folders, left_out = find_folders(paths)
    joined = join_folds(folders)
    if ensemble is not None:
        _check_names(joined, ensemble, "--ensemble")
        joined = add_ensembles(joined, ensemble)
    if baseline is not None:
        _check_names(joined, [baseline], "--baseline")
    make_folder(output)
    with tqdm(total=sum(len(group.systems) for group in joined), desc="scoring", unit="system", delay=1) as progress:
        groups = tuple(score_group(group, baseline, progress.update) for group in joined)
    tables = [overview(groups)]
    tables += [table for group in groups for table in (*score_tables(group), *detail_tables(group))]
    if any(group.group.clips.corpus != "folder" for group in groups):  # of which there are no published figures
        tables += published_tables(our_scores(groups), read_published())
    tables.append(_runs(groups))
    written = write_tables(output, tables)
    pictures = report_evaluation(output, groups, {table.name: table for table in tables}, left_out)
    files = [*written, *(picture.as_posix() for picture in pictures)]
    _remove_earlier(output, files)
    write_json(output / "results.json", evaluation_results(groups, left_out) | {"files": files})
    return Evaluation(groups, tuple(left_out))


def _remove_earlier(output: Path, files: Sequence[str]) -> None:
    """Remove the tables and pictures that an earlier evaluation wrote and this one did not, and no other file.

    Args:
        output: folder of the evaluation.
        files: that this one wrote, relative to it.
    """
    results = output / "results.json"
    listed = read_json(results).get("files") if results.is_file() else None
    earlier = {str(name) for name in listed} if isinstance(listed, list) else set()
    obsolete = earlier.difference(files)
    # only files of the two folders, since a results.json from elsewhere may name any file
    for path in (*output.glob("tables/**/*"), *output.glob("figures/**/*")):
        if path.relative_to(output).as_posix() in obsolete and path.is_file():
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()


def _check_names(groups: Sequence[Group], names: Sequence[str], flag: str) -> None:
    systems = [system.name for group in groups for system in group.systems]
    for name in names:
        check_choice(flag, name, systems)


def _runs(groups: Sequence[GroupScores]) -> Table:
    columns = {"corpus": None, "protocol": None, "system": None, "seed": None, "fold": None, "seconds": ".0f"}
    rows = [
        {
            "corpus": group.group.clips.corpus,
            "protocol": group.group.clips.protocol,
            "system": scores.system.name_with_star,
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
    return make_table("runs", "All folds and their durations.", columns | {"run folder": None}, rows)


def our_scores(groups: Sequence[GroupScores]) -> list[OurScore]:
    """Return scores to compare with published ones: pooled with bounds, over speakers where known, and over folds."""
    all_scores = [(group.group.clips, scores) for group in groups for scores in group.systems]
    ours = []
    for (clips, scores), metric in itertools.product(all_scores, SCORE_NAMES):
        system, estimate = scores.system, scores.estimates[metric]
        is_vivae = clips.corpus == "vivae" and clips.clips == VIVAE_CLIPS
        whole = is_vivae and system.whole and not any(fold.problems for fold in system.folds)
        values = [(POOLED, estimate.value, estimate.speakers or estimate.clips or (None, None))]
        of_folds = [fold[metric] for folds in scores.by_fold.values() for fold in folds.values()]
        if len(system.runs[0].fold_names) > 1 and None not in of_folds:
            values.append((OVER_FOLDS, fmean(of_folds), (None, None)))
        name, selection = system.name_with_star, "; ".join([system.selection, *system.caveats])
        ours += [
            OurScore(
                name, metric, value, clips.protocol, averaging, selection, len(system.runs), scores.clips,
                clips.corpus, whole, clips.task, *ends,
            )
            for averaging, value, ends in values
        ]  # fmt: skip
    return ours


def evaluation_results(groups: Sequence[GroupScores], left_out: Sequence[str]) -> dict[str, Any]:
    """Return the content of `results.json`: unrounded numbers of each group, its systems and their comparisons.

    Args:
        groups: in their order.
        left_out: a sentence for each run folder that is not evaluated.
    """
    return {"groups": [_group_results(group) for group in groups], "left_out": list(left_out)}


def _group_results(group: GroupScores) -> dict[str, Any]:
    labels = group.group.labels
    chance = {"accuracy": 1 / len(labels), "uar": 1 / len(labels), "macro_auc": 0.5, "loss": math.log(len(labels))}
    comparisons = []
    for pair in group.pairs:
        names = {"first": pair.first.name, "second": pair.second.name, "seeds": pair.seeds}
        comparisons.append({**names, **asdict(pair.comparison), "p_value_adjusted": pair.adjusted})
    return {
        **asdict(group.group.clips),
        "labels": labels,
        "chance": chance,
        "majority": group.majority,
        "systems": [_system_results(scores) for scores in group.systems],
        "comparisons": comparisons,
        "not_compared": group.not_compared,
    }


def _system_results(scores: SystemScores) -> dict[str, Any]:
    system, calibration = scores.system, scores.calibration
    if system.members:
        composition = {"members": system.members, "runs": [{"seed": run.seed} for run in system.runs]}
    else:
        settings = {name: json.loads(value) for name, value in system.folds[0].settings}
        folders = [{fold.fold: str(fold.path) for fold in run.folds} for run in system.runs]
        runs = [{"seed": run.seed, "folders": paths} for run, paths in zip(system.runs, folders, strict=True)]
        composition = {"settings": settings, "runs": runs}
    return {
        "name": system.name,
        "marked": system.caveats,
        "selection": system.selection,
        "folds": system.covered,
        **composition,
        "clips": scores.clips,
        "scores": {name: asdict(estimate) for name, estimate in scores.estimates.items()},
        "wilson": scores.wilson,
        "majority": scores.majority,
        "by_seed": scores.by_seed,
        "by_fold": scores.by_fold,
        **{f"by_{name}": [asdict(score) for score in groups] for name, groups in scores.groups.items()},
        "calibration": {
            **calibration.scores,
            "temperatures": calibration.temperatures,
            "at_bound": calibration.at_bound,
            "reliability": calibration.plain.bins,
            "reliability_scaled": calibration.scaled and calibration.scaled.bins,
        },
        "confusion_matrix": scores.confusion.tolist(),
    }


def format_evaluation(evaluation: Evaluation) -> str:
    """Return the main scores of each group with their caveats, and the sentences on folders that are left out."""
    parts = [_format_group(group) for group in evaluation.groups]
    if evaluation.left_out:
        parts.append("\n".join(_shorten(evaluation.left_out)))
    return "\n\n".join(parts)


def _format_group(group: GroupScores) -> str:
    chance, majority = 1 / len(group.group.labels), group.majority
    rows = [
        COLUMNS,
        ("chance", "", "", "", f"{chance:.1%}", "", f"{chance:.1%}", "0.500"),
        ("majority", "", "", "", f"{majority['uar']:.1%}", "", f"{majority['accuracy']:.1%}", "0.500"),
    ]
    for scores in group.systems:
        system, uar, auc = scores.system, scores.estimates["uar"], scores.estimates["macro_auc"].value
        rows.append(
            (
                system.name_with_star,
                system.covered,
                str(len(system.runs)),
                str(scores.clips),
                f"{uar.value:.1%}",
                "-" if uar.speakers is None else f"{uar.speakers[0]:.1%} to {uar.speakers[1]:.1%}",
                f"{scores.estimates['accuracy'].value:.1%}",
                "-" if auc is None else f"{auc:.3f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    systems = [scores.system for scores in group.systems]
    notes = [note.strip() for note in (explain_ensembles(systems), explain_stars(systems)) if note]
    return "\n".join([group.group.clips.title, *_shorten(lines), *notes])


def _shorten(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"and {more} more in the report"] if more > 0 else [])]

"""Run folders to tables, figures, `results.json` and a report: systems scored and compared, like with like."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from statistics import fmean

from ..disk import make_folder
from ..runs import read_json, write_json, write_text
from ..validation import UserError
from .ensemble import add_ensembles
from .evaluated import Group, join
from .evaluation_detail_tables import detail_tables
from .evaluation_report import report_evaluation
from .evaluation_results import evaluation_results
from .evaluation_rows import starred
from .evaluation_tables import overview, score_tables
from .fold_folders import find_folders
from .group_scores import GroupScores, score_group
from .published import OVER_FOLDS, POOLED, OurScore, published_tables, read_published
from .study_report import VIVAE_CLIPS
from .study_rows import make_table
from .system_scores import SystemScores
from .tables import Table


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
        if name not in known:
            nearest = get_close_matches(name, known, 1, cutoff=0)[0]
            raise UserError(f"expected the name of a system as {flag}, found {name!r}; did you mean {nearest!r}?")


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

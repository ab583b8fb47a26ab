"""Cross-corpus evaluation: every system on every corpus whose labels it has, by clips that it has not learnt from."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from ..checkpoints.checks import read_config
from ..checkpoints.load import load_for_inference
from ..checkpoints.resolve import resolve_checkpoint
from ..corpus.arguments import CorpusArguments
from ..corpus.schema import Corpus, corpus_digest, describe_clips, first_names, with_label_map
from ..corpus.tasks import task_labels
from ..run_folder import CORPUS_FIELD, UNRESAMPLED, read_predictions
from ..validation import UserError
from .bootstrap import Estimate
from .foreign import is_foreign
from .rescore import UNKNOWN, predict_clips, read_record, read_used_digests
from .runs import Predictions, find_folders
from .scores import score_estimates
from .systems import join_folds

logger = logging.getLogger(__name__)
UNRECORDED = "unknown"


@dataclass(frozen=True)
class Row:
    """A system of run folders, or a checkpoint without a run folder.

    Args:
        name: name of the system, or folder or Hub id of the checkpoint.
        trained_on: title of the corpus that trained it; "unknown" where that is not recorded.
        digest: of that corpus; empty where it is unknown.
        labels: names of its labels.
        seeds: for each seed the checkpoint folders of its folds.
        caveats: sentences on its scores on the test clips of its own run.
        elsewhere: sentences on its scores on other clips.
    """

    name: str
    trained_on: str
    digest: str
    labels: tuple[str, ...]
    seeds: tuple[tuple[Path, ...], ...]
    caveats: tuple[str, ...]
    elsewhere: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A corpus to score on.

    Args:
        title: its name, and its label map if there is one.
        corpus: the clips.
        labels: label index of each clip, `(clips,)`.
        label_names: name of each label.
        digest: of clips, speakers and labels, as in `run.json`.
        clips: as `describe_clips` returns them.
    """

    title: str
    corpus: Corpus
    labels: list[int]
    label_names: list[str]
    digest: str
    clips: list[dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """Scores of a system on a corpus.

    Args:
        estimates: accuracy and UAR with their bounds; empty where there is no score.
        clips: number of different clips that are scored.
        tested: number of those that its own run tested, whose predictions are taken from there.
        labels: number of labels of the corpus.
        caveats: sentences on practices that affect the scores.
        reason: why there is no score; empty where there is one.
    """

    labels: int
    reason: str = ""
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    clips: int = 0
    tested: int = 0
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class CrossEvaluation:
    """Scores of all systems on all corpora.

    Args:
        rows: the systems.
        columns: the corpora.
        cells: a row of cells for each system, with one for each corpus.
        left_out: a sentence for each run folder that is not evaluated.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]
    left_out: tuple[str, ...]


def cross_evaluate(
    checkpoints: Sequence[str], corpora: Sequence[CorpusArguments], task: str, trust_remote_code: bool = False
) -> CrossEvaluation:
    """Score every system on every corpus that has no other labels than its own.

    On the corpus that trained it, a system is scored by the test clips of its run. On any other corpus, a clip gets
    the mean probabilities of the models of all folds that have not learnt from it: no model predicts a clip whose
    sound trained it or selected its epoch. Several seeds are scored one by one, and their scores are averaged.

    Args:
        checkpoints: run folders, folders with any number of them, other checkpoint folders, or Hub ids.
        corpora: one or more.
        task: name of the task, which decides the labels of all corpora.
        trust_remote_code: execute code that is part of a checkpoint.

    Raises:
        UserError: for checkpoints and corpora that cannot be read, and where no system can be scored on any corpus.
    """
    from tqdm import tqdm

    rows, left_out = find_rows(checkpoints, trust_remote_code)
    rows, columns = _distinguish(rows, [read_column(arguments, task) for arguments in corpora])
    reasons = [[_compare_labels(row, column) for column in columns] for row in rows]
    if all(map(all, reasons)):
        raise UserError(
            f"expected a corpus with labels of a checkpoint, found that {columns[0].title} "
            f"({first_names(columns[0].label_names)}) and {rows[0].name} ({first_names(rows[0].labels)}) do not share "
            "theirs; give another --data, or a --label_map to the labels of the checkpoint."
        )
    cells = []
    models = sum(len(folders) for row in rows for folders in row.seeds)
    with tqdm(total=models, desc="scoring", unit="model", delay=1) as progress:
        for row, of_row in zip(rows, reasons, strict=True):
            shared = [column for column, reason in zip(columns, of_row, strict=True) if not reason]
            seeds = [_predict(row, folders, shared, trust_remote_code, progress.update) for folders in row.seeds]
            scored = iter([_score(row, *of_column) for of_column in zip(shared, *seeds, strict=True)])
            cells.append(
                tuple(
                    Cell(len(column.label_names), reason) if reason else next(scored)
                    for column, reason in zip(columns, of_row, strict=True)
                )
            )
    for row, of_row in zip(rows, cells, strict=True):
        for column, cell in zip(columns, of_row, strict=True):
            if cell.reason:
                logger.warning("%s has no score on %s: %s.", row.name, column.title, cell.reason)
    if not any(cell.estimates for of_row in cells for cell in of_row):
        raise UserError("expected clips that a checkpoint has not learnt from, found none; give another --data.")
    return CrossEvaluation(tuple(rows), tuple(columns), tuple(cells), tuple(left_out))


def find_rows(checkpoints: Sequence[str], trust_remote_code: bool = False) -> tuple[list[Row], list[str]]:
    """Return the systems of all finished runs, then the other checkpoints, and what `find_folders` leaves out.

    Args:
        checkpoints: see `cross_evaluate`.
        trust_remote_code: see `cross_evaluate`.

    Raises:
        UserError: see `find_folders` and `resolve_checkpoint`; for predictions of another program.
    """
    if files := [name for name in checkpoints if is_foreign(Path(name))]:
        raise UserError(
            f"expected runs or checkpoints with --cross, found predictions of another program ({', '.join(files)}), "
            "which are of their own clips only; leave them out, or leave out --cross."
        )
    runs = [name for name in checkpoints if Path(name).is_dir() and any(Path(name).rglob("run.json"))]
    rows: list[Row] = []
    sets, left_out = [], []
    if runs:
        folders, left_out = find_folders(list(map(Path, runs)))
        for group in join_folds(folders):
            for system in group.systems:
                record = read_record(system.folds[0].path)
                seeds = tuple(tuple(fold.path for fold in run.folds) for run in system.runs)
                row = _make_row(system.name, record, group.labels, seeds, system.caveats)
                rows.append(row)
                sets.append(group.clips)
    # one system under two protocols, for two tasks or with two numbers of folds
    names = Counter((row.name, row.trained_on) for row in rows)
    for place, (row, clips) in enumerate(zip(rows, sets, strict=True)):
        if names[row.name, row.trained_on] > 1:
            name = f"{row.name} ({clips.task}, {clips.protocol}, {clips.of_folds} folds)"
            rows[place] = replace(row, name=name)
    for name in checkpoints:
        if name not in runs:
            source = resolve_checkpoint(name, code=trust_remote_code)
            config = read_config(source, trust_remote_code)
            labels = tuple(config.id2label[index] for index in sorted(config.id2label))
            row = _make_row(name, read_record(source), labels, ((source,),), ())
            rows.append(row if row.digest else replace(row, trained_on=getattr(config, CORPUS_FIELD, UNRECORDED)))
    return rows, left_out


def _make_row(
    name: str,
    record: dict[str, Any] | None,
    labels: tuple[str, ...],
    seeds: tuple[tuple[Path, ...], ...],
    caveats: Sequence[str],
) -> Row:
    if record is None:
        return Row(name, UNRECORDED, "", labels, seeds, (), (UNKNOWN,))
    corpus, run = record["corpus"], record["run"]
    title = _title(corpus["name"], run.get("data_dir"), corpus.get("label_map", {}).get("name"))
    elsewhere = () if run["resample"] else (UNRESAMPLED,)
    return Row(name, title, corpus["digest"], labels, seeds, tuple(caveats), elsewhere)


def read_column(arguments: CorpusArguments, task: str) -> Column:
    """Load a corpus and its labels of a task.

    Raises:
        UserError: see `CorpusArguments.load` and `task_labels`.
    """
    corpus = arguments.load()
    labels, names = task_labels(corpus.dataset, task)
    title = _title(corpus.name, arguments.data_dir, corpus.label_map and corpus.label_map.name)
    return Column(title, corpus, labels, names, corpus_digest(corpus, labels), describe_clips(corpus.dataset))


def _title(corpus: str, data_dir: str | None, label_map: str | None) -> str:
    title = f"{corpus} {Path(data_dir).name}" if corpus in ("folder", "segments") and data_dir else corpus
    return with_label_map(title, label_map)


def _distinguish(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[list[Row], list[Column]]:
    """Return rows and columns in which different clips have different titles: those of one title get a digest."""
    clips = {(row.trained_on, row.digest) for row in rows} | {(column.title, column.digest) for column in columns}
    titles = Counter(title for title, digest in clips if digest)

    def distinct(title: str, digest: str) -> str:
        return f"{title}, digest {digest[:6]}" if titles[title] > 1 and digest else title

    return (
        [replace(row, trained_on=distinct(row.trained_on, row.digest)) for row in rows],
        [replace(column, title=distinct(column.title, column.digest)) for column in columns],
    )


def _compare_labels(row: Row, column: Column) -> str:
    """Return why a system cannot be scored on a corpus; empty if it has all labels of the corpus."""
    missing = [name for name in column.label_names if name not in row.labels]
    if len(missing) == len(column.label_names):
        return "no common label"
    return f"no label {first_names(missing, 5)}" if missing else ""


def _predict(
    row: Row,
    folders: Sequence[Path],
    columns: Sequence[Column],
    trust_remote_code: bool,
    advance: Callable[[], Any],
) -> list[tuple[Predictions, np.ndarray]]:
    """Return for each corpus the predictions of one seed, and which of them its own run made, `(clips,)`."""
    used = [read_used_digests(folder) if (folder / "run.json").is_file() else None for folder in folders]
    learnt = [parts["train"] | parts["validation"] if parts else set() for parts in used]
    tested = [parts["test"] - seen if parts else set() for parts, seen in zip(used, learnt, strict=True)]
    of_run = set().union(*tested)
    digests = [np.array([clip["digest"] for clip in column.clips]) for column in columns]
    logs = [np.full((len(column.clips), len(row.labels)), -np.inf) for column in columns]
    counts = [np.zeros(len(column.clips), int) for column in columns]
    for folder, seen, own in zip(folders, learnt, tested, strict=True):
        logits = {
            clip["digest"]: clip["logits"]
            for clip in (read_predictions(folder) if own else ())
            if clip["split"] == "test"
        }
        model = None
        for column, names, log, count in zip(columns, digests, logs, counts, strict=True):
            known = [place for place, digest in enumerate(names) if digest in own]
            parts = [(known, [logits[names[place]] for place in known])]
            if column.digest != row.digest:  # of its own corpus, only test clips
                new = [place for place, digest in enumerate(names) if digest not in seen and digest not in of_run]
                if new:
                    model = model or load_for_inference(folder, trust_remote_code)
                    order = [int(model[0].config.label2id[name]) for name in row.labels]
                    parts.append((new, predict_clips(*model, column.corpus.dataset.select(new))[:, order]))
            for places, values in parts:
                if places:
                    log[places] = np.logaddexp(log[places], log_softmax(np.asarray(values, float), axis=1))
                    count[places] += 1
        advance()
    return [
        (_predictions(row, column, log, count), np.isin(names[count > 0], list(of_run)))
        for column, names, log, count in zip(columns, digests, logs, counts, strict=True)
    ]


def _predictions(row: Row, column: Column, log: np.ndarray, count: np.ndarray) -> Predictions:
    """Return the mean probabilities of the clips that any model predicted, as logits; labels of the corpus first."""
    order = [row.labels.index(name) for name in _ordered_names(row, column)]
    places = np.flatnonzero(count)
    clips = [column.clips[place] for place in places]
    return Predictions(
        files=np.array([clip["file"] for clip in clips], str),
        labels=np.array(column.labels, int)[places],
        logits=log[places][:, order] - np.log(count[places])[:, None],
        folds=np.full(len(places), "all"),
        speakers=np.array([clip["speaker"] or "" for clip in clips], str),
        intensities=np.array([clip["intensity"] or "" for clip in clips], str),
        durations=np.array([clip["duration"] for clip in clips], float),
    )


def _ordered_names(row: Row, column: Column) -> list[str]:
    """Return the labels of a corpus, and then those that the system has besides."""
    return [*column.label_names, *(name for name in row.labels if name not in column.label_names)]


def _score(row: Row, column: Column, *seeds: tuple[Predictions, np.ndarray]) -> Cell:
    tests = [test for test, _ in seeds]
    labels = len(column.label_names)
    if not all(map(len, tests)):
        return Cell(labels, f"all {len(column.clips)} clips trained or selected it")
    estimates = score_estimates(tests, _ordered_names(row, column))
    clips = {file for test in tests for file in test.files.tolist()}
    tested = {file for test, own in seeds for file in test.files[own].tolist()}
    caveats = (*(row.caveats if tested else ()), *(row.elsewhere if len(tested) < len(clips) else ()))
    scores = {name: estimates[name] for name in ("accuracy", "uar")}
    return Cell(labels, "", scores, len(clips), len(tested), caveats)

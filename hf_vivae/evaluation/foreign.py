"""Predictions of other programs, read from CSV or Parquet and written as run folders that evaluation reads.

A file has a row for each clip: `file`, `label` (the true one) and `p_<label>` for each label; and if they are known,
`speaker`, `fold`, `seed` and `split` (train, validation or test). Rows are counted from 1, without the header.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .. import run_folder
from ..files import make_folder, read_json, read_table, write_json
from ..splits.folds import PARTS
from ..validation import UserError, did_you_mean
from ..version import __version__
from .runs import FOREIGN, EvaluationSet, FoldFolder

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".parquet")
PREFIX = "p_"
OPTIONAL = ("speaker", "fold", "seed", "split")
OF_PREDICT = {"probability", "duration_used"}  # columns of `hf-vivae predict`, whose label is the predicted one
TOLERANCE = 0.02  # of the sum of a clip's probabilities, which may be rounded to two digits
SMALLEST = 1e-30  # in place of a probability of 0, which has no logarithm
CAVEAT = "predicted by another program, and it is not known which clips trained and selected its model"


@dataclass(frozen=True)
class ForeignClip:
    """One row of a file of predictions.

    Args:
        row: its number.
        file: name of the clip.
        label: the true label.
        probabilities: in the order of the labels of the file, `(labels,)`.
        speaker: None where it is unknown.
        fold: None where the file has none, as the seed.
        seed: of the model that predicted it.
        part: of the fold: "train", "validation" or "test".
    """

    row: int
    file: str
    label: str
    probabilities: np.ndarray
    speaker: str | None
    fold: str | None
    seed: str | None
    part: str


def is_foreign(path: Path) -> bool:
    """Return whether a path that is given to an evaluation is that of a file of predictions, by its name."""
    return path.suffix in SUFFIXES and not path.is_dir()


def read_foreign(file: Path) -> tuple[tuple[str, ...], list[ForeignClip]]:
    """Return the labels of a file of predictions, sorted, and its clips.

    Args:
        file: a `.csv` or `.parquet` file.

    Raises:
        UserError: for a file that cannot be read, lacks columns or values, contains the output of `hf-vivae predict`,
            or has labels without probabilities or values that are no probabilities; with the number of the row.
    """
    if not file.is_file():
        raise UserError(f"expected a file of predictions, found no file {file}; check the path.")
    rows = read_table(file)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    labels = tuple(sorted(column.removeprefix(PREFIX) for column in columns if column.startswith(PREFIX)))
    missing = [name for name in ("file", "label") if name not in columns]
    missing += [] if len(labels) > 1 else [f"{PREFIX}<label> for two labels or more"]
    if missing:
        raise UserError(
            f"expected the columns file, label and {PREFIX}<label> in {file}, found no {' and no '.join(missing)} "
            f"among {', '.join(columns) or 'no rows'}; rename its columns, or add them."
        )
    if {*columns} >= OF_PREDICT:
        raise UserError(
            f"expected the true label of each clip in the column label of {file}, found the output of hf-vivae "
            "predict, whose label is the predicted one; write the true labels there, without the column probability."
        )
    known = ("file", "label", *OPTIONAL)
    if unused := [column for column in columns if column not in known and not column.startswith(PREFIX)]:
        logger.warning("%s: these columns are not used: %s.", file, ", ".join(unused))
    clips = []
    for number, (row, of_row) in enumerate(zip(rows, _probabilities(file, rows, labels), strict=True), start=1):
        values = {name: None if row.get(name) is None else str(row[name]).strip() or None for name in known}
        needed = [name for name in known if name in columns and name != "speaker"]
        if empty := [name for name in needed if values[name] is None]:
            raise UserError(f"{file}, row {number}: expected a {empty[0]}, found none; add it, or remove the row.")
        if values["label"] not in labels:
            raise UserError(
                f"{file}, row {number}: expected a label with a column of probabilities ({', '.join(labels)}), found "
                f"{values['label']!r}{did_you_mean(values['label'], labels)}; correct it, or add its column."
            )
        part = values.pop("split") or "test"
        if part not in PARTS:
            raise UserError(
                f"{file}, row {number}: expected {', '.join(PARTS[:-1])} or {PARTS[-1]} as split, found {part!r}; "
                "correct it."
            )
        clips.append(ForeignClip(row=number, probabilities=of_row, part=part, **values))
    if all(clip.part != "test" for clip in clips):
        raise UserError(f"expected clips of the split test in {file}, found none; add them.")
    return labels, clips


def _probabilities(file: Path, rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> np.ndarray:
    """Return the probabilities, `(rows, labels)`."""
    values = np.empty((len(rows), len(labels)))
    for index, row in enumerate(rows):
        for column, label in enumerate(labels):
            value = row[f"{PREFIX}{label}"]
            try:
                values[index, column] = float(value)
            except (TypeError, ValueError):
                values[index, column] = math.nan
            if not math.isfinite(values[index, column]):
                raise UserError(
                    f"{file}, row {index + 1}: expected a probability in {PREFIX}{label}, found {value!r}; correct "
                    "it, or remove the row."
                )
    sums = values.sum(axis=1)
    wrong = (values < 0).any(axis=1) | (abs(sums - 1) > TOLERANCE)
    if wrong.any():
        index = int(wrong.argmax())
        remedy = "write probabilities, shares and not percent"
        if (values < 0).any() or not np.allclose(sums, 100, atol=100 * TOLERANCE):
            remedy = "these look like logits, of which the softmax is needed"
        negative = values[index].min() < 0
        found = f"{values[index].min():g}" if negative else f"a sum of {sums[index]:g}"
        raise UserError(
            f"{file}, row {index + 1}: expected probabilities of 0 or more with a sum of 1, found {found} (as in "
            f"{wrong.sum()} of {len(rows)} rows); {remedy}."
        )
    return values


class RunClips:
    """Clips of runs with the same corpus, task, protocol and labels.

    Args:
        folders: of their folds.
    """

    def __init__(self, folders: Sequence[FoldFolder]) -> None:
        self.clips, self.labels = folders[0].clips, folders[0].labels
        self._folders: dict[str, dict[str, FoldFolder]] = {}
        for folder in folders:
            self._folders.setdefault(folder.seed, {}).setdefault(folder.fold, folder)
        self.corpus = read_json(folders[0].path / "run.json")["corpus"]
        self.seeds = list(self._folders)

    def read(self, seed: str) -> dict[str, dict[str, Any]]:
        """Return a row of `predictions.parquet` for each clip, with the fold that tests it with this seed, or None."""
        clips: dict[str, dict[str, Any]] = {}
        for fold in self._folders[seed].values():
            for row in run_folder.read_predictions(fold.path):
                clip = clips.setdefault(row["file"], {**row, "fold": None})
                if row["split"] == "test":
                    clip["fold"] = fold.fold
        return clips


def write_foreign(files: Sequence[Path], folders: Sequence[FoldFolder], output: Path) -> list[Path]:
    """Write files of predictions as run folders, one for each seed and fold, and return their paths.

    A file whose clips are those of runs becomes a system of their table: it takes the corpus, the folds, and the
    digests, durations and intensities of the clips from them. Any other file is in a table of its own, with other
    files of the same clips and number of folds.

    Args:
        files: `.csv` or `.parquet`.
        folders: finished folds to compare them with.
        output: the folders are made in it.

    Raises:
        UserError: see `read_foreign`; for a clip that occurs twice; and for a file that shares clips with runs but
            has other labels, speakers, seeds or folds, or lacks clips that they test.
    """
    by_clips: dict[tuple[EvaluationSet, tuple[str, ...]], list[FoldFolder]] = {}
    for folder in folders:
        by_clips.setdefault((folder.clips, folder.labels), []).append(folder)
    tables = [RunClips(group) for group in by_clips.values()]
    paths = []
    for file in files:
        labels, clips = read_foreign(file)
        runs, rows = _match(file, labels, clips, tables)
        if runs is None:
            if tables:
                logger.warning("%s has no clip of the runs, and is not compared with them.", file)
            about = _own_clips(rows, labels)
            corpus = {"name": about.corpus, "clips": about.clips, "digest": about.digest, "problems": []}
        else:
            labels, about, corpus = runs.labels, runs.clips, runs.corpus
        paths += _write_folds(file, rows, labels, about, corpus, output)
    return paths


def _match(
    file: Path, labels: tuple[str, ...], clips: Sequence[ForeignClip], tables: Sequence[RunClips]
) -> tuple[RunClips | None, list[dict[str, Any]]]:
    """Return the runs that test the clips of a file, None where none have them, and its rows of predictions."""
    matches, refusals = [], []
    for runs in tables:
        try:
            if rows := _rows_of_runs(file, labels, clips, runs):
                matches.append((runs, rows))
        except UserError as problem:
            refusals.append(problem)
    if len(matches) > 1:
        titles = "; ".join(runs.clips.title for runs, _ in matches)
        raise UserError(
            f"expected {file} to belong to the runs of one table, found that those of several test its clips "
            f"({titles}); add the column fold, or give the runs of one table."
        )
    if refusals and not matches:
        raise refusals[0]
    return matches[0] if matches else (None, _own_rows(file, labels, clips))


def _own_rows(file: Path, labels: Sequence[str], clips: Sequence[ForeignClip]) -> list[dict[str, Any]]:
    rows = [
        _row(clip, labels, clip.probabilities, {"seed": clip.seed or "none", "fold": clip.fold or "all"})
        for clip in clips
    ]
    _check_folds(file, rows)
    return rows


def _own_clips(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> EvaluationSet:
    tested = [row for row in rows if row["split"] == "test"]
    content = sorted({(row["file"], labels[row["label"]]) for row in tested})
    digest = hashlib.sha256(json.dumps([content, list(labels)]).encode()).hexdigest()[:16]
    number = len({row["fold"] for row in tested})
    return EvaluationSet("other", len(content), "classification", run_folder.OTHER_FOLDS, number, digest)


def _rows_of_runs(
    file: Path, labels: Sequence[str], clips: Sequence[ForeignClip], runs: RunClips
) -> list[dict[str, Any]]:
    """Return rows of predictions with what runs know of their clips; an empty list where they have none of them."""
    by_seed: dict[str, list[ForeignClip]] = {}
    for clip in clips:
        by_seed.setdefault(clip.seed or runs.seeds[0], []).append(clip)
    known = {seed: runs.read(seed if seed in runs.seeds else runs.seeds[0]) for seed in by_seed}
    names = {seed: [_find(clip.file, known[seed]) for clip in of_seed] for seed, of_seed in by_seed.items()}
    if not any(map(any, names.values())):
        return []
    if unknown := [seed for seed in by_seed if seed not in runs.seeds]:
        raise UserError(
            f"expected in {file} seeds of the runs ({', '.join(runs.seeds)}), found {unknown[0]}; correct the column "
            "seed, or give the file without these runs."
        )
    if {*labels} != {*runs.labels}:
        raise UserError(
            f"expected in {file} a column {PREFIX}<label> for each label of the runs ({', '.join(runs.labels)}), "
            f"found those of {', '.join(labels)}; rename its columns and labels."
        )
    order = [labels.index(name) for name in runs.labels]
    rows = []
    for seed, of_seed in by_seed.items():
        for clip, name in zip(of_seed, names[seed], strict=True):
            of_run = known[seed].get(name, {})
            _check_clip(file, clip, of_run, runs)
            speaker, fold = of_run.get("speaker") or clip.speaker, clip.fold or of_run.get("fold")
            described = {**of_run, "file": name or clip.file, "seed": seed, "fold": fold, "speaker": speaker}
            rows.append(_row(clip, runs.labels, clip.probabilities[order], described))
    _check_folds(file, rows)
    for seed in by_seed:
        _check_complete(file, [row for row in rows if row["seed"] == seed and row["split"] == "test"], known[seed])
    return rows


def _find(file: str, known: Iterable[str]) -> str | None:
    """Return the name of a clip of the runs, which other programs often write after the path of the corpus."""
    parts = PurePosixPath(file.replace("\\", "/")).parts
    names = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((name for name in (file, *names) if name in known), None)


def _check_clip(file: Path, clip: ForeignClip, of_run: Mapping[str, Any], runs: RunClips) -> None:
    """Refuse a clip with another label, speaker or fold than in the runs, and one that they do not test."""
    tested = clip.part == "test"
    if not (tested or clip.fold):
        raise UserError(
            f"{file}, row {clip.row}: expected a column fold together with the split {clip.part}, found none; add it."
        )
    if tested and of_run.get("fold") is None:
        raise UserError(
            f"{file}, row {clip.row}: expected a clip that the runs test, found {clip.file}; remove its row, or state "
            "in a column split that it trains or validates."
        )
    pairs = [("label", clip.label, runs.labels[of_run["label"]] if of_run else None)]
    pairs += [("speaker", clip.speaker, of_run.get("speaker"))]
    pairs += [("fold", clip.fold, of_run.get("fold"))] if tested else []
    for name, value, expected in pairs:
        if value and expected and value != expected:
            raise UserError(
                f"{file}, row {clip.row}: expected the {name} {expected} of {clip.file}, as in the runs, found "
                f"{value}; correct it, or give the file without these runs."
            )


def _check_complete(file: Path, rows: Sequence[Mapping[str, Any]], known: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a file that lacks clips of the folds that it has, of which a score would be one of other clips."""
    folds, present = {row["fold"] for row in rows}, {row["file"] for row in rows}
    missing = [name for name, clip in known.items() if clip["fold"] in folds and name not in present]
    if missing:
        raise UserError(
            f"expected in {file} all clips that the runs test in its folds, found no row of {len(missing)} (first: "
            f"{min(missing)}); add them, or give the file without these runs."
        )


def _check_folds(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a clip with two rows in one fold, one that two folds test, and a fold without test clips."""
    seen: dict[tuple[str, ...], int] = {}
    for row in rows:
        keys = [(row["seed"], row["file"], row["fold"])]
        if row["split"] == "test":
            keys.append((row["seed"], row["file"]))
        if first := next((seen[key] for key in keys if key in seen), None):
            raise UserError(
                f"expected each clip once in a fold and in one test part of a seed in {file}, found {row['file']} in "
                f"row {first} and row {row['row']}; remove one of them, or add a column seed, fold or split."
            )
        seen |= dict.fromkeys(keys, row["row"])
    tested = {(row["seed"], row["fold"]) for row in rows if row["split"] == "test"}
    if other := next((row for row in rows if (row["seed"], row["fold"]) not in tested), None):
        raise UserError(
            f"{file}, row {other['row']}: expected a fold with test clips, found none in {other['fold']}; add "
            "them, or remove its rows."
        )


def _row(
    clip: ForeignClip, labels: Sequence[str], probabilities: np.ndarray, described: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a row of predictions; `described` has its seed and fold, and what else is known of the clip."""
    logits = np.log(np.maximum(probabilities, SMALLEST))  # whose softmax are the probabilities
    row = {"file": clip.file, "speaker": clip.speaker, **described, "row": clip.row, "split": clip.part}
    return {**row, "label": labels.index(clip.label), "logits": logits.tolist()}


def _write_folds(
    file: Path,
    rows: Sequence[dict[str, Any]],
    labels: Sequence[str],
    clips: EvaluationSet,
    corpus: Mapping[str, Any],
    output: Path,
) -> list[Path]:
    path_digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    run = {"model": file.stem, "recipe": "none", "as_coded": [], "model_config": {}, FOREIGN: str(file.resolve())}
    paths = []
    for number, (seed, fold) in enumerate(dict.fromkeys((row["seed"], row["fold"]) for row in rows), start=1):
        of_fold = [row for row in rows if (row["seed"], row["fold"]) == (seed, fold)]
        folder = output / f"{file.stem[:100]}-{path_digest}-{number}"
        make_folder(folder)
        (folder / "results.json").unlink(missing_ok=True)  # of an earlier evaluation, written last
        run_folder.write_predictions(folder, of_fold)
        record = {
            "run": {**run, "task": clips.task, "protocol": clips.protocol},
            "training": {"seed": seed, "data_seed": None},
            "corpus": corpus,
            "environment": {"hf_vivae": __version__},
            "seconds": None,
            "fold": {part: [row["file"] for row in of_fold if row["split"] == part] for part in PARTS},
        }
        write_json(folder / "run.json", record)
        results = {"fold": fold, "of_folds": clips.of_folds, "labels": list(labels), "selection": None}
        write_json(folder / "results.json", results | {"habits": [CAVEAT]})
        paths.append(folder)
    return paths

"""Finished folds of run folders, and their predictions as arrays."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..files import read_json
from ..run_folder import BEFORE, OTHER_CLIPS, SCORED, VOLATILE
from ..splits.protocols import PROTOCOLS
from ..validation import UserError

NEEDED = ("results.json", "predictions.parquet")
RECORD_KEYS = ("run", "training", "corpus", "environment", "seconds")
RESULT_KEYS = ("fold", "of_folds", "labels", "selection", "habits")
SEEDS = ("seed", "data_seed")
# what tells groups of runs apart; the corpus's digest stands for all that picks clips, such as a path of one machine
GROUPING = (
    "task", "protocol", "data", "data_dir", "data_url", "subset", "allow_partial", "on_bad_audio", "speaker_pattern",
    "synthetic_seed",
)  # fmt: skip
WATCHING = ("run_name", "report_to")

Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True, order=True)
class EvaluationSet:
    """What a table may not mix: other clips, other labels, or another way to split them.

    Args:
        corpus: its name.
        clips: how many it has.
        task: what the labels are.
        protocol: how the clips are split.
        of_folds: into how many folds.
        digest: what tells the corpus, its speakers and labels from others.
    """

    corpus: str
    clips: int
    task: str
    protocol: str
    of_folds: int
    digest: str


@dataclass(frozen=True)
class FoldFolder:
    """A finished run folder, without its lists of clips.

    Args:
        path: where it lies.
        fold: name of its fold.
        clips: corpus, task and protocol.
        settings: all that was set but for seeds, and the version of hf_vivae; values as JSON.
        seed: of training and split, and of the order of clips where that has its own.
        labels: names of the labels, in the order of the logits.
        selection: the score and the clips that chose the epoch or the settings, or "none".
        habits: sentences on what the scores owe to habits of publications.
        problems: number of files that the corpus lacked or left out.
        seconds: how long it took.
    """

    path: Path
    fold: str
    clips: EvaluationSet
    settings: Settings
    seed: str
    labels: tuple[str, ...]
    selection: str
    habits: tuple[str, ...]
    problems: int
    seconds: float


def find_folders(places: Sequence[Path]) -> tuple[list[FoldFolder], list[str]]:
    """Finished folds, and a sentence for each run folder that is left out.

    Left out is what is no finished fold, holds one a second time, or is of a run that tests a clip twice. The
    scorings of an evaluation (`runs.SCORED`) are passed over, unless they or the folder around them are given.

    Args:
        places: folders that are run folders or hold some.

    Raises:
        ValueError: for a place that is no folder, and where no run folder is found, or no finished one.
    """
    from tqdm import tqdm

    found: dict[tuple, FoldFolder] = {}
    left_out = []
    for path, below_scored in tqdm(_run_folders(places).items(), desc="finding runs", unit="folder", delay=1):
        try:
            folder = _read(path)
            if folder is None or (below_scored and folder.clips.protocol == OTHER_CLIPS):
                continue
            first = found.setdefault((folder.clips, folder.settings, folder.seed, folder.fold), folder)
            if first is not folder:
                raise UserError(f"{first.path} holds the same fold of the same run; remove one of them")
        except UserError as problem:
            left_out.append(f"{path} is left out: {str(problem).rstrip('.')}.")
    kept = []
    for folds in by_run(found.values()):
        try:
            _check_tests(folds)
            kept += folds
        except UserError as problem:
            left_out.append(f"{folds[0].path} and all folds of its run are left out: {str(problem).rstrip('.')}.")
    if not kept:
        where = ", ".join(map(str, places))
        others = f"{len(left_out)} that cannot be used; {left_out[0]}" if left_out else "none; give those of train.py."
        raise UserError(f"expected run folders of finished trainings in {where}, found {others}")
    return kept, left_out


def _run_folders(places: Sequence[Path]) -> dict[Path, bool]:
    """Folders with `run.json`, each once, and whether each was only found in the `runs.SCORED` of a folder."""
    found: dict[Path, tuple[Path, bool]] = {}
    for place in places:
        if not place.is_dir():
            raise UserError(f"expected a folder with runs, found no folder {place}; check the path.")
        for file in sorted(place.rglob("run.json")):
            parts = file.relative_to(place).parts
            if any(part.startswith(".") for part in parts):  # a half-written copy
                continue
            path, before = found.get(file.resolve(), (file.parent, True))
            found[file.resolve()] = path, before and parts[-3:-2] == (SCORED,)
    return dict(found.values())


def by_run(folders: Iterable[FoldFolder]) -> list[list[FoldFolder]]:
    """Folds of the same clips, settings and seed together."""
    runs: dict[tuple, list[FoldFolder]] = defaultdict(list)
    for folder in folders:
        runs[folder.clips, folder.settings, folder.seed].append(folder)
    return list(runs.values())


def _check_tests(folds: Sequence[FoldFolder]) -> None:
    """Refuse folds of a run that test a clip twice, as those that two machines have drawn differently may.

    Raises:
        ValueError: naming two folds and the first clip of both.
    """
    tested: dict[str, tuple[FoldFolder, str]] = {}  # by name and by sound
    count = 0
    for fold in folds:
        clips = read_sounds(fold.path, "test")
        for file, sound in clips:
            for key in (file, sound):
                if key in tested:
                    raise UserError(_say_twice(*tested[key], fold, file))
        tested |= {key: (fold, file) for file, sound in clips for key in (file, sound) if key}
        count += len(clips)
    clips = folds[0].clips
    is_whole = (
        clips.protocol in PROTOCOLS and PROTOCOLS[clips.protocol].tests_every_clip and len(folds) == clips.of_folds
    )
    if count > clips.clips or (is_whole and count < clips.clips):
        raise UserError(
            f"expected the {clips.clips} clips of the corpus in all test parts, found {count}; train the run again"
        )


def _say_twice(first: FoldFolder, file: str, second: FoldFolder, again: str) -> str:
    if file == again:
        return (
            f"expected folds that test different clips, found {file} in {first.fold} and in {second.fold} "
            f"({second.path}); train both again in one environment"
        )
    return (
        f"expected folds that test different clips, found {file} of {first.fold} in {second.fold} ({second.path}) as "
        f"{again}; remove the copies from the corpus or give --duplicates keep_together, and train the run again"
    )


def _read(path: Path) -> FoldFolder | None:
    """A finished fold; None for the folder around a run's folds.

    Raises:
        ValueError: saying why it cannot be used.
    """
    record = read_json(path / "run.json")
    if "fold" not in record:
        if any(path.glob("*/run.json")):
            return None
        raise UserError("expected the folders of a run's folds in it, found none; repeat its command")
    missing = [name for name in NEEDED if not (path / name).is_file()]
    if missing:
        raise UserError(f"expected a finished run, found no {' and no '.join(missing)}; repeat its command")
    results = read_json(path / "results.json")
    _check_keys(record, RECORD_KEYS, "run.json")
    _check_keys(results, RESULT_KEYS, "results.json")
    if read_part([path], "test") is None:
        raise UserError("expected test clips in predictions.parquet, found none; train the run again")
    try:
        return _fold_folder(path, record, results)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"expected run.json and results.json of a run, found no {error} in one of them; train the run again"
        ) from error


def _say_selection(chosen: dict[str, Any] | None) -> str:
    if chosen is None:
        return "none"
    # of a probe, whose weights are then fitted on these clips too
    trained = ", then trained on both" if chosen.get("refit") and chosen["on"] == "validation" else ""
    return f"{chosen['metric']} on {chosen['on']}{trained}"


def _check_keys(content: dict[str, Any], keys: Iterable[str], file: str) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"expected {', '.join(keys)} in {file}, found no {', '.join(missing)}; train the run again")


def _fold_folder(path: Path, record: dict[str, Any], results: dict[str, Any]) -> FoldFolder:
    corpus, run, training = record["corpus"], record["run"], record["training"]
    ignored = {*VOLATILE, *GROUPING, *SEEDS, *WATCHING}
    kept = {name: value for name, value in {**BEFORE, **run, **training}.items() if name not in ignored}
    kept["hf_vivae"] = record["environment"]["hf_vivae"]
    return FoldFolder(
        path=path,
        fold=results["fold"],
        clips=EvaluationSet(
            corpus["name"], corpus["clips"], run["task"], run["protocol"], results["of_folds"], corpus["digest"]
        ),
        settings=tuple(sorted((name, json.dumps(value, sort_keys=True)) for name, value in kept.items())),
        seed="/".join(str(training[name]) for name in SEEDS if training[name] is not None),
        labels=tuple(results["labels"]),
        selection=_say_selection(results["selection"]),
        habits=tuple(results["habits"]),
        problems=len(corpus["problems"]),
        seconds=record["seconds"],
    )


COLUMNS = ("file", "label", "logits", "fold", "speaker", "intensity", "duration")


@dataclass(frozen=True)
class Predictions:
    """Clips of one part (test, validation or train) of a run, over all its folds, sorted by file and fold.

    Args:
        files: name of each clip, `(clips,)`.
        labels: index of its label, `(clips,)`.
        logits: `(clips, labels)`.
        folds: name of the fold that predicted it, `(clips,)`.
        speakers: `(clips,)`; "" where unknown.
        intensities: `(clips,)`; "" where unknown.
        durations: in seconds, `(clips,)`; NaN where unknown.
    """

    files: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    folds: np.ndarray
    speakers: np.ndarray
    intensities: np.ndarray
    durations: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    @property
    def predicted(self) -> np.ndarray:
        """Index of the label with the largest logit, of equal ones the first, `(clips,)`."""
        return self.logits.argmax(axis=1)


def read_part(folders: Sequence[Path], part: str) -> Predictions | None:
    """Clips of one part from the run folders of a run's folds; None where no fold has that part.

    Args:
        folders: of the folds, each with `predictions.parquet`.
        part: `train`, `validation` or `test`.

    Raises:
        ValueError: for a damaged file, or one that was written without speakers, intensities and durations.
    """
    table = pa.concat_tables([_read_columns(folder / "predictions.parquet", part) for folder in folders])
    if not len(table):
        return None
    table = table.sort_by([("file", "ascending"), ("fold", "ascending")])
    texts = {name: np.array([text or "" for text in table[name].to_pylist()]) for name in ("speaker", "intensity")}
    return Predictions(
        files=np.array(table["file"].to_pylist()),
        labels=table["label"].to_numpy(),
        logits=table["logits"].combine_chunks().flatten().to_numpy().reshape(len(table), -1).astype(np.float64),
        folds=np.array(table["fold"].to_pylist()),
        speakers=texts["speaker"],
        intensities=texts["intensity"],
        durations=table["duration"].cast(pa.float64()).to_numpy().astype(float),
    )


def read_sounds(folder: Path, part: str) -> list[tuple[str, str | None]]:
    """Name of each clip of one part of a fold, and the digest of its sound; None where the fold was written without.

    Args:
        folder: of the fold, with `predictions.parquet`.
        part: `train`, `validation` or `test`.

    Raises:
        ValueError: see `read_part`.
    """
    rows = _read_columns(folder / "predictions.parquet", part, ("file",), ("digest",)).to_pylist()
    return [(row["file"], row.get("digest")) for row in rows]


def _read_columns(file: Path, part: str, needed: Sequence[str] = COLUMNS, wanted: Sequence[str] = ()) -> pa.Table:
    """Rows of one part with the needed columns, and of the wanted ones those that there are."""
    try:
        found = pq.read_schema(file).names
        if not (missing := [name for name in needed if name not in found]):
            columns = [*needed, *(name for name in wanted if name in found)]
            return pq.read_table(file, columns=columns, filters=[("split", "=", part)])
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"expected the predictions of a run in {file}, found a damaged file ({reason}); train the run again."
        ) from error
    raise UserError(
        f"expected the columns {', '.join(needed)} in {file}, found no {', '.join(missing)}; train the run again."
    )

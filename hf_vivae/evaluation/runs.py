"""Run folders: finished folds, checked, and their predictions as arrays."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..corpus.schema import with_label_map
from ..files import read_json
from ..run_folder import BEFORE, OTHER_CLIPS, SCORED, VOLATILE
from ..splits.protocols import PROTOCOLS
from ..validation import UserError

NEEDED = ("run.json", "results.json", "predictions.parquet")
RECORD_KEYS = (
    "run.task", "run.protocol", "training.seed", "training.data_seed", "corpus.name", "corpus.clips", "corpus.digest",
    "corpus.problems", "environment.hf_vivae", "seconds",
)  # fmt: skip
RESULT_KEYS = ("fold", "of_folds", "labels", "selection", "habits")
SEEDS = ("seed", "data_seed")
# settings that make groups of runs; the corpus's digest stands for all that selects clips, such as a local path
GROUPING = (
    "task", "protocol", "data", "data_dir", "data_url", "subset", "allow_partial", "categories", "dataset_name",
    "dataset_config", "dataset_split", "dataset_revision", "audio_column", "label_column", "speaker_column",
    "label_map", "on_bad_audio", "speaker_pattern", "synthetic_seed", "annotations", "tier", "speaker_tier",
)  # fmt: skip
WATCHING = ("run_name", "report_to")
COLUMNS = ("file", "label", "logits", "fold", "speaker", "intensity", "duration")
FOREIGN = "predictions"  # the setting of predictions of other programs that names their file

Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True, order=True)
class EvaluationSet:
    """Clips, labels and splits that all systems of a table share.

    Args:
        corpus: its name.
        clips: number of its clips.
        task: name of the task, which decides the labels.
        protocol: name of the protocol, which splits the clips.
        of_folds: number of folds of the protocol.
        digest: of the clips of the corpus, with their speakers and labels, and of the lines of the label map.
        label_map: name of the map that the labels are by; empty for the labels of the source.
    """

    corpus: str
    clips: int
    task: str
    protocol: str
    of_folds: int
    digest: str
    label_map: str = ""

    @property
    def title(self) -> str:
        """Clips, task and protocol, for titles and captions."""
        folds = "one fold" if self.of_folds == 1 else f"{self.of_folds} folds"
        clips = with_label_map(f"{self.clips} {self.corpus} clips", self.label_map)
        return f"{clips}, {self.task}, {self.protocol} ({folds})"

    @property
    def slug(self) -> str:
        """Name of the folders with the tables and pictures of a group of systems on these clips."""
        corpus = self.corpus.replace("/", "--")  # of a Hub id
        return f"{corpus}-{self.task}-{self.protocol}-{self.of_folds}-{self.digest[:8]}"


@dataclass(frozen=True)
class FoldFolder:
    """A finished run folder, without its lists of clips.

    Args:
        path: of the folder.
        fold: name of its fold.
        clips: corpus, task and protocol.
        settings: all settings but seeds, and the version of hf_vivae; values as JSON.
        seed: of training and split, and of the order of clips where it has a seed of its own.
        labels: names of the labels, in the order of the logits.
        selection: the score and the clips that selected the epoch or the settings, or "none".
        caveats: sentences on practices of publications that affect the scores.
        problems: number of files that the corpus lacked or left out.
        seconds: duration of the run; None for predictions of another program.
    """

    path: Path
    fold: str
    clips: EvaluationSet
    settings: Settings
    seed: str
    labels: tuple[str, ...]
    selection: str
    caveats: tuple[str, ...]
    problems: int
    seconds: float | None

    @property
    def is_foreign(self) -> bool:
        """True for predictions of another program."""
        return FOREIGN in dict(self.settings)


def find_folders(paths: Sequence[Path]) -> tuple[list[FoldFolder], list[str]]:
    """Return the finished folds below some folders, and a sentence for each run folder that is left out.

    A folder is left out if it is no finished fold, has the same fold as another folder, or belongs to a run that tests
    a clip twice. Scored checkpoints and predictions of other programs of an evaluation (`run_folder.SCORED`) are
    ignored, unless they or their parent folder are given.

    Args:
        paths: run folders, or folders that contain some at any depth.

    Raises:
        UserError: a path is no folder, or no finished run folder is found.
    """
    from tqdm import tqdm

    folders: dict[tuple, FoldFolder] = {}
    left_out = []
    for path, only_scored in tqdm(_run_folders(paths).items(), desc="finding runs", unit="folder", delay=1):
        try:
            folder = _read_fold(path)
            if folder is None or (only_scored and (folder.clips.protocol == OTHER_CLIPS or folder.is_foreign)):
                continue
            first = folders.setdefault((folder.clips, folder.settings, folder.seed, folder.fold), folder)
            if first is not folder:
                raise UserError(f"{first.path} has the same fold of the same run; remove one of them")
        except UserError as problem:
            left_out.append(f"{path} is left out: {str(problem).rstrip('.')}.")
    usable = []
    for folds in by_run(folders.values()):
        try:
            _check_tests(folds)
            usable += folds
        except UserError as problem:
            left_out.append(f"{folds[0].path} and all folds of its run are left out: {str(problem).rstrip('.')}.")
    if not usable:
        found = f"{len(left_out)} that cannot be used; {left_out[0]}" if left_out else "none; give those of train.py."
        raise UserError(f"expected run folders of finished trainings in {', '.join(map(str, paths))}, found {found}")
    return usable, left_out


def _run_folders(paths: Sequence[Path]) -> dict[Path, bool]:
    """Return each folder with a `run.json` once, and whether it was only found in the `SCORED` of another folder."""
    folders: dict[Path, tuple[Path, bool]] = {}
    for root in paths:
        if not root.is_dir():
            raise UserError(f"expected a folder with runs, found no folder {root}; check the path.")
        for file in sorted(root.rglob("run.json")):
            parts = file.relative_to(root).parts
            if any(part.startswith(".") for part in parts):  # a half-written copy
                continue
            path, only_scored = folders.get(file.resolve(), (file.parent, True))
            folders[file.resolve()] = path, only_scored and parts[-3:-2] == (SCORED,)
    return dict(folders.values())


def by_run(folders: Iterable[FoldFolder]) -> list[list[FoldFolder]]:
    """Return the folds of each run: those with the same clips, settings and seed."""
    runs: dict[tuple, list[FoldFolder]] = defaultdict(list)
    for folder in folders:
        runs[folder.clips, folder.settings, folder.seed].append(folder)
    return list(runs.values())


def _check_tests(folds: Sequence[FoldFolder]) -> None:
    """Refuse a run that tests a clip twice, as when two machines drew the folds of one seed differently.

    Raises:
        UserError: naming two folds and the first clip of both.
    """
    tested: dict[str, tuple[FoldFolder, str]] = {}  # by name and by digest
    count = 0
    for fold in folds:
        clips = read_digests(fold.path, "test")
        for file, digest in clips:
            for first, name in (tested[key] for key in (file, digest) if key in tested):
                if file == name:
                    raise UserError(
                        f"expected folds that test different clips, found {file} in {first.fold} and in {fold.fold} "
                        f"({fold.path}); train both again in one environment"
                    )
                raise UserError(
                    f"expected folds that test different clips, found {name} of {first.fold} in {fold.fold} "
                    f"({fold.path}) as {file}; remove the copies from the corpus or give --duplicates keep_together, "
                    "and train the run again"
                )
        tested |= {key: (fold, file) for file, digest in clips for key in (file, digest) if key}
        count += len(clips)
    clips = folds[0].clips
    protocol = PROTOCOLS.get(clips.protocol)
    is_whole = protocol is not None and protocol.tests_every_clip and len(folds) == clips.of_folds
    if count > clips.clips or (is_whole and count < clips.clips):
        raise UserError(
            f"expected the {clips.clips} clips of the corpus in all test parts, found {count}; train the run again"
        )


def _read_fold(path: Path) -> FoldFolder | None:
    """Return a finished fold; None for the folder of a run with several folds, which contains their folders."""
    if "fold" not in read_json(path / "run.json"):
        if any(path.glob("*/run.json")):
            return None
        raise UserError("expected the folders of a run's folds in it, found none; repeat its command")
    record, results = read_run(path)
    corpus, run, training, selection = record["corpus"], record["run"], record["training"], results["selection"]
    ignored = {*VOLATILE, *GROUPING, *SEEDS, *WATCHING}
    settings = {name: value for name, value in {**BEFORE, **run, **training}.items() if name not in ignored}
    settings["hf_vivae"] = record["environment"]["hf_vivae"]
    digest, label_map = corpus["digest"], ""
    if "label_map" in corpus:  # the digest has the positions of labels only, and two maps may name them differently
        label_map, lines = corpus["label_map"]["name"], json.dumps(corpus["label_map"]["targets"], sort_keys=True)
        digest = hashlib.sha256(f"{digest} {lines}".encode()).hexdigest()[:16]
    selected_by = "none"
    if selection is not None:
        selected_by = f"{selection['metric']} on {selection['on']}"
        if selection.get("refit") and selection["on"] == "validation":  # a probe is then fitted on these clips too
            selected_by += ", then trained on both"
    return FoldFolder(
        path=path,
        fold=results["fold"],
        clips=EvaluationSet(
            corpus["name"], corpus["clips"], run["task"], run["protocol"], results["of_folds"], digest, label_map
        ),
        settings=tuple(sorted((name, json.dumps(value, sort_keys=True)) for name, value in settings.items())),
        seed="/".join(str(training[name]) for name in SEEDS if training[name] is not None),
        labels=tuple(results["labels"]),
        selection="not known" if FOREIGN in run else selected_by,
        caveats=tuple(results["habits"]),
        problems=len(corpus["problems"]),
        seconds=record["seconds"],
    )


def read_run(folder: Path, needed: Sequence[str] = NEEDED) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the contents of `run.json` and `results.json` of a finished fold.

    Args:
        folder: run folder of a fold.
        needed: names of the files that it must have.

    Raises:
        UserError: a file is missing or damaged, a key is missing, or there are no predictions of test clips.
    """
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise UserError(f"expected a finished run, found no {' and no '.join(missing)}; repeat its command")
    record, results = read_json(folder / "run.json"), read_json(folder / "results.json")
    for content, keys, file in ((record, RECORD_KEYS, "run.json"), (results, RESULT_KEYS, "results.json")):
        if missing := [key for key in keys if not _has_key(content, key)]:
            raise UserError(
                f"expected the keys of a run in {file}, found no {', '.join(missing)}; train the run again"
            )
    if record.get("finished") is False:
        raise UserError("expected a finished run, found one that run.json calls unfinished; repeat its command")
    if read_part([folder], "test") is None:
        raise UserError("expected test clips in predictions.parquet, found none; train the run again")
    return record, results


def _has_key(content: Any, key: str) -> bool:
    """Return whether nested dictionaries have a key such as `corpus.name`."""
    for name in key.split("."):
        if not isinstance(content, dict) or name not in content:
            return False
        content = content[name]
    return True


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
    """Return the clips of one part of a run; None where no fold has that part.

    Args:
        folders: run folders of its folds, each with `predictions.parquet`.
        part: `train`, `validation` or `test`.

    Raises:
        UserError: a file is damaged, or was written without speakers, intensities and durations.
    """
    table = pa.concat_tables([_read_columns(folder / "predictions.parquet", part) for folder in folders])
    if not len(table):
        return None
    table = table.sort_by([("file", "ascending"), ("fold", "ascending")])
    speakers, intensities = (
        np.array([text or "" for text in table[name].to_pylist()]) for name in ("speaker", "intensity")
    )
    return Predictions(
        files=np.array(table["file"].to_pylist()),
        labels=table["label"].to_numpy(),
        logits=table["logits"].combine_chunks().flatten().to_numpy().reshape(len(table), -1).astype(np.float64),
        folds=np.array(table["fold"].to_pylist()),
        speakers=speakers,
        intensities=intensities,
        durations=table["duration"].cast(pa.float64()).to_numpy().astype(float),
    )


def read_digests(folder: Path, part: str) -> list[tuple[str, str | None]]:
    """Return the name of each clip of one part of a fold, and its digest; None where the fold was written without.

    Args:
        folder: run folder of the fold.
        part: `train`, `validation` or `test`.

    Raises:
        UserError: see `read_part`.
    """
    rows = _read_columns(folder / "predictions.parquet", part, ("file",), ("digest",)).to_pylist()
    return [(row["file"], row.get("digest")) for row in rows]


def _read_columns(file: Path, part: str, needed: Sequence[str] = COLUMNS, optional: Sequence[str] = ()) -> pa.Table:
    try:
        names = pq.read_schema(file).names
        if not (missing := [name for name in needed if name not in names]):
            columns = [*needed, *(name for name in optional if name in names)]
            return pq.read_table(file, columns=columns, filters=[("split", "=", part)])
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"expected the predictions of a run in {file}, found a damaged file ({reason}); train the run again."
        ) from error
    raise UserError(
        f"expected the columns {', '.join(needed)} in {file}, found no {', '.join(missing)}; train the run again."
    )

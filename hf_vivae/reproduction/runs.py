"""The run folders of a study, read and checked: what is incomplete or of another kind is named, not mixed in."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..models import MODELS
from ..run_folder import missing_files, read_predictions
from ..validation import UserError
from ..version import __version__

VARIANTS = ("paper", "as_coded", "tuned")
# folder below runs/ -> how deep its run folders lie in it
DEPTHS = {**dict.fromkeys(VARIANTS, 2), "audit": 2, "patches": 1}


@dataclass(frozen=True)
class Epoch:
    """Scores after an epoch, by the names of `ClassificationScores`; empty for clips that were not scored then.

    Args:
        epoch: counted from 1.
        train: loss, loss_sum (over batches, of their means) and accuracy while training, with dropout on.
        validation: scores of the validation clips.
        test: scores of the test clips, whether they were watched or selected on.
    """

    epoch: float
    train: dict[str, Any]
    validation: dict[str, Any]
    test: dict[str, Any]


@dataclass(frozen=True)
class StudyRun:
    """A finished run folder.

    Args:
        folder: where it lies.
        group: folder below `runs/`: a variant, `audit` or `patches`.
        model: a key of `MODELS`.
        seed: of training and split.
        name: its switch (`audit`) or patch (`patches`); None for a variant.
        record: content of `run.json`.
        results: content of `results.json`.
        history: entries of `history.jsonl`.
    """

    folder: Path
    group: str
    model: str
    seed: int
    name: str | None
    record: dict[str, Any]
    results: dict[str, Any]
    history: tuple[dict[str, Any], ...]

    def predictions(self) -> list[dict[str, Any]]:
        """Rows of file, label, logits, fold and split, one for each clip."""
        return read_predictions(self.folder)

    def epochs(self) -> list[Epoch]:
        """Scores of each epoch in order; none for a model that a solver fits."""
        selected = "test" if self.record["run"]["select_on"] == "test" else "validation"
        found: dict[float, dict[str, dict[str, Any]]] = {}
        for entry in self.history:
            part = {"loss": "train", "eval_loss": selected, "test_loss": "test"}
            for key in entry.keys() & part.keys():
                prefix = key.removesuffix("loss")
                scores = {name.removeprefix(prefix): value for name, value in entry.items() if name.startswith(prefix)}
                found.setdefault(entry["epoch"], {})[part[key]] = scores
        parts = ("train", "validation", "test")
        return [Epoch(epoch, *(found[epoch].get(part, {}) for part in parts)) for epoch in sorted(found)]

    def scored_epoch(self) -> Epoch | None:
        """The epoch whose weights `results.json` and `predictions.parquet` are of; None after a solver."""
        epochs, selection = self.epochs(), self.results["selection"]
        if selection is None:
            return epochs[-1] if epochs else None
        return next(epoch for epoch in epochs if epoch.epoch == selection["epoch"])


@dataclass(frozen=True)
class Collection:
    """What a report may speak of.

    Args:
        runs: finished runs of one corpus and one version, in the order of groups, `MODELS` and seeds.
        left_out: a sentence for each folder that is none of them.
    """

    runs: tuple[StudyRun, ...]
    left_out: tuple[str, ...]

    @property
    def corpus(self) -> str:
        """Name of the corpus; "no clips" without a run."""
        return self.runs[0].record["corpus"]["name"] if self.runs else "no clips"

    def of(self, *groups: str) -> list[StudyRun]:
        """Runs of these groups."""
        return [run for run in self.runs if run.group in groups]

    def find(self, group: str, model: str, seed: int) -> StudyRun | None:
        """The run of a variant."""
        chosen = [run for run in self.of(group) if (run.model, run.seed) == (model, seed)]
        return chosen[0] if chosen else None


def collect(folder: Path, expected_digest: str | None = None) -> Collection:
    """Read all run folders below `<folder>/runs`.

    Args:
        folder: output folder of a study.
        expected_digest: of the corpus; by default that of most runs, and of equally many the first.
    """
    root = folder / "runs"
    problems = {
        path: f"expected one of {', '.join(DEPTHS)}, found another; move it elsewhere" for path in _others(root)
    }
    runs = []
    for place in _places(root):
        try:
            runs.append(_read(place, place.relative_to(root).parts))
        except UserError as problem:
            problems[place] = str(problem)
    if expected_digest is None and runs:
        expected_digest = Counter(_digest(run) for run in runs).most_common(1)[0][0]
    problems |= {run.folder: _stranger(run, expected_digest) for run in runs if _digest(run) != expected_digest}
    sentences = [f"{path.relative_to(folder)} is left out: {problems[path]}." for path in sorted(problems)]
    return Collection(tuple(_ordered(run for run in runs if _digest(run) == expected_digest)), tuple(sentences))


def _ordered(runs: Iterable[StudyRun]) -> list[StudyRun]:
    groups, models = list(DEPTHS), list(MODELS)
    return sorted(runs, key=lambda run: (groups.index(run.group), models.index(run.model), run.seed, run.name or ""))


def _others(root: Path) -> list[Path]:
    return [path for path in root.glob("*") if path.is_dir() and path.name not in DEPTHS]


def _places(root: Path) -> list[Path]:
    found = [path for group, depth in DEPTHS.items() for path in sorted((root / group).glob("/".join("*" * depth)))]
    return [path for path in found if path.is_dir() and not path.name.startswith(".")]  # a half-written copy


def _digest(run: StudyRun) -> str:
    return run.record["corpus"]["digest"]


def _stranger(run: StudyRun, expected: str) -> str:
    return (
        f"expected the corpus of digest {expected}, found {run.record['corpus']['name']} of digest {_digest(run)}; "
        "give each corpus an output folder of its own"
    )


def _read(place: Path, names: tuple[str, ...]) -> StudyRun:
    folder = _fold(place)
    if missing := missing_files(folder):
        raise UserError(f"expected a finished run, found no {' and no '.join(missing)}; run the study again")
    _check_predictions(folder / "predictions.parquet")
    record, results = _json(folder / "run.json")[0], _json(folder / "results.json")[0]
    if not record["finished"]:
        raise UserError("expected a finished run, found one that run.json calls unfinished; run the study again")
    made_by = record["environment"]["hf_vivae"]
    if made_by != __version__:
        raise UserError(
            f"expected a run of hf_vivae {__version__}, found one of {made_by}; delete it and run the study again"
        )
    model, seed = record["run"]["model"], record["training"]["seed"]
    if model not in MODELS:
        raise UserError(f"expected a model out of {', '.join(MODELS)}, found {model}; move it elsewhere")
    _check_names(names, model, seed)
    name = None if names[0] in VARIANTS else names[-1]
    return StudyRun(folder, names[0], model, seed, name, record, results, tuple(_json(folder / "history.jsonl")))


def _fold(place: Path) -> Path:
    """The run folder: that of the only fold where the protocol has several, the place itself otherwise."""
    folds = [file.parent for file in place.glob("*/run.json")]
    if len(folds) > 1:
        raise UserError(f"expected the run of one fold, found {len(folds)}; delete the others")
    return folds[0] if folds else place


def _json(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8")
    try:
        return [json.loads(part) for part in (text.splitlines() if file.suffix == ".jsonl" else [text])]
    except json.JSONDecodeError as error:
        raise UserError(f"expected JSON in {file.name}, found {error}; delete it and run the study again") from error


def _check_predictions(file: Path) -> None:
    try:
        pq.read_schema(file)
    except pa.ArrowInvalid as error:
        raise UserError(
            f"expected Parquet in {file.name}, found a damaged file; delete the run's folder and run the study again"
        ) from error


def _check_names(names: tuple[str, ...], model: str, seed: int) -> None:
    """Refuse a folder that was put in the place of another run."""
    told = names[1:] if names[0] in VARIANTS else names[1:-1]
    found = (model, f"seed{seed}")[: len(told)]
    if told != found:
        raise UserError(f"expected the run of {' '.join(told)}, found that of {' '.join(found)}; move it to its place")

"""Run folders of a reproduction; folders that are incomplete or of another corpus or version are left out by name."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.runs import read_run
from ..models import MODELS
from ..run_folder import RUN_FILES
from ..validation import UserError
from ..version import __version__

VARIANTS = ("paper", "as_coded", "tuned")
OFF = "-off"  # ends the name of a run without a deviation that the recipe `paper` has, too
# folder below runs/ -> depth of its run folders
DEPTHS = {**dict.fromkeys(VARIANTS, 2), "audit": 2, "patches": 1}


@dataclass(frozen=True)
class Epoch:
    """Scores after an epoch, by the names of `ClassificationScores`; empty for clips that are not scored then.

    Args:
        epoch: counted from 1.
        train: loss, loss_sum (sum over batches of their means) and accuracy during training, with dropout on.
        validation: scores of the validation clips.
        test: scores of the test clips.
    """

    epoch: float
    train: dict[str, Any]
    validation: dict[str, Any]
    test: dict[str, Any]


@dataclass(frozen=True)
class StudyRun:
    """A finished run folder.

    Args:
        folder: of the run.
        group: folder below `runs/`: a variant, `audit` or `patches`.
        model: a key of `MODELS`.
        seed: of training and split.
        name: its deviation (`audit`) or patch (`patches`); None for a variant.
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

    @property
    def digest(self) -> str:
        """Digest of its corpus."""
        return self.record["corpus"]["digest"]

    def epochs(self) -> list[Epoch]:
        """Return the scores of each epoch in order; an empty list for a model that is fitted by a solver."""
        selected = "test" if self.record["run"]["select_on"] == "test" else "validation"
        scores: dict[float, dict[str, dict[str, Any]]] = {}
        for entry in self.history:
            part = {"loss": "train", "eval_loss": selected, "test_loss": "test"}
            for key in entry.keys() & part.keys():
                prefix = key.removesuffix("loss")
                scores.setdefault(entry["epoch"], {})[part[key]] = {
                    name.removeprefix(prefix): value for name, value in entry.items() if name.startswith(prefix)
                }
        parts = ("train", "validation", "test")
        return [Epoch(epoch, *(scores[epoch].get(part, {}) for part in parts)) for epoch in sorted(scores)]

    def scored_epoch(self) -> Epoch | None:
        """Return the epoch that `results.json` and `predictions.parquet` are of; None for a solver."""
        epochs, selection = self.epochs(), self.results["selection"]
        if selection is None:
            return epochs[-1] if epochs else None
        return next(epoch for epoch in epochs if epoch.epoch == selection["epoch"])


@dataclass(frozen=True)
class Collection:
    """Runs of a report.

    Args:
        runs: finished runs of one corpus and one version, in the order of groups, `MODELS` and seeds.
        left_out: a sentence for each other folder.
    """

    runs: tuple[StudyRun, ...]
    left_out: tuple[str, ...]

    @property
    def corpus(self) -> str:
        """Name of the corpus; "no clips" without a run."""
        return self.runs[0].record["corpus"]["name"] if self.runs else "no clips"

    def of(self, *groups: str) -> list[StudyRun]:
        """Return the runs of these groups."""
        return [run for run in self.runs if run.group in groups]

    def find(self, group: str, model: str, seed: int) -> StudyRun | None:
        """Return the run of a variant; None if there is none."""
        return next((run for run in self.of(group) if (run.model, run.seed) == (model, seed)), None)


def collect(folder: Path, expected_digest: str | None = None) -> Collection:
    """Read all run folders below `<folder>/runs`.

    Args:
        folder: output folder of a study.
        expected_digest: of the corpus; by default that of most runs, and of equally many the first.
    """
    root = folder / "runs"
    others = [path for path in root.glob("*") if path.is_dir() and path.name not in DEPTHS]
    problems = {path: f"expected one of {', '.join(DEPTHS)}, found another; move it elsewhere" for path in others}
    runs = []
    for group, depth in DEPTHS.items():
        for path in sorted((root / group).glob("/".join("*" * depth))):
            if not path.is_dir() or path.name.startswith("."):  # a half-written copy
                continue
            try:
                runs.append(_read_study_run(path, path.relative_to(root).parts))
            except UserError as problem:
                problems[path] = str(problem).rstrip(".")
    if expected_digest is None and runs:
        expected_digest = Counter(run.digest for run in runs).most_common(1)[0][0]
    problems |= {
        run.folder: f"expected the corpus of digest {expected_digest}, found {run.record['corpus']['name']} of digest "
        f"{run.digest}; give each corpus an output folder of its own"
        for run in runs
        if run.digest != expected_digest
    }
    sentences = [f"{path.relative_to(folder)} is left out: {problems[path]}." for path in sorted(problems)]
    groups, models = list(DEPTHS), list(MODELS)
    ordered = sorted(
        (run for run in runs if run.digest == expected_digest),
        key=lambda run: (groups.index(run.group), models.index(run.model), run.seed, run.name or ""),
    )
    return Collection(tuple(ordered), tuple(sentences))


def _read_study_run(path: Path, names: tuple[str, ...]) -> StudyRun:
    folds = [file.parent for file in path.glob("*/run.json")]
    if len(folds) > 1:
        raise UserError(f"expected the run of one fold, found {len(folds)}; delete the others")
    folder = folds[0] if folds else path
    record, results = read_run(folder, RUN_FILES)
    made_by = record["environment"]["hf_vivae"]
    if made_by != __version__:
        raise UserError(
            f"expected a run of hf_vivae {__version__}, found one of {made_by}; delete it and run the study again"
        )
    model, seed = record["run"]["model"], record["training"]["seed"]
    if model not in MODELS:
        raise UserError(f"expected a model out of {', '.join(MODELS)}, found {model}; move it elsewhere")
    expected = names[1:] if names[0] in VARIANTS else names[1:-1]
    found = (model, f"seed{seed}")[: len(expected)]
    if expected != found:
        raise UserError(
            f"expected the run of {' '.join(expected)}, found that of {' '.join(found)}; move it to its place"
        )
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    try:
        history = tuple(json.loads(line) for line in lines)
    except json.JSONDecodeError as error:
        raise UserError(f"expected JSON in history.jsonl, found {error}; delete it and run the study again") from error
    name = None if names[0] in VARIANTS else names[-1]
    return StudyRun(folder, names[0], model, seed, name, record, results, history)

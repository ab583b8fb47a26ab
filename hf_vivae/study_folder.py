"""The folder of a study and the run folders in it: whole, of this version and of one kind."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import runs
from .arguments import RunArguments, VivaeTrainingArguments
from .plan import PlannedRun
from .scoring import report_scores
from .validation import UserError
from .version import __version__


def keep_kind(output: Path, quick: bool) -> None:
    """Note whether a study is quick, and refuse to mix the two kinds.

    Raises:
        ValueError: where the folder holds the other kind.
    """
    file, kinds = output / "study.json", {True: "a quick study", False: "a study with the report's epochs"}
    before = runs.read_json(file)["quick"] if file.is_file() else quick
    if before != quick:
        raise UserError(f"expected {kinds[quick]} in {output}, found {kinds[before]}; give another --output_dir.")
    runs.write_json(file, {"quick": quick})


def is_finished(folder: Path) -> bool:
    """Whether a run folder is whole, or for a run with several folds, one of theirs."""
    return any(runs.finished_results(place) is not None for place in (folder, *folder.glob("*/")))


def check_version(folder: Path) -> None:
    """Refuse a run folder that another version of this package has made.

    Raises:
        ValueError: naming folder and version; and for a damaged `run.json`.
    """
    file = folder / "run.json"
    if not os.path.isfile(file):  # Path.is_file raises where a name is too long
        return
    version = runs.read_json(file).get("environment", {}).get("hf_vivae")
    if version != __version__:
        raise UserError(
            f"expected {folder} to be of hf_vivae {__version__}, found {version}; give another --output_dir, or "
            "remove that folder to have it trained again."
        )


def drop_checkpoints(folders: Sequence[Path]) -> None:
    """Remove what resumes a run that is finished: four times its weights, and a study has dozens of runs."""
    for checkpoint in (checkpoint for folder in folders for checkpoint in folder.glob("checkpoint-*")):
        shutil.rmtree(checkpoint)


def share_training(planned: PlannedRun, run: RunArguments, args: VivaeTrainingArguments, output: Path) -> None:
    """Write the folder of a run whose training was another's, since its settings change only what is reported."""
    base, folder = output / planned.shares, output / planned.name
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(base, part, ignore=shutil.ignore_patterns("checkpoint-*", ".*"))
    record, results = runs.read_json(base / "run.json"), runs.read_json(base / "results.json")
    changes: dict[str, Any] = {name: getattr(run, name) for name in record["run"] if name in vars(run)}
    runs.write_json(part / "run.json", record | {"run": changes, "shares_training_with": planned.shares})
    rows = runs.read_predictions(base)
    reported = report_scores(run, rows, results["labels"], args.seed)
    runs.write_json(part / "results.json", results | {"as_coded": run.as_coded, "reported": reported})
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)

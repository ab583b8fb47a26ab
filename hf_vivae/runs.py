"""Run folders: what a training leaves behind, written so that no half-written file is taken for a whole one.

`run.json` says what was run, `predictions.parquet` holds every logit, `results.json` the scores; the last is written
last, so that a folder with it is finished.
"""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from .disk import make_folder, read_text
from .validation import UserError

# may differ between two starts of one run: where it runs, how it is watched and published, and how many of its folds
VOLATILE = (
    "output_dir", "local_rank", "hub_token", "use_cpu", "folds", "disable_tqdm", "dataloader_pin_memory",
    "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_prefetch_factor", "push_to_hub",
    "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision",
    "restore_callback_states_from_checkpoint",
)  # fmt: skip


# what an argument was to runs that are older than it
BEFORE = {"duplicates": "error"}

RUN_FILES = (
    "run.json", "results.json", "history.jsonl", "predictions.parquet", "config.json", "preprocessor_config.json",
)  # fmt: skip
WEIGHTS = ("model.safetensors", "adapter/adapter_model.safetensors")  # one of them
CORPUS_FIELD = "training_corpus"  # of a checkpoint's configuration: the name of the corpus that trained it
# what is printed and pooled of a fold's results.json
SCORE_KEYS = ("model", "recipe", "as_coded", "data", "protocol", "task", "labels", "fold", "habits", "test")
SCORED = "scored"  # folder of an evaluation with a checkpoint's predictions of other clips, which are no training's
OTHER_CLIPS = "other-clips"  # their protocol: every clip of a corpus that the checkpoint has not learnt from


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: readers see the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write strict JSON: NaN, which JSON has not, becomes null."""
    write_text(path, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def write_lines(path: Path, entries: list[dict[str, Any]]) -> None:
    """Write one line of strict JSON for each entry."""
    write_text(path, "".join(json.dumps(_finite(entry), allow_nan=False) + "\n" for entry in entries))


def write_predictions(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of a fold's clips as `predictions.parquet`, in one step.

    They have file, label, logits, fold, split, speaker, intensity, duration and digest; the last four are null where a
    row lacks them. Duration is in seconds, and the digest tells the clip's sound from others.
    """
    schema = pa.schema(
        [
            ("file", pa.string()),
            ("label", pa.int64()),
            ("logits", pa.list_(pa.float32())),
            ("fold", pa.string()),
            ("split", pa.string()),
            ("speaker", pa.string()),
            ("intensity", pa.string()),
            ("duration", pa.float64()),
            ("digest", pa.string()),
        ]
    )
    part = folder / f".predictions.parquet.{os.getpid()}"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), part)
    os.replace(part, folder / "predictions.parquet")


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """The rows that `write_predictions` wrote."""
    return pq.read_table(folder / "predictions.parquet").to_pylist()


def read_json(file: Path, cure: str = "remove its folder to train the run again") -> dict[str, Any]:
    """The content of a file of a run folder.

    Raises:
        ValueError: where it is damaged or cannot be read, naming it and the cure.
    """
    try:
        content = json.loads(read_text(file, cure))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"expected JSON in {file}, found a damaged file ({error}); {cure}.") from error
    if not isinstance(content, dict):
        raise UserError(f"expected a JSON object in {file}, found {type(content).__name__}; {cure}.")
    return content


def finished_results(folder: Path) -> dict[str, Any] | None:
    """The scores of a fold's run folder that is whole, or None.

    Raises:
        ValueError: where its `results.json` is damaged, or is not that of a fold.
    """
    if missing_files(folder):
        return None
    file = folder / "results.json"
    results = read_json(file)
    if missing := [key for key in SCORE_KEYS if key not in results]:
        raise UserError(
            f"expected the scores of a run in {file}, found no {', '.join(missing)}, as where another command has "
            "written over them; remove its folder to train the run again."
        )
    return results


def missing_files(folder: Path) -> list[str]:
    """What a folder lacks of a run that is whole."""
    missing = [name for name in RUN_FILES if not (folder / name).is_file()]
    return missing if any((folder / name).is_file() for name in WEIGHTS) else [*missing, WEIGHTS[0]]


def check_same_run(folder: Path, record: dict[str, Any]) -> None:
    """Refuse to continue a run folder with other settings or other clips, or one that no run has made.

    Raises:
        ValueError: naming what differs.
    """
    begun = ("checkpoint-*", "results.json", "*/checkpoint-*", "*/results.json")  # of the run, or of its folds
    if not any(path for pattern in begun for path in folder.glob(pattern)):
        return
    file = folder / "run.json"
    if not file.is_file():
        raise UserError(
            f"{folder} holds checkpoints or results but no run.json, so they cannot be told to be this run's; "
            "give another --output_dir."
        )
    before, now = read_json(file), _finite(json.loads(json.dumps(record)))
    before["run"] = BEFORE | before.get("run", {})
    differing = [
        f"{name} (was {old.get(name)!r}, is {new.get(name)!r})"
        for old, new in ((before.get(part, {}), now[part]) for part in ("run", "training", "corpus"))
        for name in sorted(old.keys() | new.keys())
        if name not in VOLATILE and old.get(name) != new.get(name)
    ]
    if before.get("fold") != now.get("fold"):
        differing.append("the clips that train, validate and test")
    if differing:
        raise UserError(
            f"{folder} holds another run, which differs in {', '.join(differing)}; "
            "repeat that run's settings to continue it, or give another --output_dir."
        )


def check_report_folder(folder: Path, key: str | None = None) -> None:
    """Refuse to write a report over a run, or over the `results.json` of another command.

    Args:
        folder: of the report, perhaps not there yet.
        key: what a `results.json` of this kind of report always has; None for a report without that file.

    Raises:
        ValueError: naming the file that would be written over or beside.
    """
    if os.path.isfile(folder / "run.json"):  # Path.is_file raises where the folder is closed or its name too long
        raise UserError(
            f"expected a folder for a report as --output_dir, found the run.json of a run in {folder}; give another."
        )
    file = folder / "results.json"
    if key and os.path.isfile(file) and key not in read_json(file, "give another --output_dir"):
        raise UserError(f"expected no results of another command in --output_dir, found {file}; give another.")


class Claimed(UserError):
    """Another process is at work in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another process is training in {folder}; wait for its end, or give another --output_dir.")
        self.folder = folder


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder while this one writes to it.

    Raises:
        Claimed: where another process is at work there.
        ValueError: where nothing can be written there.
    """
    make_folder(folder)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise Claimed(folder) from error
    try:
        yield
    finally:
        lock.release()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

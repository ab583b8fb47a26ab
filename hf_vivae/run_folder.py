"""Run folders: the files of a run that every later step reads.

`run.json` has the settings, the clips and the environment of a run, `predictions.parquet` every logit, `results.json`
the scores. `results.json` is written last, so that a folder with it is finished.
"""

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from .files import atomic_file, finite, read_json
from .network import bare_address
from .validation import UserError, short_repr
from .version import __version__

# may differ between two starts of one run: where it runs, what it shows, whether it is pushed, and which of its folds
VOLATILE = (
    "output_dir", "local_rank", "hub_token", "use_cpu", "folds", "disable_tqdm", "dataloader_pin_memory",
    "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_prefetch_factor", "push_to_hub",
    "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision",
    "restore_callback_states_from_checkpoint",
)  # fmt: skip

# values of arguments in runs that are older than the argument
BEFORE = {
    "duplicates": "error", "categories": ["vivae"], "train_speakers": None, "speaker_draw": 0, "streaming": False,
    "reject_rate": None,
}  # fmt: skip

RUN_FILES = (
    "run.json", "results.json", "history.jsonl", "predictions.parquet", "config.json", "preprocessor_config.json",
)  # fmt: skip
WEIGHTS = ("model.safetensors", "adapter/adapter_model.safetensors")  # one of them
CORPUS_FIELD = "training_corpus"  # of a checkpoint's configuration: the name of the corpus that trained it
OTHER_FOLDS = "other-folds"  # the protocol of predictions of other programs on clips that no run has
# keys of a fold's results.json that are printed and pooled
SCORE_KEYS = ("model", "recipe", "as_coded", "data", "protocol", "task", "labels", "fold", "habits", "test")
SCORED = "scored"  # folder of an evaluation with predictions of other clips, or of other programs
OTHER_CLIPS = "other-clips"  # their protocol: every clip of a corpus that the checkpoint was not trained on
REPEAT = "finished runs are kept, and the same command continues with the others"  # after a run that failed
UNRESAMPLED = "the model is given unresampled sound"
# settings of a training with `--select_on none`
UNSELECTED = {"do_eval": False, "eval_strategy": "no", "load_best_model_at_end": False}
PACKAGES = (
    "torch", "torchaudio", "transformers", "datasets", "evaluate", "accelerate", "timm", "scikit-learn", "numpy",
    "soundfile",
)  # fmt: skip
ADDRESS = re.compile(r"https?://\S+")
PEAK_RESET = "/proc/self/clear_refs"  # Linux


def write_predictions(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of a fold's clips as `predictions.parquet`, in one step.

    They have file, label, logits, fold, split, speaker, intensity, duration and digest; the last four are null where a
    row lacks them. Duration is in seconds, and the digest is of the clip's file.
    """
    schema = pa.schema({
        "file": pa.string(), "label": pa.int64(), "logits": pa.list_(pa.float32()), "fold": pa.string(),
        "split": pa.string(), "speaker": pa.string(), "intensity": pa.string(), "duration": pa.float64(),
        "digest": pa.string(),
    })  # fmt: skip
    with atomic_file(folder / "predictions.parquet") as part:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), part)


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """Return the rows that `write_predictions` wrote."""
    return pq.read_table(folder / "predictions.parquet").to_pylist()


def finished_results(folder: Path) -> dict[str, Any] | None:
    """Return the scores of a fold's run folder that is complete, or None.

    Raises:
        UserError: where its `results.json` is damaged, or does not have the scores of a fold.
    """
    is_whole = all((folder / name).is_file() for name in RUN_FILES)
    if not (is_whole and any((folder / name).is_file() for name in WEIGHTS)):
        return None
    file = folder / "results.json"
    results = read_json(file)
    if missing := [key for key in SCORE_KEYS if key not in results]:
        raise UserError(
            f"expected the scores of a run in {file}, found no {', '.join(missing)}, as where another command has "
            "written over them; remove its folder to train the run again."
        )
    return results


def check_same_run(folder: Path, record: dict[str, Any]) -> None:
    """Refuse to continue a run folder with other settings or other clips, or one without the `run.json` of a run.

    Raises:
        UserError: with the names of the settings that differ.
    """
    begun = ("checkpoint-*", "results.json", "*/checkpoint-*", "*/results.json")  # of the run, or of its folds
    if not any(path for pattern in begun for path in folder.glob(pattern)):
        return
    file = folder / "run.json"
    if not file.is_file():
        raise UserError(
            f"expected the run.json of this run in {folder}, found only checkpoints or results; give another "
            "--output_dir."
        )
    before, now = read_json(file), finite(json.loads(json.dumps(record)))
    before["run"] = BEFORE | before.get("run", {})
    differing = [
        f"{name} (was {short_repr(old.get(name))}, is {short_repr(new.get(name))})"
        for old, new in ((before.get(part, {}), now[part]) for part in ("run", "training", "corpus"))
        for name in sorted(old.keys() | new.keys())
        if name not in VOLATILE and old.get(name) != new.get(name)
    ]
    if before.get("fold") != now.get("fold"):
        differing.append("the clips that train, validate and test")
    if differing:
        raise UserError(
            f"{folder} holds another run, which differs in {', '.join(differing)}; repeat that run's settings to "
            "continue it, or give another --output_dir."
        )


def check_report_folder(folder: Path, key: str | None = None) -> None:
    """Refuse to write a report into the folder of a run, or over the `results.json` of another command.

    Args:
        folder: of the report; need not exist.
        key: a key of every `results.json` of this kind of report; None for a report without that file.

    Raises:
        UserError: with the name of the existing file.
    """
    if os.path.isfile(folder / "run.json"):  # Path.is_file raises where the folder is closed or its name too long
        raise UserError(
            f"expected a folder for a report as --output_dir, found the run.json of a run in {folder}; give another."
        )
    file = folder / "results.json"
    if key and os.path.isfile(file) and key not in read_json(file, "give another --output_dir"):
        raise UserError(f"expected no results of another command in --output_dir, found {file}; give another.")


def environment() -> dict[str, Any]:
    """Return versions, hardware and commit of this process."""
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    for index, part in enumerate(command):
        flag, equals, _ = part.partition("=")
        if "token" in flag and equals:
            command[index] = f"{flag}=<hidden>"
        elif index and "token" in command[index - 1] and "=" not in command[index - 1]:
            command[index] = "<hidden>"
        else:
            command[index] = ADDRESS.sub(lambda match: bare_address(match[0]), part)
    return {
        "hf_vivae": __version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "command": command,
    }


def git_commit() -> str | None:
    """Return the commit of the package's own repository, with `+changes` if files differ; None if installed."""
    package = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            command = ["git", "-C", package, *arguments]
            return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
        except (OSError, subprocess.CalledProcessError):
            return None  # no git, or no repository that tracks the package

    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    return f"{commit}+changes" if commit and changes else commit


def reset_peak_memory() -> None:
    """Reset `peak_memory_mb`, for a process that trains several models."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif os.access(PEAK_RESET, os.W_OK):
        Path(PEAK_RESET).write_text("5")  # see proc(5)


def peak_memory_mb() -> float:
    """Return the largest memory of GPU or process in MB, on GPU and Linux since `reset_peak_memory`."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if os.access(PEAK_RESET, os.W_OK):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux kilobytes


def is_finished(folder: Path) -> bool:
    """Return whether a run folder is complete, or, of a run with several folds, that of any fold."""
    return any(finished_results(path) is not None for path in (folder, *folder.glob("*/")))


def check_version(folder: Path) -> None:
    """Refuse a run folder of another version of this package.

    Raises:
        UserError: with folder and version; and for a damaged `run.json`.
    """
    file = folder / "run.json"
    if not os.path.isfile(file):  # Path.is_file raises where a name is too long
        return
    version = read_json(file).get("environment", {}).get("hf_vivae")
    if version != __version__:
        raise UserError(
            f"expected {folder} to be of hf_vivae {__version__}, found {version}; give another --output_dir, or "
            "remove that folder to have it trained again."
        )


def drop_checkpoints(folders: Sequence[Path]) -> None:
    """Remove the checkpoints of finished runs: each takes four times the size of the weights, for dozens of runs."""
    for folder in folders:
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)

"""One run: corpus and arguments in, run folders with checkpoint, predictions and scores out.

The folds of a protocol may be shared between processes that write to one folder: each fold is trained by the one that
claims it first, and each pools the scores of all that are finished when it has nothing left to do.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from filelock import FileLock

from . import runs
from .arguments import RunArguments, VivaeTrainingArguments
from .checkpoints import find_checkpoint
from .corpus.schema import Corpus
from .disk import RUN_CURE, make_folder, writing
from .fold_training import train_fold
from .prepared import Prepared, fold_record, identity, prepare, run_record, untrained_labels
from .publishing import Publisher
from .scoring import score_rows
from .splits import PARTS, Fold
from .validation import UserError

logger = logging.getLogger(__name__)

LONGEST_NAME = 200  # letters of a fold's folder


def train(
    run: RunArguments,
    args: VivaeTrainingArguments,
    corpus: Corpus | None = None,
    publisher: Publisher | None = None,
) -> tuple[dict[str, Any], list[Path]]:
    """Train and score a model on every chosen fold; the content of `results.json`, and the folds' run folders.

    A fold that is finished is not trained again, one that was interrupted goes on from its last checkpoint.

    Args:
        run: what to train on what.
        args: how to train.
        corpus: what `run.load()` has given, for several runs on one corpus; read anew by default.
        publisher: pushes checkpoints of the first fold while it trains; the run, once it is there, is its `finish`'s.

    Raises:
        ValueError: for everything in arguments, clips, checkpoint or run folder that a user can mend.
    """
    _use_all_cores(args)
    with args.main_process_first(desc="reading checkpoint and corpus"):
        # first, since it fails at once where there is no network, and the corpus may take a minute
        checkpoint = find_checkpoint(run.model, run.model_name_or_path, run.from_scratch, run.trust_remote_code)
        prepared = prepare(run, args.seed, corpus or run.load())
    chosen = _choose_folds(prepared.folds, run.folds)
    if args.process_index == 0 and (untrained := untrained_labels(prepared, chosen, run.select_on)):
        listed = "; ".join(f"{label} in fold {', '.join(folds)}" for label, folds in untrained.items())
        logger.warning("No training clip has these labels, so the model cannot learn them: %s.", listed)
    with writing(Path(args.output_dir), RUN_CURE):
        return _train_folds(run, args, prepared, chosen, checkpoint, publisher)


def _train_folds(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: Prepared,
    chosen: Sequence[Fold],
    checkpoint: Path | None,
    publisher: Publisher | None,
) -> tuple[dict[str, Any], list[Path]]:
    output = Path(args.output_dir)
    if len(prepared.folds) == 1:
        return train_fold(run, args, prepared, chosen[0], output, checkpoint, publisher), [output]
    make_folder(output)
    record = run_record(run, args, prepared)
    runs.check_same_run(output, record)
    if args.should_save:
        runs.write_json(output / "run.json", record)
    folders = []
    for fold in chosen:
        folder = output / _folder_name(fold)
        try:
            with _named(fold, folder):
                train_fold(run, args, prepared, fold, folder, checkpoint, publisher if fold is chosen[0] else None)
        except runs.Claimed as claimed:
            # processes of one run cannot tell each other so, and a run that trains nothing has failed
            if args.world_size > 1 or (not folders and fold is chosen[-1]):
                raise
            logger.warning("%s is left to the process that is training in it.", claimed.folder)
            continue
        folders.append(folder)
    return _pool(run, args, prepared), folders


def _use_all_cores(args: VivaeTrainingArguments) -> None:
    # both launchers set OMP_NUM_THREADS=1 where the user has set nothing, and one thread halves the speed of two cores
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
    if not (args.use_cpu and launched and os.environ.get("OMP_NUM_THREADS") == "1"):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, cores // local_processes))


def _pool(run: RunArguments, args: VivaeTrainingArguments, prepared: Prepared) -> dict[str, Any]:
    """Scores over the clips of all finished folds together, whoever trained them, beside those of each fold."""
    output, results, rows = Path(args.output_dir), {}, []
    record = run_record(run, args, prepared)
    with FileLock(output / ".pool.lock"):  # else an earlier reader may write after a later one
        for fold in prepared.folds:
            folder = output / _folder_name(fold)
            if (finished := runs.finished_results(folder)) is not None:
                runs.check_same_run(folder, fold_record(record, prepared, fold))
                results[fold.name] = finished
                rows += runs.read_predictions(folder)
        content = {
            **identity(run, args, prepared),
            **score_rows(rows, prepared.label_names),
            "folds": {name: {part: found[part] for part in PARTS if part in found} for name, found in results.items()},
            "habits": next(iter(results.values()))["habits"],
        }
        if args.should_save:
            runs.write_json(output / "results.json", content)
    return content


def _choose_folds(folds: Sequence[Fold], numbers: Sequence[int] | None) -> list[Fold]:
    if numbers is None:
        return list(folds)
    wrong = [number for number in numbers if not 0 <= number < len(folds)]
    if wrong:
        raise UserError(
            f"expected --folds between 0 and {len(folds) - 1}, found {', '.join(map(str, wrong))}; "
            "this protocol has no such fold."
        )
    return [folds[number] for number in sorted(set(numbers))]


def _folder_name(fold: Fold) -> str:
    """The name of a fold as that of a folder: speakers may be called `..`, `.`, `.x` or `results.json`."""
    name = quote(fold.name, safe=" ").replace("..", "%2E%2E")
    # else the run's own folder, one that evaluations take for a half-written copy, or a file of the run
    taken = name.startswith(".") or name.lower() in runs.RUN_FILES
    name = name.replace(".", "%2E") if taken else name
    # a letter of another script takes nine, and file systems 255 in all
    return name if len(name) <= LONGEST_NAME else f"{name[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


@contextmanager
def _named(fold: Fold, folder: Path):
    try:
        yield
    except Exception as error:
        error.add_note(f"in fold {fold.name}, run folder {folder}")
        raise

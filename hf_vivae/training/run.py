"""Training of a run: each fold is trained or resumed, scored, and written to its run folder."""

import copy
import gc
import hashlib
import logging
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from datasets import Dataset
from filelock import FileLock
from transformers import TrainerCallback

from .. import run_folder
from ..checkpoints.adapters import ADAPTER
from ..checkpoints.calibration import keep_temperature
from ..checkpoints.open_set import background_labels, keep_threshold
from ..checkpoints.resolve import find_checkpoint
from ..corpus.decoded import decode_once
from ..corpus.schema import Corpus
from ..files import RUN_REMEDY, FolderInUse, cache_folder, claim, disk_errors, make_folder, write_json
from ..metrics import most_frequent
from ..splits.folds import PARTS, Fold
from ..validation import UserError
from .argument_checks import check_rejection
from .arguments import RunArguments, VivaeTrainingArguments
from .build import (
    TrainingData,
    build_fold_inputs,
    build_trainer,
    fold_parts,
    fold_record,
    identity,
    load_training_data,
    run_record,
    untrained_labels,
)
from .fit import drop_checkpoints_but_one, fit_model
from .linear import Standardized, refit_on_train_and_validation
from .scoring import predict_parts, report_scores, score_caveats, score_rows
from .streaming import load_streamed_data
from .trainer import VivaeTrainer

logger = logging.getLogger(__name__)

LONGEST_NAME = 200  # letters of a fold's folder


def train(
    run: RunArguments,
    args: VivaeTrainingArguments,
    corpus: Corpus | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple[dict[str, Any], list[Path]]:
    """Train and score a model on every chosen fold.

    A finished fold is not trained again; an interrupted one is resumed from its last checkpoint.

    Args:
        run: the data and the model.
        args: the training.
        corpus: the result of `run.load()`, for several runs on one corpus; loaded here by default.
        callbacks: added to the Trainer of each fold.

    Returns:
        The content of `results.json`, and the run folder of each fold.

    Raises:
        UserError: for an error in arguments, clips, checkpoint or run folder that the user can correct.
    """
    _use_all_cores(args)
    output, folders = Path(args.output_dir), []
    # the other processes read the features that the first one of each machine computes
    with decode_once(cache_folder()) if args.local_process_index == 0 else nullcontext():
        with args.main_process_first(desc="reading checkpoint and corpus"):
            # first, since it fails at once where there is no network, and the corpus may take a minute
            checkpoint = find_checkpoint(run.model, run.model_name_or_path, run.from_scratch, run.trust_remote_code)
            if run.streaming and corpus is None:
                data = load_streamed_data(run)
            else:
                data = load_training_data(run, args.seed, corpus or run.load())
        folds = choose_folds(data.folds, run.folds)
        background = background_labels(data.label_names)
        if run.reject_rate is not None:
            clips = {fold.name: len(fold_parts(fold, run.select_on)["validation"]) for fold in folds}
            check_rejection(run, data.label_names, background, clips)
        if args.process_index == 0 and background:
            logger.warning(
                "Clips of %s train as background, whose label is unknown in hf-vivae and load_classifier; to train a "
                "label like the others, rename it with --label_map.", " and ".join(background),
            )  # fmt: skip
        if args.process_index == 0 and (untrained := untrained_labels(data, folds, run.select_on)):
            listed = "; ".join(f"{label} in fold {', '.join(names)}" for label, names in untrained.items())
            logger.warning("No training clip has these labels, so the model cannot learn them: %s.", listed)
        with disk_errors(output, RUN_REMEDY):
            if len(data.folds) == 1:
                return train_fold(run, args, data, folds[0], output, checkpoint, callbacks), [output]
            make_folder(output)
            record = run_record(run, args, data)
            run_folder.check_same_run(output, record)
            if args.should_save:
                write_json(output / "run.json", record)
            for fold in folds:
                folder = output / _folder_name(fold)
                try:
                    train_fold(run, args, data, fold, folder, checkpoint, callbacks)
                except FolderInUse as error:
                    # processes of one run cannot inform each other, and a run that trains no fold has failed
                    if args.world_size > 1 or (not folders and fold is folds[-1]):
                        raise
                    logger.warning("%s is left to the process that is training in it.", error.folder)
                    continue
                except Exception as error:
                    error.add_note(f"in fold {fold.name}, run folder {folder}")
                    raise
                folders.append(folder)
            return _pool(run, args, data), folders


def train_in_study(
    run: RunArguments, args: VivaeTrainingArguments, corpus: Corpus
) -> tuple[dict[str, Any], list[Path]]:
    """Train one of several runs as `train` does, and remove what only resumes it: checkpoints, and cycles in memory.

    Raises:
        UserError: see `train`; with the folder of the run.
    """
    try:
        results, folders = train(run, args, corpus)
    except UserError as error:
        raise UserError(
            f"{str(error).rstrip('.')} (the run in {args.output_dir} failed; {run_folder.REPEAT})."
        ) from error
    finally:
        gc.collect()  # a model refers to its trainer in reference cycles
    if args.process_index == 0:
        run_folder.drop_checkpoints(folders)
    return results, folders


def _use_all_cores(args: VivaeTrainingArguments) -> None:
    # both launchers set OMP_NUM_THREADS=1 where the user has set nothing, and one thread halves the speed of two cores
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
    if not (args.use_cpu and launched and os.environ.get("OMP_NUM_THREADS") == "1"):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, cores // local_processes))


def _pool(run: RunArguments, args: VivaeTrainingArguments, data: TrainingData) -> dict[str, Any]:
    """Return scores over the clips of all finished folds together, of any process, and those of each fold."""
    output, results, rows = Path(args.output_dir), {}, []
    record = run_record(run, args, data)
    with FileLock(output / ".pool.lock"):  # else an earlier reader may write after a later one
        for fold in data.folds:
            folder = output / _folder_name(fold)
            if (finished := run_folder.finished_results(folder)) is not None:
                run_folder.check_same_run(folder, fold_record(record, data, fold))
                results[fold.name] = finished
                rows += run_folder.read_predictions(folder)
        content = {
            **identity(run, args, data),
            **score_rows(rows, data.label_names),
            "folds": {
                name: {part: scores[part] for part in PARTS if part in scores} for name, scores in results.items()
            },
            "habits": next(iter(results.values()))["habits"],
        }
        if args.should_save:
            write_json(output / "results.json", content)
    return content


def choose_folds(folds: Sequence[Fold], numbers: Sequence[int] | None) -> list[Fold]:
    """Return the folds of these numbers, counted from 0, in their order; all folds for None.

    Raises:
        UserError: for a number that there is not.
    """
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
    """Return a folder name for a fold: speakers may be called `..`, `.`, `.x` or `results.json`."""
    name = quote(fold.name, safe=" ").replace("..", "%2E%2E")
    # the run's own folder, one that evaluations take for an unfinished copy, or a file of the run
    taken = name.startswith(".") or name.lower() in run_folder.RUN_FILES
    name = name.replace(".", "%2E") if taken else name
    # a letter of another script takes nine, and file systems 255 in all
    return name if len(name) <= LONGEST_NAME else f"{name[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def train_fold(
    run: RunArguments,
    args: VivaeTrainingArguments,
    data: TrainingData,
    fold: Fold,
    folder: Path,
    checkpoint: Path | None,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Train on one fold, score the selected weights once, and write the run folder; see `train` for the arguments.

    Raises:
        UserError: where another process trains in the folder, or it contains another run.
    """
    args = copy.copy(args)
    # Trainer would push its pickled arguments, and writes them into each checkpoint, the token with them
    args.output_dir, args.push_to_hub, args.hub_token = str(folder), False, None
    with claim(folder) if args.process_index == 0 else nullcontext():
        record = fold_record(run_record(run, args, data), data, fold)
        run_folder.check_same_run(folder, record)
        # with 1, the library deletes the last checkpoint before the test clips are predicted, and a run that is killed
        # then would have to train again
        keeps_one = args.save_total_limit == 1
        if keeps_one:
            args.save_total_limit = 2
        results = run_folder.finished_results(folder)
        if results is not None:
            logger.warning("%s is finished and not trained again; its scores follow.", folder)
        else:
            results = _train(run, args, data, fold, record, checkpoint, callbacks)
        if keeps_one and args.should_save:
            drop_checkpoints_but_one(folder, args.load_best_model_at_end)
        return results


def _train(
    run: RunArguments,
    args: VivaeTrainingArguments,
    data: TrainingData,
    fold: Fold,
    record: dict[str, Any],
    checkpoint: Path | None,
    callbacks: Sequence[TrainerCallback],
) -> dict[str, Any]:
    started = time.perf_counter()
    run_folder.reset_peak_memory()
    folder, parts = Path(args.output_dir), fold_parts(fold, run.select_on)
    inputs = build_fold_inputs(run, args, data, parts, checkpoint)
    trainer = build_trainer(run, args, data, parts, inputs, callbacks=list(callbacks))
    if args.should_save:
        write_json(folder / "run.json", record)
    selection = fit_model(trainer, folder)
    if inputs.lora and run.lora_save == "merged":
        inputs.lora.merge_and_unload()  # in place; the model that is scored is the one that is saved
    frequent = None
    if data.sounds is not None:  # training clips are not predicted
        frequent = {fold.name: most_frequent(np.asarray(data.labels)[list(parts.pop("train"))])}
    rows = _predict(trainer, data, inputs.features, fold.name, parts)
    results = {
        **identity(run, args, data),
        "fold": fold.name,
        "selection": selection and {"on": run.select_on, **selection},
        "habits": score_caveats(run, args.eval_dropout, selected=selection is not None),
        "reported": report_scores(run, rows, data.label_names, args.seed),
        **score_rows(rows, data.label_names, frequent),
    }
    if args.should_save:
        keep_temperature(trainer.model.config, rows)
        if run.reject_rate is not None:
            keep_threshold(trainer.model.config, rows, run.reject_rate)
        if inputs.lora and run.lora_save == "adapter":
            trainer.model.config.save_pretrained(folder)
            inputs.lora.save_pretrained(folder / ADAPTER)
        else:
            trainer.model.save_pretrained(folder)
        inputs.extractor.save_pretrained(folder)
        run_folder.write_predictions(folder, rows)
        spent = {"seconds": time.perf_counter() - started, "peak_memory_mb": run_folder.peak_memory_mb()}
        write_json(folder / "run.json", record | {"finished": True, **spent})
        write_json(folder / "results.json", results)
    trainer.accelerator.wait_for_everyone()
    return results


def _predict(
    trainer: VivaeTrainer, data: TrainingData, features: Dataset, fold: str, parts: dict[str, Sequence[int]]
) -> list[dict[str, Any]]:
    model = trainer.model
    if not (isinstance(model, Standardized) and model.config.refit and "validation" in parts):
        return predict_parts(trainer, features, fold, parts, data.clips)
    # such a model learns from its validation clips too, after they have selected and been predicted
    rows = predict_parts(trainer, features, fold, {"validation": parts["validation"]}, data.clips)
    refit_on_train_and_validation(trainer, features.select(sorted((*parts["train"], *parts["validation"]))))
    return rows + predict_parts(trainer, features, fold, {part: parts[part] for part in ("train", "test")}, data.clips)

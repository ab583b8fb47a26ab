"""Training of a run: every fold trained or resumed, scored, and written to its run folder."""

import copy
import hashlib
import logging
import os
import time
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import torch
from datasets import Dataset
from filelock import FileLock
from transformers import PreTrainedModel

from .. import run_folder
from ..checkpoints.adapters import ADAPTER
from ..checkpoints.calibration import keep_temperature
from ..checkpoints.resolve import find_checkpoint
from ..corpus.schema import Corpus
from ..files import RUN_REMEDY, Claimed, claim, disk_errors, make_folder, write_json
from ..hub.push import HubPublisher
from ..models.probe import ProbeForAudioClassification
from ..splits.folds import PARTS, Fold
from ..validation import UserError
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
from .linear import refit_on_train_and_validation
from .scoring import predict_parts, report_scores, score_caveats, score_rows
from .trainer import VivaeTrainer

if TYPE_CHECKING:
    from peft import PeftModel


logger = logging.getLogger(__name__)

LONGEST_NAME = 200  # letters of a fold's folder


def train(
    run: RunArguments,
    args: VivaeTrainingArguments,
    corpus: Corpus | None = None,
    publisher: HubPublisher | None = None,
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
        prepared = load_training_data(run, args.seed, corpus or run.load())
    chosen = _choose_folds(prepared.folds, run.folds)
    if args.process_index == 0 and (untrained := untrained_labels(prepared, chosen, run.select_on)):
        listed = "; ".join(f"{label} in fold {', '.join(folds)}" for label, folds in untrained.items())
        logger.warning("No training clip has these labels, so the model cannot learn them: %s.", listed)
    with disk_errors(Path(args.output_dir), RUN_REMEDY):
        return _train_folds(run, args, prepared, chosen, checkpoint, publisher)


def _train_folds(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: TrainingData,
    chosen: Sequence[Fold],
    checkpoint: Path | None,
    publisher: HubPublisher | None,
) -> tuple[dict[str, Any], list[Path]]:
    output = Path(args.output_dir)
    if len(prepared.folds) == 1:
        return train_fold(run, args, prepared, chosen[0], output, checkpoint, publisher), [output]
    make_folder(output)
    record = run_record(run, args, prepared)
    run_folder.check_same_run(output, record)
    if args.should_save:
        write_json(output / "run.json", record)
    folders = []
    for fold in chosen:
        folder = output / _folder_name(fold)
        try:
            with _named(fold, folder):
                train_fold(run, args, prepared, fold, folder, checkpoint, publisher if fold is chosen[0] else None)
        except Claimed as claimed:
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


def _pool(run: RunArguments, args: VivaeTrainingArguments, prepared: TrainingData) -> dict[str, Any]:
    """Scores over the clips of all finished folds together, whoever trained them, beside those of each fold."""
    output, results, rows = Path(args.output_dir), {}, []
    record = run_record(run, args, prepared)
    with FileLock(output / ".pool.lock"):  # else an earlier reader may write after a later one
        for fold in prepared.folds:
            folder = output / _folder_name(fold)
            if (finished := run_folder.finished_results(folder)) is not None:
                run_folder.check_same_run(folder, fold_record(record, prepared, fold))
                results[fold.name] = finished
                rows += run_folder.read_predictions(folder)
        content = {
            **identity(run, args, prepared),
            **score_rows(rows, prepared.label_names),
            "folds": {name: {part: found[part] for part in PARTS if part in found} for name, found in results.items()},
            "habits": next(iter(results.values()))["habits"],
        }
        if args.should_save:
            write_json(output / "results.json", content)
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
    taken = name.startswith(".") or name.lower() in run_folder.RUN_FILES
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


def train_fold(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: TrainingData,
    fold: Fold,
    folder: Path,
    checkpoint: Path | None,
    publisher: HubPublisher | None = None,
) -> dict[str, Any]:
    """Train on one fold into its run folder, and score what was selected once; the content of its `results.json`.

    Args:
        run: what to train on what.
        args: how to train.
        prepared: the corpus.
        fold: its clips of each part.
        folder: of the run; a finished one is not trained again.
        checkpoint: what the model starts from; None for random weights.
        publisher: of its checkpoints while it trains.

    Raises:
        ValueError: where another process trains in the folder, or it holds another run.
    """
    args = copy.copy(args)
    # Trainer would push its pickled arguments, and writes them beside each checkpoint, the token with them
    args.output_dir, args.push_to_hub, args.hub_token = str(folder), False, None
    with claim(folder) if args.process_index == 0 else nullcontext():
        record = fold_record(run_record(run, args, prepared), prepared, fold)
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
            results = _train(run, args, prepared, fold, folder, checkpoint, record, publisher)
        if keeps_one and args.should_save:
            drop_checkpoints_but_one(folder, args.load_best_model_at_end)
        return results


def _train(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: TrainingData,
    fold: Fold,
    folder: Path,
    checkpoint: Path | None,
    record: dict[str, Any],
    publisher: HubPublisher | None,
) -> dict[str, Any]:
    started = time.perf_counter()
    run_folder.reset_peak_memory()
    parts = fold_parts(fold, run.select_on)
    setup = build_fold_inputs(run, args, prepared, parts, checkpoint)
    trainer = build_trainer(run, args, prepared, parts, setup)
    setattr(setup.model.config, run_folder.CORPUS_FIELD, prepared.corpus.name)
    if args.should_save:
        write_json(folder / "run.json", record)
    if publisher:
        trainer.add_callback(publisher.while_training(setup.extractor, record))
    chosen = fit_model(trainer, folder)
    if setup.lora and run.lora_save == "merged":
        setup.lora.merge_and_unload()  # in place; what is scored is the model that is saved
    rows = _predict(trainer, setup.features, fold.name, parts, prepared)
    results = {
        **identity(run, args, prepared),
        "fold": fold.name,
        "selection": chosen and {"on": run.select_on, **chosen},
        "habits": score_caveats(run, args.eval_dropout, selected=chosen is not None),
        "reported": report_scores(run, rows, prepared.label_names, args.seed),
        **score_rows(rows, prepared.label_names),
    }
    if args.should_save:
        keep_temperature(trainer.model.config, rows)
        _save_model(trainer.model, setup.lora if run.lora_save == "adapter" else None, folder)
        setup.extractor.save_pretrained(folder)
        run_folder.write_predictions(folder, rows)
        spent = {"seconds": time.perf_counter() - started, "peak_memory_mb": run_folder.peak_memory_mb()}
        write_json(folder / "run.json", record | {"finished": True, **spent})
        write_json(folder / "results.json", results)
    trainer.accelerator.wait_for_everyone()
    return results


def _save_model(model: PreTrainedModel, adapter: "PeftModel | None", folder: Path) -> None:
    if adapter is None:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        adapter.save_pretrained(folder / ADAPTER)


def _predict(
    trainer: VivaeTrainer, features: Dataset, fold: str, parts: dict[str, Sequence[int]], prepared: TrainingData
) -> list[dict[str, Any]]:
    described = prepared.described, prepared.labels
    model = trainer.model
    if not (isinstance(model, ProbeForAudioClassification) and model.config.refit and "validation" in parts):
        return predict_parts(trainer, features, fold, parts, *described)
    # a probe learns from its validation clips too, once they have chosen and been predicted
    rows = predict_parts(trainer, features, fold, {"validation": parts["validation"]}, *described)
    refit_on_train_and_validation(trainer, features.select(sorted((*parts["train"], *parts["validation"]))))
    return rows + predict_parts(trainer, features, fold, {part: parts[part] for part in ("train", "test")}, *described)

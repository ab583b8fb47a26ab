"""Training of one model, resumed from its last checkpoint, also after SIGTERM."""

import json
import logging
import os
import shutil
import signal
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import filter as matching
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import Trainer, TrainerCallback
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME

from ..cli_parser import Terminated
from ..features.augmentation import AugmentedDataset
from ..features.cache import release_pages
from ..files import write_lines
from ..models import LogisticRegressionForAudioClassification, cpu_attention
from ..validation import UserError
from ..version import WAITS_PASSIVELY
from .linear import Standardized, fit_logistic_regression, select_regularization
from .trainer import VivaeTrainer

logger = logging.getLogger(__name__)
RELEASED_BATCHES = 16  # 85 MB of spectrograms at batches of 30


def fit_model(trainer: VivaeTrainer, folder: Path) -> dict[str, Any] | None:
    """Train the model of a Trainer, or fit it with scikit-learn where it is linear.

    Args:
        trainer: its model is changed in place, and computes in its own precision afterwards.
        folder: run folder; training continues from the last whole checkpoint there.

    Returns:
        The selection on the trainer's `eval_dataset`: its `metric`, and the `epoch` or the strength of regularisation;
        None where nothing was selected.

    Raises:
        Terminated: after SIGTERM, with the training saved.
        UserError: where the loss of a batch is not finite; where a killed run had another number of processes; where
            its best checkpoint is damaged or absent, or a checkpoint cannot be read.
    """
    model = trainer.model
    if isinstance(model, LogisticRegressionForAudioClassification):
        rows = trainer.train_dataset[:]
        inputs = trainer.data_collator([{"input_values": clip} for clip in rows["input_values"]])["input_values"]
        entry = fit_logistic_regression(model, inputs.numpy(), rows["labels"].numpy())
        if trainer.args.should_save:
            write_lines(folder / "history.jsonl", [entry])
        return None
    if isinstance(model, Standardized):
        entries = select_regularization(trainer)
        if trainer.args.should_save:
            write_lines(folder / "history.jsonl", entries)
        selection = {"inverse_regularization": model.config.inverse_regularization, "refit": model.config.refit}
        return {"metric": "loss", **selection} if len(entries) > 1 else None
    if trainer.args.save_only_model and _checkpoints(folder):
        raise UserError(
            f"expected checkpoints that a run can continue from in {folder}, found those of --save_only_model; remove "
            "them to train from the start."
        )
    if trainer.args.should_save:
        _drop_unfinished_checkpoints(folder, trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
    trainer.accelerator.wait_for_everyone()
    checkpoints = _checkpoints(folder)
    if checkpoints:
        processes = len(list(checkpoints[-1].glob("rng_state*.pth")))  # each has its random states
        if processes != trainer.args.world_size:
            raise UserError(
                f"expected {processes} processes, which {checkpoints[-1]} was written by, found "
                f"{trainer.args.world_size}; start as many, or give another --output_dir."
            )
    trainer.add_callback(_BestCheckpoint(folder))
    trainer.add_callback(_ReleasedFeatures())
    if trainer.args.device.type == "cpu":
        if not trainer.args.torch_compile:  # which cannot compile random numbers of an integer tensor
            cpu_attention.speed_up(model)
        if trainer.args.process_index == 0:
            for sentence in _faster_ways(trainer):
                logger.warning(sentence)
    with saved_on_sigterm(trainer):
        trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
    # mixed precision wraps forward in place; the model that is scored is the one that is saved
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    best = trainer.state.best_global_step
    if not trainer.args.load_best_model_at_end or not best:
        return None
    epoch = next(entry["epoch"] for entry in trainer.state.log_history if entry.get("step") == best)
    return {"metric": trainer.args.metric_for_best_model, "epoch": epoch}


def _faster_ways(trainer: VivaeTrainer) -> list[str]:
    """Return sentences on what would make a training on this CPU faster."""
    sentences = []
    if not WAITS_PASSIVELY:
        sentences.append(
            "torch was loaded before hf_vivae, so that training takes several times as long while another process is "
            "busy; import hf_vivae first, or start Python with OMP_WAIT_POLICY=passive."
        )
    # not chosen for the user, since scores change in their third decimal
    if not trainer.args.bf16 and cpu_attention.has_bfloat16():
        sentences.append("This processor has instructions for bfloat16: --bf16 makes training faster.")
    clips = trainer.train_dataset
    if isinstance(clips, AugmentedDataset) and clips.changes_sound and not trainer.args.dataloader_num_workers:
        sentences.append("Clips are changed in the process that trains: --dataloader_num_workers 2 is faster.")
    return sentences


def _checkpoints(folder: Path) -> list[Path]:
    paths = folder.glob("checkpoint-*")
    return sorted((path for path in paths if path.name.removeprefix("checkpoint-").isdecimal()), key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


class _ReleasedFeatures(TrainerCallback):
    """Callback that gives the memory of features back after some batches, so that it does not grow with the corpus."""

    def __init__(self) -> None:
        self._batches = 0

    def on_step_end(self, *args, **kwargs) -> None:
        self._batches += 1
        if self._batches % RELEASED_BATCHES == 0:
            release_pages()

    on_prediction_step = on_step_end


class _BestCheckpoint(TrainerCallback):
    """Callback that gives a resumed training the path of its best checkpoint, since the run folder may have moved.

    If the recorded path does not exist, the library continues without it and ends with the weights of the last epoch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if not (args.load_best_model_at_end and state.best_global_step):
            return
        best = self.folder / f"checkpoint-{state.best_global_step}"
        if not best.is_dir():
            raise UserError(
                f"expected {best}, the best checkpoint so far of the run that is resumed, found none; put it back, or "
                "remove the other checkpoints there to train from the start."
            )
        damaged = [file for file in best.glob("*.safetensors") if not _is_whole(file)]
        if damaged:
            raise UserError(
                f"expected whole weights in {damaged[0]}, of the best checkpoint so far of the run that is resumed, "
                "found damaged ones; put them back, or remove the checkpoints there to train from the start."
            )
        state.best_model_checkpoint = str(best)


def drop_checkpoints_but_one(folder: Path, selects: bool) -> None:
    """Remove the checkpoints of a run folder that only served to resume it.

    Args:
        folder: of the run.
        selects: keep the best one, rather than the last.
    """
    checkpoints = _checkpoints(folder)
    best = [path for path in checkpoints if _read_state(path).get("best_global_step") == _step(path)]
    kept = best if best and selects else checkpoints
    for checkpoint in checkpoints:
        if checkpoint != kept[-1]:
            shutil.rmtree(checkpoint)


def _read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the trainer's state, which is written last; empty if the file is not whole or lacks its best step."""
    try:
        state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(state, dict):
        return {}
    best = state.get("best_global_step")
    logged = {entry.get("step") for entry in state.get("log_history") or ()}
    return state if not best or best in logged else {}


def _drop_unfinished_checkpoints(folder: Path, sharded: bool) -> None:
    """Remove checkpoints after the last one that can be resumed.

    A killed process leaves them incomplete, or partly deleted; a full disk or a power cut leaves files truncated or
    empty. Earlier checkpoints stay: the best one needs only its weights.

    Args:
        folder: of the run.
        sharded: weights and optimizer are in other files, those of FSDP and DeepSpeed.

    Raises:
        UserError: for a file without permission to read it, which may be whole.
    """
    needed = ("rng_state*.pth", *(() if sharded else (OPTIMIZER_NAME, SCHEDULER_NAME, "*.safetensors")), "*.json")
    try:
        damaged = {checkpoint: _find_damaged(checkpoint, needed) for checkpoint in _checkpoints(folder)}
    except OSError as error:
        raise UserError(
            f"expected a checkpoint that can be read, found {error.filename} ({error.strerror}); change its "
            "permissions and repeat the command."
        ) from error
    for checkpoint, name in reversed(damaged.items()):
        if name is None:
            break
        logger.warning("%s has no whole %s and is removed.", checkpoint, name)
        shutil.rmtree(checkpoint)


def _find_damaged(checkpoint: Path, needed: tuple[str, ...]) -> str | None:
    """Return the name, or the pattern of `needed`, of a file that is truncated or absent; None if all are whole."""
    names = os.listdir(checkpoint)  # glob would find nothing in a folder that may not be read
    for pattern in needed:
        files = matching(names, pattern)
        damaged = [name for name in files if not _is_whole(checkpoint / name)]
        if damaged or not files:
            return damaged[0] if damaged else pattern
    return None if _read_state(checkpoint) else TRAINER_STATE_NAME


def _is_whole(file: Path) -> bool:
    """Return whether a file of a checkpoint has its end, where the zip that `torch.save` writes has its table.

    Raises:
        OSError: for a file without permission to read it.
    """
    with file.open("rb") as content:  # first, since the error of safetensors for a locked file is that there is none
        if file.suffix not in (".json", ".safetensors"):
            return zipfile.is_zipfile(content)
        try:
            if file.suffix == ".json":
                json.load(content)
            else:
                with safe_open(file, "pt"):
                    pass
        except (SafetensorError, ValueError):
            return False
    return True


@contextmanager
def saved_on_sigterm(trainer: Trainer) -> Iterator[None]:
    """End a training on SIGTERM after the current step, with a checkpoint; without effect outside of the main thread,
    the only one that receives signals.

    Args:
        trainer: its `train` is called inside.

    Raises:
        Terminated: after SIGTERM, once the checkpoint is written.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = _SaveAndStop()
    before = signal.signal(signal.SIGTERM, stop.note)
    trainer.add_callback(stop)
    try:
        yield
    finally:
        trainer.remove_callback(stop)
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    if stop.noted:  # after the last step, which is saved as its epoch is
        raise _terminated(trainer.state.global_step)


class _SaveAndStop(TrainerCallback):
    def __init__(self) -> None:
        self.noted = self._stopping = False
        self._group: torch.distributed.ProcessGroup | None = None

    def note(self, *args) -> None:
        self.noted = True

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if torch.distributed.is_initialized():
            self._group = torch.distributed.new_group(backend="gloo")  # on CPU, so that no step waits for a GPU

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._stopping = self.noted
        if self._group is not None:  # SIGTERM arrives in different steps, and a checkpoint needs all processes
            noted = torch.tensor(int(self.noted))
            torch.distributed.all_reduce(noted, torch.distributed.ReduceOp.MAX, self._group)
            self._stopping = bool(noted)
        control.should_save = control.should_save or self._stopping

    def on_save(self, args, state, control, **kwargs) -> None:
        # not by control.should_training_stop, which would be saved, so that a resumed run would end at once
        if self._stopping:
            raise _terminated(state.global_step)


def _terminated(step: int) -> Terminated:
    return Terminated(f"ended by SIGTERM after step {step}; repeat the command, and the run continues from there.")

"""Fitting of one model, with checkpoints to resume from, also after SIGTERM."""

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
from ..files import write_lines
from ..models import LogisticRegressionForAudioClassification, cpu_attention
from ..models.probe import ProbeForAudioClassification
from ..validation import UserError
from .linear import fit_logistic_regression, select_regularization
from .trainer import VivaeTrainer

logger = logging.getLogger(__name__)


def fit_model(trainer: VivaeTrainer, folder: Path) -> dict[str, Any] | None:
    """Train the model of a trainer, or have scikit-learn solve it where that is possible.

    Returns what the trainer's `eval_dataset` has chosen: by which `metric`, and the `epoch` or the strength of
    regularisation; None where nothing was.

    Args:
        trainer: its model is changed in place; afterwards it computes in its own precision.
        folder: run folder; training goes on from the last whole checkpoint there.

    Raises:
        Terminated: where SIGTERM has ended the training; it is saved.
        UserError: where the loss of a batch is not finite; and where a killed run had another number of processes,
            its best checkpoint is damaged or not there, or a checkpoint may not be read.
    """
    if isinstance(trainer.model, LogisticRegressionForAudioClassification):
        _solve(trainer, folder)
        return None
    if isinstance(trainer.model, ProbeForAudioClassification):
        return _choose(trainer, folder)
    if trainer.args.save_only_model and _checkpoints(folder):
        raise UserError(
            f"expected checkpoints that a run can go on from in {folder}, found those of --save_only_model; remove "
            "them to train from the start."
        )
    if trainer.args.should_save:
        _drop_unfinished_checkpoints(folder, trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
    trainer.accelerator.wait_for_everyone()
    checkpoints = _checkpoints(folder)
    if checkpoints:
        _check_processes(checkpoints[-1], trainer.args.world_size)
    trainer.add_callback(_BestCheckpoint(folder))
    if trainer.args.device.type == "cpu":
        cpu_attention.speed_up(trainer.model)
    with saved_on_sigterm(trainer):
        trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
    # mixed precision wraps forward in place; what is scored is the model that is saved
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    return _best_epoch(trainer)


def _best_epoch(trainer: VivaeTrainer) -> dict[str, Any] | None:
    best = trainer.state.best_global_step
    if not trainer.args.load_best_model_at_end or not best:
        return None
    epoch = next(entry["epoch"] for entry in trainer.state.log_history if entry.get("step") == best)
    return {"metric": trainer.args.metric_for_best_model, "epoch": epoch}


def _choose(trainer: VivaeTrainer, folder: Path) -> dict[str, Any] | None:
    entries = select_regularization(trainer)
    if trainer.args.should_save:
        write_lines(folder / "history.jsonl", entries)
    config = trainer.model.config
    chosen = {"inverse_regularization": config.inverse_regularization, "refit": config.refit}
    return {"metric": "loss", **chosen} if len(entries) > 1 else None


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


class _BestCheckpoint(TrainerCallback):
    """Points a resumed training to its best checkpoint, whose place is the run folder's of the earlier start.

    Where that path leads nowhere, the library goes on without it and ends with the weights of the last epoch.
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
        selects: whether the best stays, rather than the last.
    """
    checkpoints = _checkpoints(folder)
    selected = [
        checkpoint
        for checkpoint in checkpoints
        if selects and _read_state(checkpoint).get("best_global_step") == _step(checkpoint)
    ]
    for checkpoint in checkpoints:
        if checkpoint != (selected or checkpoints)[-1]:
            shutil.rmtree(checkpoint)


def _read_state(checkpoint: Path) -> dict[str, Any]:
    """The trainer's state, which is written last; empty where it is not whole, or does not know its best step."""
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
    """Remove checkpoints behind the last one that can be resumed.

    A killed process has not written them to their end, or has begun to delete them; a full disk or a power cut leaves
    files cut or empty. Earlier ones stay: the best needs no more than its weights.

    Args:
        folder: of the run.
        sharded: whether weights and optimizer lie elsewhere, as FSDP and DeepSpeed keep them.

    Raises:
        UserError: for a file that may not be read, which may well be whole.
    """
    needed = ("rng_state*.pth", *(() if sharded else (OPTIMIZER_NAME, SCHEDULER_NAME, "*.safetensors")), "*.json")
    whole, unfinished = [], []
    for checkpoint in _checkpoints(folder):
        try:
            name = _find_damaged(checkpoint, needed)
        except OSError as error:
            raise UserError(
                f"expected a checkpoint that can be read, found {error.filename} ({error.strerror}); change its "
                "permissions and repeat the command."
            ) from error
        if name:
            unfinished.append((checkpoint, name))
        else:
            whole.append(checkpoint)
    for checkpoint, name in unfinished:
        if not whole or _step(checkpoint) > _step(whole[-1]):
            logger.warning("%s has no whole %s and is removed.", checkpoint, name)
            shutil.rmtree(checkpoint)


def _find_damaged(checkpoint: Path, needed: tuple[str, ...]) -> str | None:
    """The name, or the pattern of `needed`, of a file that is cut or not there; None where all are whole."""
    names = os.listdir(checkpoint)  # glob would find nothing in a folder that may not be read
    for pattern in needed:
        files = matching(names, pattern)
        damaged = [name for name in files if not _is_whole(checkpoint / name)]
        if damaged or not files:
            return damaged[0] if damaged else pattern
    return None if _read_state(checkpoint) else TRAINER_STATE_NAME


def _is_whole(file: Path) -> bool:
    """Tell whether a file of a checkpoint has its end: the zip that `torch.save` writes has its contents' table there.

    Raises:
        OSError: for a file that may not be read.
    """
    with file.open("rb") as content:  # first, since safetensors says of a locked file that there is none
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


def _check_processes(checkpoint: Path, processes: int) -> None:
    """Refuse to go on with another number of processes, for which there are no random states.

    Raises:
        UserError: with the number that wrote the checkpoint.
    """
    before = len(list(checkpoint.glob("rng_state*.pth")))
    if before != processes:
        raise UserError(
            f"expected {before} processes, which {checkpoint} was written by, found {processes}; start as many, or "
            "give another --output_dir."
        )


def _solve(trainer: VivaeTrainer, folder: Path) -> None:
    rows = trainer.train_dataset[:]
    inputs = trainer.data_collator([{"input_values": clip} for clip in rows["input_values"]])["input_values"]
    entry = fit_logistic_regression(trainer.model, inputs.numpy(), rows["labels"].numpy())
    if trainer.args.should_save:
        write_lines(folder / "history.jsonl", [entry])


@contextmanager
def saved_on_sigterm(trainer: Trainer) -> Iterator[None]:
    """Let SIGTERM end a training after the step under way, with a checkpoint of it; does nothing outside of the main
    thread, which alone hears signals.

    Args:
        trainer: its `train` is called inside.

    Raises:
        Terminated: where SIGTERM has come, once the checkpoint is there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = _SaveAndLeave()
    before = signal.signal(signal.SIGTERM, stop.note)
    trainer.add_callback(stop)
    try:
        yield
    finally:
        trainer.remove_callback(stop)
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    if stop.noted:  # after the last step, which is saved as its epoch is
        raise _terminated(trainer.state.global_step)


class _SaveAndLeave(TrainerCallback):
    def __init__(self) -> None:
        self.noted = self._leaving = False
        self._group: torch.distributed.ProcessGroup | None = None

    def note(self, *args) -> None:
        self.noted = True

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if torch.distributed.is_initialized():
            self._group = torch.distributed.new_group(backend="gloo")  # on CPU, so that no step waits for a GPU

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._leaving = self._agreed()
        control.should_save = control.should_save or self._leaving

    def on_save(self, args, state, control, **kwargs) -> None:
        # not by control.should_training_stop, which the checkpoint would keep: a resumed run would end at once
        if self._leaving:
            raise _terminated(state.global_step)

    def _agreed(self) -> bool:
        """Whether any process was told to; the signal reaches them in different steps, and a checkpoint is of all."""
        if self._group is None:
            return self.noted
        noted = torch.tensor(int(self.noted))
        torch.distributed.all_reduce(noted, torch.distributed.ReduceOp.MAX, self._group)
        return bool(noted)


def _terminated(step: int) -> Terminated:
    return Terminated(f"ended by SIGTERM after step {step}; repeat the command, and the run goes on from there.")

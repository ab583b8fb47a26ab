"""A model to its weights: from the start, or from where a killed run left off."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from . import cpu, runs
from .logistic import fit_logistic_regression
from .models import LogisticRegressionForAudioClassification
from .models.probe import ProbeForAudioClassification
from .probing import choose_strength
from .stopping import saved_on_sigterm
from .trainer import VivaeTrainer

logger = logging.getLogger(__name__)


def fit(trainer: VivaeTrainer, folder: Path) -> dict[str, Any] | None:
    """Train the model of a trainer, or have scikit-learn solve it where that is possible.

    Returns what the trainer's `eval_dataset` has chosen: by which `metric`, and the `epoch` or the strength of
    regularisation; None where nothing was.

    Args:
        trainer: its model is changed in place; afterwards it computes in its own precision.
        folder: run folder; training goes on from the last whole checkpoint there.

    Raises:
        Terminated: where SIGTERM has ended the training; it is saved.
        ValueError: where the loss of a batch is not finite.
    """
    if isinstance(trainer.model, LogisticRegressionForAudioClassification):
        _solve(trainer, folder)
        return None
    if isinstance(trainer.model, ProbeForAudioClassification):
        return _choose(trainer, folder)
    if trainer.args.should_save:
        _drop_unfinished_checkpoints(folder)
    trainer.accelerator.wait_for_everyone()
    checkpoints = _checkpoints(folder)
    if trainer.args.device.type == "cpu":
        cpu.speed_up(trainer.model)
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
    entries = choose_strength(trainer)
    if trainer.args.should_save:
        runs.write_lines(folder / "history.jsonl", entries)
    config = trainer.model.config
    chosen = {"inverse_regularization": config.inverse_regularization, "refit": config.refit}
    return {"metric": "loss", **chosen} if len(entries) > 1 else None


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _drop_unfinished_checkpoints(folder: Path) -> None:
    # Trainer writes trainer_state.json last: without it, or with half of it, the writer was killed in between
    for checkpoint in _checkpoints(folder):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            logger.warning("%s was not written to its end and is removed.", checkpoint)
            shutil.rmtree(checkpoint)


def _solve(trainer: VivaeTrainer, folder: Path) -> None:
    rows = trainer.train_dataset[:]
    inputs = trainer.data_collator([{"input_values": clip} for clip in rows["input_values"]])["input_values"]
    entry = fit_logistic_regression(trainer.model, inputs.numpy(), rows["labels"].numpy())
    if trainer.args.should_save:
        runs.write_lines(folder / "history.jsonl", [entry])

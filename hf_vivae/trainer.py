"""The library's Trainer with one loss for every model, the report's optimiser, and its accuracy while training."""

import math
from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from .evaluation.figures import save_curves
from .runs import write_lines


class VivaeTrainer(Trainer):
    """`Trainer` whose loss is the mean over all clips of an optimiser step, however they were cut into batches.

    The library leaves the loss to each model, and some ignore gradient accumulation (wav2vec2 would take four times
    the step at 2 x 4 instead of 8 x 1). Here it is computed once, from the logits.

    Args:
        args: those of `Trainer`.
        title: model and clips; stands beside every score that is shown while training.
        kwargs: those of `Trainer`.
    """

    def __init__(self, *args, title: str, **kwargs) -> None:
        super().__init__(
            *args, compute_loss_func=self._mean_loss, preprocess_logits_for_metrics=_only_logits, **kwargs
        )
        self._hits, self._seen = 0, 0
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)
        self.add_callback(EpochProgress(title))
        self.add_callback(History(title))

    def _mean_loss(self, outputs, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None):
        logits = outputs["logits"].float()  # (batch, num_labels)
        smoothing = 0.0
        if self.model.training:
            smoothing = self.args.label_smoothing_factor
            self._hits += (logits.detach().argmax(-1) == labels).sum()
            self._seen += len(labels)
        count = len(labels) if num_items_in_batch is None else num_items_in_batch
        return torch.nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing) / count

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """Add the accuracy on the training clips since the last entry, measured with dropout on."""
        if "loss" in logs and self._seen:
            counts = torch.tensor([int(self._hits), self._seen], device=self.args.device)
            hits, seen = self.accelerator.reduce(counts).tolist()
            logs["accuracy"] = hits / seen
            self._hits, self._seen = 0, 0
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The library's optimiser, or with `adam_l2` Adam with L2 on all parameters, which it does not offer."""
        if self.optimizer is None and self.args.adam_l2:
            parameters = [p for p in (model or self.model).parameters() if p.requires_grad]
            self.optimizer = torch.optim.Adam(
                parameters,
                lr=self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                weight_decay=self.args.weight_decay,
            )
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        """The library's scheduler, or with `lr_decay_epochs` a step decay counted in epochs."""
        if self.lr_scheduler is None and self.args.lr_decay_epochs:
            self.lr_scheduler = torch.optim.lr_scheduler.StepLR(
                optimizer or self.optimizer,
                step_size=self.args.lr_decay_epochs * self._steps_per_epoch(),
                gamma=self.args.lr_decay_factor,
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def _steps_per_epoch(self) -> int:
        batches = math.ceil(len(self.train_dataset) / self.args.train_batch_size / self.args.world_size)
        return max(1, math.ceil(batches / self.args.gradient_accumulation_steps))


def _only_logits(outputs: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    # library encoders append hidden states, which would be gathered for all clips
    return outputs[0] if isinstance(outputs, tuple) else outputs


class EpochProgress(ProgressCallback):
    """The library's progress bar, with one readable line for each evaluation instead of every number."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """Show the line once validation has been scored."""
        if self.training_bar is not None and logs and "eval_uar" in logs:
            train = next((entry for entry in reversed(state.log_history) if "loss" in entry), {})
            self.training_bar.write(
                f"{self.title}, epoch {logs.get('epoch', 0):g}: train loss {train.get('loss', math.nan):.3f}, "
                f"accuracy {train.get('accuracy', math.nan):.1%}; validation loss {logs['eval_loss']:.3f}, accuracy "
                f"{logs['eval_accuracy']:.1%}, UAR {logs['eval_uar']:.1%}"
            )


class History(TrainerCallback):
    """Keeps `history.jsonl` of a run folder up to date, and draws its loss and accuracy curves."""

    def __init__(self, title: str) -> None:
        self.title = title

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        """Write all entries anew: after a resume, those beyond the checkpoint are gone."""
        if state.is_world_process_zero:
            write_lines(Path(args.output_dir) / "history.jsonl", state.log_history)

    def on_train_end(self, args, state, control, model, **kwargs) -> None:
        """Write the last entries and draw the curves; pictures each epoch would cost as much as the MLP."""
        self.on_evaluate(args, state, control)
        if state.is_world_process_zero:
            save_curves(state.log_history, Path(args.output_dir), self.title, model.config.num_labels)

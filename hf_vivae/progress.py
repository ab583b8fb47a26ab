"""What is counted, shown and kept while a model trains: accuracy and speed, a line for each epoch, the history."""

import math
import time
from pathlib import Path

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from .evaluation.figures import save_curves
from .runs import write_lines


class Tally:
    """Counts over the clips that passed the loss since the last entry of the log."""

    def __init__(self) -> None:
        self.hits, self.clips, self.batch_means = 0, 0, 0.0
        self.started: float | None = None

    def start(self) -> None:
        """Set the clock going, if it does not go yet."""
        self.started = self.started or time.perf_counter()

    def add(self, logits: torch.Tensor, labels: torch.Tensor, loss: torch.Tensor, share: torch.Tensor | float) -> None:
        """Count a batch: logits `(batch, num_labels)`, labels `(batch,)`, its summed loss. No wait for a GPU.

        `share` is how many clips of the batch a process has on average. Of mixed clips, whose labels are
        `(batch, num_labels)`, the one with the greater share counts.
        """
        self.hits += (logits.argmax(-1) == (labels if labels.ndim == 1 else labels.argmax(-1))).sum()
        self.batch_means += loss / share
        self.clips += len(labels)

    def speed(self, clips: float) -> float:
        """Clips a second, where `clips` of all processes were counted."""
        return clips / (time.perf_counter() - self.started)


class EpochProgress(ProgressCallback):
    """The library's progress bar, with one readable line for each evaluation instead of every number."""

    def __init__(self, title: str, select_on: str) -> None:
        super().__init__()
        self.title, self.select_on = title, select_on

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """Show the line once the clips that select have been scored."""
        if self.training_bar is not None and logs and "eval_uar" in logs:
            train = next((entry for entry in reversed(state.log_history) if "loss" in entry), {})
            self.training_bar.write(
                f"{self.title}, epoch {logs.get('epoch', 0):g}: train loss {train.get('loss', math.nan):.3f}, "
                f"accuracy {train.get('accuracy', math.nan):.1%}; {self.select_on} loss {logs['eval_loss']:.3f}, "
                f"accuracy {logs['eval_accuracy']:.1%}, UAR {logs['eval_uar']:.1%}"
            )


class History(TrainerCallback):
    """Keeps `history.jsonl` of a run folder up to date, and draws its loss and accuracy curves."""

    def __init__(self, title: str, select_on: str, majority: float | None) -> None:
        self.title, self.select_on, self.majority = title, select_on, majority

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        """Write all entries anew: after a resume, those beyond the checkpoint are gone."""
        if state.is_world_process_zero:
            write_lines(Path(args.output_dir) / "history.jsonl", state.log_history)

    def on_train_end(self, args, state, control, model, **kwargs) -> None:
        """Write the last entries and draw the curves; pictures each epoch would cost as much as the MLP."""
        self.on_evaluate(args, state, control)
        if state.is_world_process_zero:
            folder, labels = Path(args.output_dir), model.config.num_labels
            save_curves(state.log_history, folder, self.title, labels, self.select_on, self.majority)

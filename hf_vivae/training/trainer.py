"""`VivaeTrainer`, and the callbacks of a run for history and progress."""

import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch.utils.data import Sampler, SequentialSampler
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..features.extraction import AudioDataCollator
from ..files import write_lines
from ..models.hidden_states import bare_encoder
from ..reporting.plots import save_curves
from ..validation import UserError


class VivaeTrainer(Trainer):
    """`Trainer` whose loss is the mean over all clips of an optimizer step, however they are divided into batches.

    The library leaves the loss to each model, and some ignore gradient accumulation (a step of wav2vec2 would be four
    times as large at 2 x 4 as at 8 x 1). Here it is computed once, from the logits. Where the clips do not fill the
    last step of an epoch, the copies with which accelerate fills it do not count. Evaluation leaves the random numbers
    of training as they are, so that a run that evaluates more often learns the same.

    Args:
        args: positional arguments of `Trainer`, of which `args` are `VivaeTrainingArguments`.
        test_dataset: clips that are scored after each evaluation too, as `test_*`, and select nothing.
        files: name of each clip of the corpus, for errors; batches have the index of each clip as `clip`.
        train_lengths: length of each training clip for `group_by_length`; by default, the features are read for it.
        train_order: function of seed and epoch that returns the positions of the training clips in their order; by
            default, they are shuffled.
        class_weights: weight of a clip of each label in the loss of training, `(num_labels,)`; None for equal ones.
        kwargs: keyword arguments of `Trainer`. The feature extractor is its `processing_class`, of which the default
            `data_collator` is an `AudioDataCollator`.

    Raises:
        UserError: for `class_weights` in the arguments without the weights.
    """

    def __init__(
        self,
        *args,
        test_dataset: Dataset | None = None,
        files: Sequence[str] = (),
        train_lengths: Sequence[float] | None = None,
        train_order: Callable[[int, int], Iterable[int]] | None = None,
        class_weights: torch.Tensor | None = None,
        **kwargs,
    ) -> None:
        extractor = kwargs.get("processing_class")
        has_collator = len(args) > 2 or kwargs.get("data_collator") is not None
        if isinstance(extractor, FeatureExtractionMixin) and not has_collator:
            kwargs["data_collator"] = AudioDataCollator(extractor)

        def keep_logits(outputs: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
            # library encoders append hidden states, which would be gathered for all clips
            return outputs[0] if isinstance(outputs, tuple) else outputs

        super().__init__(*args, compute_loss_func=self._mean_loss, preprocess_logits_for_metrics=keep_logits, **kwargs)
        self._files, self._clips = files, ()
        self._train_order = train_order
        self._test_dataset, self._lengths, self._class_weights = test_dataset, train_lengths, class_weights
        self._trained, self._scored = RunningMetrics(), RunningMetrics()
        if self.args.class_weights != "none" and class_weights is None:
            raise UserError(
                f"expected the weight of each label as class_weights, found only {self.args.class_weights!r} in the "
                "arguments; give them to VivaeTrainer, or leave the argument out."
            )
        if self.args.early_stopping_patience:
            self.add_callback(EarlyStopping(self.args.early_stopping_patience))

    def _mean_loss(self, outputs, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None):
        training = torch.is_grad_enabled()  # not model.training, which eval_dropout leaves on
        if not training:
            own, clips = self._last_shares(len(labels))
            labels = labels[:own]
        else:  # labels are those of own clips already, since the library counts them for all batches of a step at once
            clips = self._clips_in_batch(len(labels), num_items_in_batch)
        logits = outputs["logits"][: len(labels)].float()  # (own clips, num_labels)
        if self.args.loss == "ctc":
            total = one_frame_ctc(logits, labels)
        else:
            smoothing = self.args.label_smoothing_factor if training else 0.0
            weights = self._class_weights.to(logits.device) if training and self._class_weights is not None else None
            total = torch.nn.functional.cross_entropy(
                logits, labels, weights, reduction="sum", label_smoothing=smoothing
            )
        (self._trained if training else self._scored).add(logits.detach(), labels, total.detach(), clips)
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def get_batch_samples(self, epoch_iterator, *args, **kwargs):
        """Return the library's batches, with labels only of the process's own clips, which come first in a batch."""

        def own(batch: dict) -> dict:
            return batch | {"labels": batch["labels"][: self._last_shares(len(batch["labels"]))[0]]}

        return super().get_batch_samples(map(own, epoch_iterator), *args, **kwargs)

    def _last_shares(self, size: int) -> tuple[int, float]:
        """Return how many clips of the last batch belong to this process, and how many a process has on average.

        Batches of all processes have one size: accelerate fills the last ones of an epoch with its first clips.
        """
        state, processes = self.accelerator.gradient_state, self.args.world_size
        left = 0
        if processes > 1 and state.end_of_dataloader and not self.args.dataloader_drop_last:
            # not state.remainder, which accelerate does not know after a resume in the middle of an epoch
            left = len(state.active_dataloader.dataset) % (size * processes)
        if not left:
            return size, size
        return min(max(left - size * self.args.process_index, 0), size), left / processes

    def _clips_in_batch(self, own: int, num_items: torch.Tensor | int | None) -> torch.Tensor | float:
        """Return how many clips of a training batch a process has on average; a step's last batch has the rest."""
        if num_items is None:
            return own
        if not self.accelerator.sync_gradients:
            return self._train_batch_size
        full = self._train_batch_size * (self.current_gradient_accumulation_steps - 1)
        return num_items / self.args.world_size - full

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        """Run the library's step, and time it; evaluation and saving are not part of the time.

        Raises:
            UserError: where the loss is not finite, with the names of the clips; before the optimizer's step.
        """
        self._trained.started = self._trained.started or time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        # the library waits for each step's loss anyway, to leave NaN out of its log
        finite = torch.isfinite(loss).float()
        if self.args.world_size > 1:
            finite = self.accelerator.reduce(finite, reduction="mean")  # else one process would wait for the other
        if finite == 1:
            return loss
        mine = [self._files[clip] for clip in self._clips] if self._files and not torch.isfinite(loss) else []
        names = gather_object(mine) if self.args.world_size > 1 else mine
        clips = f", on {', '.join(names)}" if names else ""
        raise UserError(
            f"expected a finite loss, found NaN or infinity in step {self.state.global_step + 1}{clips}; lower "
            "--learning_rate, or leave out the clip where it is always the same one."
        )

    def _prepare_inputs(self, inputs: dict) -> dict:
        self._clips = inputs.pop("clip", ())
        return super()._prepare_inputs(inputs)

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """Add accuracy, summed loss and speed of the training clips since the last entry, with dropout on."""
        if "loss" in logs and self._trained.started:  # in all processes, though one may have had no clip
            hits, clips, batch_means = self._reduced(self._trained)
            seconds = time.perf_counter() - self._trained.started
            logs |= {"accuracy": hits / clips, "loss_sum": batch_means, "clips_per_second": clips / seconds}
            self._trained = RunningMetrics()
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Evaluate as the library does, then on `test_dataset`; return the scores of the first."""
        scores = super().evaluate(*args, **kwargs)
        if self._test_dataset is not None:
            super().evaluate(self._test_dataset, metric_key_prefix="test")
        return scores

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        """Run the library's loop, and add the sum over batches of their mean losses as `*_loss_sum`."""
        self._scored = RunningMetrics()
        with torch.random.fork_rng([self.args.device] if self.args.device.type == "cuda" else []):
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        output.metrics[f"{metric_key_prefix}_loss_sum"] = self._reduced(self._scored)[2]
        return output

    def prediction_step(self, model: torch.nn.Module, *args, **kwargs):
        """Run the library's step, with dropout where `eval_dropout` leaves it on, as the paper's notebook does."""
        model.train(self.args.eval_dropout)
        return super().prediction_step(model, *args, **kwargs)

    def _run_epoch(self, *args, resume_from_checkpoint: str | None, **kwargs) -> None:
        # the library would continue from the checkpoint at which early stopping or max_steps ended the training
        stopped = self.state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
        if resume_from_checkpoint is not None and stopped:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _states_of(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _states_of(checkpoint):
            super()._load_rng_state(checkpoint)

    def _reduced(self, sums: "RunningMetrics") -> list[float]:
        counts = torch.tensor([float(sums.hits), sums.clips, float(sums.batch_means)], device=self.args.device)
        hits, clips, batch_means = self.accelerator.reduce(counts).tolist()
        return [hits, clips, batch_means / self.accelerator.num_processes]  # a batch is of all processes together

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | int | None:
        # the library counts entries of labels, of which a mixed clip has one for each label
        clips = [{"labels": batch["labels"].new_zeros(len(batch["labels"]))} for batch in batch_samples]
        return super()._get_num_items_in_batch(clips, device)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler | None:
        if self._train_order is not None:
            return EpochSampler(self, self._train_order)
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        return SeededLengthGroupedSampler(self)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> torch.utils.data.Sampler | None:
        # the library would group by length here, too, and return predictions in that order
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Return the library's optimizer; with `head_learning_rate`, one with another rate for an encoder's head.

        With `adam_l2`, it is Adam with L2 on all parameters, which the library does not have.
        """
        if self.optimizer is None and self.args.head_learning_rate:
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class(self._parameter_groups(model or self.model), **settings)
        if self.optimizer is None and self.args.adam_l2:
            parameters = [p for p in (model or self.model).parameters() if p.requires_grad]
            self.optimizer = torch.optim.Adam(
                parameters,
                lr=self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                weight_decay=self.args.weight_decay,
                fused=True,  # one pass over the weights instead of one for each operation
            )
        return super().create_optimizer(model)

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Return the library's names, without weights of layers, which decay would make equal."""
        return [name for name in super().get_decay_parameter_names(model) if not name.endswith("layer_weights")]

    def _parameter_groups(self, model: torch.nn.Module) -> list[dict]:
        """Return groups of the trained parameters, divided into encoder and head, with and without decay."""
        encoder = {id(weight) for weight in bare_encoder(self.accelerator.unwrap_model(model)).parameters()}
        decaying = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[bool, bool], list] = {}
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                groups.setdefault((id(weight) in encoder, name in decaying), []).append(weight)
        return [
            {
                "params": weights,
                "lr": self.args.learning_rate if in_encoder else self.args.head_learning_rate,
                "weight_decay": self.args.weight_decay if decays else 0.0,
            }
            for (in_encoder, decays), weights in groups.items()
        ]

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        """Return the library's scheduler, or a step decay with `lr_decay_epochs` or `lr_decay_steps`."""
        batches = math.ceil(len(self.train_dataset) / self.args.train_batch_size / self.args.world_size)
        epoch_steps = max(1, math.ceil(batches / self.args.gradient_accumulation_steps))
        steps = self.args.lr_decay_steps or self.args.lr_decay_epochs * epoch_steps
        if self.lr_scheduler is None and steps:
            self.lr_scheduler = torch.optim.lr_scheduler.StepLR(
                optimizer or self.optimizer, step_size=steps, gamma=self.args.lr_decay_factor
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)


@contextmanager
def _states_of(checkpoint: str | None) -> Iterator[None]:
    """Turn errors from the states in a checkpoint, which this run did not write, into one sentence.

    Raises:
        UserError: for a pickle of anything but tensors, which is not executed, and for the states of another network.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"expected the optimizer, scheduler and random states of this run in {checkpoint}, found others "
            f"({reason}); remove that folder, and the run continues from the checkpoint before."
        ) from error


class EarlyStopping(EarlyStoppingCallback):
    """The library's callback, which counts evaluations of the clips that select, and not those of `test_dataset`."""

    def on_evaluate(self, args, state, control, metrics: dict[str, float], **kwargs) -> None:
        """Stop where the score has not improved for `early_stopping_patience` evaluations."""
        if "eval_loss" in metrics:
            super().on_evaluate(args, state, control, metrics, **kwargs)


class SeededLengthGroupedSampler(LengthGroupedSampler):
    """The library's sampler of clips of similar length, which draws from the seed and the epoch.

    The library draws from each process's own random numbers, which differ after dropout on batches of other lengths:
    some clips would train twice, and others not at all. A step has the same clips for any number of processes.
    """

    def __init__(self, trainer: VivaeTrainer) -> None:
        args = trainer.args
        clips = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        extractor = trainer.processing_class
        super().__init__(
            clips,
            dataset=trainer.train_dataset,
            lengths=trainer._lengths if trainer._lengths is None else list(trainer._lengths),
            model_input_name=extractor and extractor.model_input_names[0],
            generator=torch.Generator(),
        )
        self._trainer, self._seed = trainer, args.seed if args.data_seed is None else args.data_seed

    def __iter__(self):
        """Return positions of all clips, the same each time this epoch starts."""
        self.generator.manual_seed(self._seed + 1_000_003 * int(self._trainer.state.epoch or 0))
        return super().__iter__()


class EpochSampler(Sampler):
    """Sampler of an order that depends on the seed and the epoch alone, as that of `SeededLengthGroupedSampler`.

    Args:
        trainer: of the run.
        order: see `VivaeTrainer`.
    """

    def __init__(self, trainer: VivaeTrainer, order: Callable[[int, int], Iterable[int]]) -> None:
        self._trainer, self._order = trainer, order

    def __len__(self) -> int:
        return len(self._trainer.train_dataset)

    def __iter__(self) -> Iterator[int]:
        """Return positions of all clips, the same each time this epoch starts."""
        args, epoch = self._trainer.args, int(self._trainer.state.epoch or 0)
        return iter(self._order(args.seed if args.data_seed is None else args.data_seed, epoch))


def one_frame_ctc(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the CTC loss of logits `(batch, num_labels)` and labels `(batch,)`, summed over the clips.

    The paper names CTC for a classifier whose output for a clip is one frame of labels without a blank: CTC over it
    (Graves et al., ICML 2006) has a single path, the label itself, and is cross entropy.
    """
    if not len(labels):  # a process without a clip of its own, which torch's CTC refuses
        return logits.sum()
    frame = logits.log_softmax(-1)
    blank = torch.full_like(frame[:, :1], -1e9)  # not -inf, whose gradient is NaN
    lengths = torch.ones(len(labels), dtype=torch.long)
    log_probs = torch.cat((blank, frame), dim=1)[None]  # (frames=1, batch, 1 + num_labels)
    return torch.nn.functional.ctc_loss(log_probs, labels[:, None] + 1, lengths, lengths, reduction="sum")


class RunningMetrics:
    """Counts over the clips in the loss since the last entry of the log."""

    def __init__(self) -> None:
        self.hits, self.clips, self.batch_means = 0, 0, 0.0
        self.started: float | None = None  # time of the first step

    def add(self, logits: torch.Tensor, labels: torch.Tensor, loss: torch.Tensor, share: torch.Tensor | float) -> None:
        """Count a batch, without waiting for a GPU.

        Args:
            logits: `(batch, num_labels)`.
            labels: `(batch,)`; of mixed clips `(batch, num_labels)`, of which the largest counts.
            loss: summed over the batch.
            share: number of clips of the batch that a process has on average.
        """
        self.hits += (logits.argmax(-1) == (labels if labels.ndim == 1 else labels.argmax(-1))).sum()
        self.batch_means += loss / share
        self.clips += len(labels)


class EpochProgressCallback(ProgressCallback):
    """The library's progress bar, with one line for each evaluation instead of the dictionary of all scores.

    Args:
        title: model and clips, at the start of each line.
        select_on: clips that are evaluated, `validation` or `test`.
    """

    def __init__(self, title: str, select_on: str = "validation") -> None:
        super().__init__()
        self.title, self.select_on = title, select_on

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """Write the line after an evaluation of the clips that select."""
        if self.training_bar is not None and logs and "eval_uar" in logs:
            train = next((entry for entry in reversed(state.log_history) if "loss" in entry), {})
            self.training_bar.write(
                f"{self.title}, epoch {logs.get('epoch', 0):g}: train loss {train.get('loss', math.nan):.3f}, "
                f"accuracy {train.get('accuracy', math.nan):.1%}; {self.select_on} loss {logs['eval_loss']:.3f}, "
                f"accuracy {logs['eval_accuracy']:.1%}, UAR {logs['eval_uar']:.1%}"
            )


class HistoryCallback(TrainerCallback):
    """Callback that writes `history.jsonl` of a run folder, and draws its loss and accuracy curves.

    Args:
        title: model and clips, the title of the figures.
        select_on: clips that are evaluated, `validation` or `test`.
        majority: accuracy of the most frequent training label on these clips, a line in the figure.
    """

    def __init__(self, title: str, select_on: str = "validation", majority: float | None = None) -> None:
        self.title, self.select_on, self.majority = title, select_on, majority

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        """Write all entries again, since a resume drops those after the checkpoint."""
        if state.is_world_process_zero:
            write_lines(Path(args.output_dir) / "history.jsonl", state.log_history)

    def on_train_end(self, args, state, control, model, **kwargs) -> None:
        """Write the last entries and draw the curves; in each epoch, this would take as long as training an MLP."""
        self.on_evaluate(args, state, control)
        if state.is_world_process_zero:
            folder, labels = Path(args.output_dir), model.config.num_labels
            save_curves(state.log_history, folder, self.title, labels, self.select_on, self.majority)

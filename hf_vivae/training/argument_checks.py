"""What flags of a run and of its training refuse together, in the words of both."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from transformers import Trainer, get_scheduler
from transformers.trainer_utils import HubStrategy, IntervalStrategy

from ..models import MODELS, PROBE, split_name
from ..models.backbones import BACKBONES
from ..run_folder import UNSELECTED
from ..validation import UserError
from .arguments import RunArguments, VivaeTrainingArguments

OF_EPOCHS = (
    "augment", "class_weights", "early_stopping_patience", "head_learning_rate", "label_smoothing_factor",
    "train_sampling_strategy",
)  # fmt: skip
# the name before transformers 5.23 is an alias since then, and follows the other
CHECKPOINTING = "activation_checkpointing"
if CHECKPOINTING not in {field.name for field in fields(VivaeTrainingArguments)}:
    CHECKPOINTING = "gradient_checkpointing"


WITHOUT_EPOCHS = (
    *OF_EPOCHS, CHECKPOINTING, "adam_beta1", "adam_beta2", "adam_epsilon", "adam_l2",
    "auto_find_batch_size", "bf16", "eval_dropout", "eval_on_start", "eval_steps", "eval_strategy", "fp16", "freeze",
    "gradient_accumulation_steps", "learning_rate", "load_best_model_at_end", "lora_rank",
    "loss", "lr_decay_epochs",
    "lr_decay_factor", "lr_decay_steps", "lr_scheduler_kwargs", "lr_scheduler_type", "max_grad_norm", "max_steps",
    "metric_for_best_model", "neftune_noise_alpha", "normalization", "num_train_epochs", "optim", "optim_args",
    "per_device_train_batch_size", "save_steps", "save_strategy", "trust_remote_code", "warmup_steps", "watch_test",
    "weight_decay",
)  # fmt: skip


def check_together(run: RunArguments, args: VivaeTrainingArguments, explicit: Mapping[str, Any]) -> None:
    """Refuse what a run and its training cannot be together.

    Args:
        run: what to train on what.
        args: how to train.
        explicit: arguments of the command line and of overrides alone, by name.

    Raises:
        ValueError: naming the flag, and what to do.
    """
    _check_selection(run, args, explicit)
    if run.model.startswith(PROBE):
        _refuse(run, args, WITHOUT_EPOCHS, "a probe", "train the encoder: --model without probe:")
    if run.model == "logistic-regression":  # which takes its turn in studies, under flags that all their models get
        _refuse(run, args, OF_EPOCHS, "what scikit-learn solves", "give another --model")
    _check_needless(run, args, explicit)
    if run.from_scratch and run.freeze == "all":
        raise UserError("--from_scratch gives random weights, found --freeze all beside it; leave out one of them.")
    if args.head_learning_rate and run.model in MODELS:
        raise UserError(
            f"expected a pretrained encoder beside --head_learning_rate, found --model {run.model}; leave it out."
        )
    if args.loss == "ctc" and run.augment.get("mixup"):
        raise UserError(
            "--loss ctc takes one label for each clip, found mixup in --augment beside it; leave out one of the two."
        )
    _check_push(run, args)


def try_out(args: VivaeTrainingArguments) -> None:
    """Make the optimizer and the scheduler once, as `Trainer` does after all clips have been read.

    Raises:
        Exception: whatever the library raises for packages that are absent, and for arguments that they do not take.
    """
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 1, 1, bias=False)  # draws no random numbers
    made, settings = Trainer.get_optimizer_cls_and_kwargs(args, layer)
    # some need the whole model, and others are functions that make one
    plain = isinstance(made, type) and issubclass(made, torch.optim.Optimizer) and "model" not in settings
    optimizer = made(layer.parameters(), **settings) if plain else torch.optim.SGD(layer.parameters())
    get_scheduler(args.lr_scheduler_type, optimizer, 0, 1, scheduler_specific_kwargs=args.lr_scheduler_kwargs)


def _check_selection(run: RunArguments, args: VivaeTrainingArguments, explicit: Mapping[str, Any]) -> None:
    """Refuse what needs clips that select where there are none."""
    needs_them = {
        "watch_test": run.watch_test,
        "early_stopping_patience": args.early_stopping_patience,
        "eval_on_start": args.eval_on_start,
        **{name: explicit.get(name) not in (None, value) for name, value in UNSELECTED.items()},
    }
    found = [f"--{name}" for name, needs in needs_them.items() if needs]
    if run.select_on == "none" and found:
        raise UserError(
            f"--select_on none leaves no clips that are scored while training, found {found[0]} beside it; leave it "
            "out, or add --select_on validation."
        )
    if run.select_on == "none" and run.model.startswith(PROBE):
        raise UserError(
            "--select_on none leaves no clips that choose how a probe is regularised, found --model "
            f"{run.model}; add --select_on validation."
        )
    if args.early_stopping_patience and not args.load_best_model_at_end:
        raise UserError(
            "--early_stopping_patience stops at a best evaluation, found --load_best_model_at_end false beside it; "
            "leave out one of the two."
        )


def _check_needless(run: RunArguments, args: VivaeTrainingArguments, explicit: Mapping[str, Any]) -> None:
    """Refuse what would change nothing."""
    if explicit.get("lr_decay_factor") is not None and not (args.lr_decay_epochs or args.lr_decay_steps):
        raise UserError(
            "expected --lr_decay_epochs or --lr_decay_steps beside --lr_decay_factor, found neither; add one of "
            "them, or leave it out."
        )
    if run.scale != "peak" and (split_name(run.model)[0] or run.model in BACKBONES):
        raise UserError(
            f"--scale is of this package's own feature extractors, found it beside --model {run.model}; leave it out."
        )
    if run.watch_test and args.eval_strategy == IntervalStrategy.NO:
        raise UserError(
            "--watch_test scores the test clips with those that select, found --eval_strategy no beside it; leave out "
            "one of the two."
        )


def _refuse(run: RunArguments, args: VivaeTrainingArguments, names: Sequence[str], model: str, otherwise: str) -> None:
    """Refuse what a model without epochs would take no notice of."""
    pairs = (args, VivaeTrainingArguments(output_dir=args.output_dir)), (run, RunArguments(model=run.model))
    given = [
        f.name
        for mine, plain in pairs
        for f in fields(mine)
        if f.name in names and getattr(mine, f.name) != getattr(plain, f.name)
    ]
    if given:
        raise UserError(
            f"expected only arguments that {model} has a use for, found --{', --'.join(given)}; leave out what is for "
            f"training with epochs, or {otherwise}."
        )


def _check_push(run: RunArguments, args: VivaeTrainingArguments) -> None:
    """Refuse to push what nobody could load: LoRA's matrices before they are merged."""
    if not (args.push_to_hub and run.lora_rank):
        return
    if run.lora_save == "adapter" or args.hub_strategy != HubStrategy.END:
        found = "adapter" if run.lora_save == "adapter" else args.hub_strategy.value
        flag = "--lora_save merged" if run.lora_save == "adapter" else "--hub_strategy end"
        raise UserError(
            f"expected {flag} beside --push_to_hub, found {found}, which nobody else could load; change it, or leave "
            "out --push_to_hub."
        )

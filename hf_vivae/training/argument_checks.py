"""Checks for incompatible arguments of a run and its training."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from transformers import Trainer, get_scheduler
from transformers.trainer_utils import HubStrategy, IntervalStrategy

from ..checkpoints.open_set import check_unknown_is_free, fewest_clips
from ..models import CLASSIC, MODELS, PROBE, REGISTERED, WaveformFeatureExtractor, check_opensmile, split_name
from ..models.backbones import BACKBONES
from ..run_folder import UNSELECTED
from ..validation import UserError
from .arguments import RunArguments, VivaeTrainingArguments

OF_EPOCHS = (
    "augment", "class_weights", "early_stopping_patience", "head_learning_rate", "label_smoothing_factor",
    "train_sampling_strategy",
)  # fmt: skip
# since transformers 5.23, the other name is an alias of it
CHECKPOINTING = "activation_checkpointing"
if CHECKPOINTING not in {field.name for field in fields(VivaeTrainingArguments)}:
    CHECKPOINTING = "gradient_checkpointing"
# arguments that these models would ignore: OF_EPOCHS logistic regression, WITHOUT_EPOCHS a probe and models of CLASSIC
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
    """Check for incompatible arguments.

    Args:
        run: arguments of the run.
        args: arguments of its training.
        explicit: arguments of the command line and of overrides alone, by name.

    Raises:
        UserError: with the argument and the remedy.
    """
    _check_selection(run, args, explicit)
    if run.streaming:
        _check_streaming(run, args)
    if run.model.startswith(PROBE):
        _refuse(run, args, WITHOUT_EPOCHS, "a probe", "train the encoder: --model without probe:")
    if run.model in CLASSIC:
        check_opensmile(f"--model {run.model}")
        starting = ("from_scratch", "model_name_or_path")  # the solver needs no weights
        _refuse(run, args, (*WITHOUT_EPOCHS, *starting), "a model that scikit-learn solves", "give another --model")
    if run.model == "logistic-regression":  # studies give it the arguments of all their models
        _refuse(run, args, OF_EPOCHS, "a model that scikit-learn solves", "give another --model")
    if explicit.get("lr_decay_factor") is not None and not (args.lr_decay_epochs or args.lr_decay_steps):
        raise UserError(
            "expected --lr_decay_epochs or --lr_decay_steps with --lr_decay_factor, found neither; add one, or leave "
            "out --lr_decay_factor."
        )
    if run.scale != "peak" and (split_name(run.model)[0] or run.model in {*BACKBONES, *CLASSIC}):
        raise UserError(
            "--scale is for this package's extractors of waveforms and spectrograms, found --model "
            f"{run.model}; leave it out."
        )
    if run.from_scratch and run.freeze == "all":
        raise UserError("--from_scratch gives random weights, found --freeze all; leave out one of the two.")
    if args.head_learning_rate and run.model in MODELS:
        raise UserError(
            f"expected a pretrained encoder with --head_learning_rate, found --model {run.model}; leave it out."
        )
    if args.loss == "ctc" and run.augment.get("mixup"):
        raise UserError(
            "--loss ctc takes one label for each clip, found mixup in --augment; leave out one of the two."
        )
    # others could load a pushed checkpoint with LoRA's matrices only when they are merged into its weights
    if args.push_to_hub and run.lora_rank and (run.lora_save == "adapter" or args.hub_strategy != HubStrategy.END):
        flag, value = "--lora_save merged", run.lora_save
        if value == "merged":
            flag, value = "--hub_strategy end", args.hub_strategy.value
        raise UserError(
            f"expected {flag} with --push_to_hub, found {value}, which others could not load; change it, or leave out "
            "--push_to_hub."
        )


def check_rejection(
    run: RunArguments, label_names: Sequence[str], background: Sequence[str], clips: Mapping[str, int]
) -> None:
    """Check that a threshold of the largest logit can be fitted with `reject_rate`.

    Args:
        run: arguments of the run.
        label_names: name of each label.
        background: those that are background.
        clips: number of validation clips of each fold, by its name.

    Raises:
        UserError: for labels or a number of validation clips without such a threshold.
    """
    if background:
        raise UserError(
            f"expected no background class with --reject_rate, found {', '.join(background)}, which rejects clips "
            "already; leave out --reject_rate, or the clips of that class."
        )
    check_unknown_is_free(label_names, "with --reject_rate")
    solved = run.model.startswith(PROBE) or run.model in (*CLASSIC, "logistic-regression")
    if solved and len(label_names) < 3:  # their first logit is always 0
        raise UserError(
            f"expected at least 3 labels with --reject_rate and --model {run.model}, found {len(label_names)}; give a "
            "class of background instead."
        )
    fewest = fewest_clips(run.reject_rate)
    for fold, number in clips.items():
        if number < fewest:
            raise UserError(
                f"expected at least {fewest} validation clips with --reject_rate {run.reject_rate:g}, found {number} "
                f"in fold {fold}; give a higher rate, or more clips."
            )


def try_out(args: VivaeTrainingArguments) -> None:
    """Create the optimizer and the scheduler once, as `Trainer` does after all clips are read.

    Raises:
        Exception: those of the library for packages that are missing, and for arguments that they do not take.
    """
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 1, 1, bias=False)  # draws no random numbers
    optimizer_class, settings = Trainer.get_optimizer_cls_and_kwargs(args, layer)
    # some need the whole model, and others are functions that return an optimizer
    is_class = isinstance(optimizer_class, type) and issubclass(optimizer_class, torch.optim.Optimizer)
    if not is_class or "model" in settings:
        optimizer_class, settings = torch.optim.SGD, {}
    optimizer = optimizer_class(layer.parameters(), **settings)
    get_scheduler(args.lr_scheduler_type, optimizer, 0, 1, scheduler_specific_kwargs=args.lr_scheduler_kwargs)


def _check_selection(run: RunArguments, args: VivaeTrainingArguments, explicit: Mapping[str, Any]) -> None:
    """Check for arguments that need evaluations while training, or clips for selection, where there are none."""
    needs_them = {
        "watch_test": run.watch_test,
        "early_stopping_patience": args.early_stopping_patience,
        "eval_on_start": args.eval_on_start,
        **{name: explicit.get(name) not in (None, value) for name, value in UNSELECTED.items()},
    }
    needing = [f"--{name}" for name, needs in needs_them.items() if needs]
    if run.select_on == "none" and needing:
        raise UserError(
            f"--select_on none leaves no clips that are scored while training, found {needing[0]}; leave it out, or "
            "add --select_on validation."
        )
    if run.select_on == "none" and (run.model.startswith(PROBE) or run.model in CLASSIC):
        raise UserError(
            "--select_on none leaves no clips that select the regularisation of a probe or of classic features, found "
            f"--model {run.model}; add --select_on validation."
        )
    if args.early_stopping_patience and not args.load_best_model_at_end:
        raise UserError(
            "--early_stopping_patience needs a best evaluation, found --load_best_model_at_end false; leave out one "
            "of the two."
        )
    if run.watch_test and args.eval_strategy == IntervalStrategy.NO:
        raise UserError(
            "--watch_test scores the test clips after each evaluation, found --eval_strategy no; leave out one of the "
            "two."
        )


def _check_streaming(run: RunArguments, args: VivaeTrainingArguments) -> None:
    """Check for models and options that need all clips before the training."""
    registered = REGISTERED.get(run.model)
    needs_scale = registered is not None and issubclass(registered.extractor_class, WaveformFeatureExtractor)
    if run.model.startswith(PROBE) or run.model in CLASSIC or needs_scale:
        raise UserError(
            f"expected an encoder with --streaming, found --model {run.model}, which needs all clips before the "
            "training; give an encoder, or leave out --streaming."
        )
    needs_all = {
        "--normalization mean_std": run.normalization != "none",
        "mixup in --augment": bool(run.augment.get("mixup")),
        "--resample false": not run.resample,
        "--auc_split redrawn": run.auc_split != "test",
        "--train_sampling_strategy group_by_length": args.train_sampling_strategy == "group_by_length",
    }
    if flags := [flag for flag, needs in needs_all.items() if needs]:
        raise UserError(
            f"expected only options that need one clip at a time with --streaming, found {flags[0]}; change it, or "
            "leave out --streaming."
        )


def _refuse(run: RunArguments, args: VivaeTrainingArguments, names: Sequence[str], model: str, remedy: str) -> None:
    """Check for arguments that a model without epochs would ignore."""
    pairs = (args, VivaeTrainingArguments(output_dir=args.output_dir)), (run, RunArguments(model=run.model))
    changed = [
        f.name
        for mine, plain in pairs
        for f in fields(mine)
        if f.name in names and getattr(mine, f.name) != getattr(plain, f.name)
    ]
    if changed:
        raise UserError(
            f"expected only arguments of {model}, found --{', --'.join(changed)}; leave out those of training with "
            f"epochs, or {remedy}."
        )

"""Arguments of a run: data, model, settings of the reproduction, and `TrainingArguments`."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import TrainingArguments, Wav2Vec2FeatureExtractor
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_utils import HubStrategy
from transformers.training_args import ParallelMode

from ..checkpoints.adapters import AdapterArguments
from ..corpus.arguments import CorpusArguments, TrimArguments
from ..corpus.schema import GENERATED, Corpus
from ..corpus.tasks import TASKS
from ..features.augmentation import parse_augmentation
from ..models import CLASSIC, ENCODER, MODELS, REGISTERED, split_name
from ..models.backbones import BACKBONES, is_encoder
from ..splits import NUM_GROUPS, SplitArguments, check_num_groups
from ..splits.protocols import PROTOCOLS
from ..validation import Arguments, UserError, check_choice, json_object


@dataclass
class DataArguments(CorpusArguments, SplitArguments, TrimArguments):
    """Arguments of the clips, their labels and their split."""

    task: str = field(default="emotion", metadata={"help": "emotion, intensity, emotion_intensity or valence."})
    protocol: str | None = field(
        default=None,
        metadata={
            "help": f"Division into folds: {', '.join(PROTOCOLS)}; by default random-80-20 (the paper), or "
            "speaker-k-fold for emogator, hub, folder and segments."
        },
    )
    num_groups: int = field(
        default=NUM_GROUPS,
        metadata={"help": "Groups of speakers in speaker-k-fold, group-k-fold, core-to-full and cross-intensity."},
    )
    folds: list[int] | None = field(
        default=None, metadata={"help": "Numbers of the folds to run, counted from 0; all by default."}
    )
    train_speakers: int | None = field(
        default=None,
        metadata={"help": "Number of speakers that train and validate, drawn at random; all by default."},
    )
    speaker_draw: int = field(
        default=0,
        metadata={"help": "Seed of the draw of train_speakers; of one seed, fewer speakers are a subset of more."},
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read the Parquet shards of a dataset while an encoder trains, without a local copy (hub)."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.streaming:
            self._check_streaming()
        has_vivae_names = self.data in ("vivae", *GENERATED)
        self.protocol = self.protocol or ("random-80-20" if has_vivae_names else "speaker-k-fold")
        check_choice("--protocol", self.protocol, PROTOCOLS)
        check_num_groups(self.protocol, self.num_groups)
        check_choice("--task", self.task, TASKS)
        if self.train_speakers is not None and self.train_speakers < 2:
            raise UserError(
                "expected --train_speakers of 2 or more, one each to train and validate, found "
                f"{self.train_speakers}; give more."
            )
        if self.speaker_draw and (self.speaker_draw < 0 or self.train_speakers is None):
            raise UserError(
                f"expected --speaker_draw of 0 or more together with --train_speakers, found {self.speaker_draw} with "
                f"{self.train_speakers or 'all'} speakers; correct it, or leave it out."
            )

    def _check_streaming(self) -> None:
        self.protocol = self.protocol or "given"
        if self.data != "hub":
            raise UserError(
                f"expected --data hub with --streaming, found {self.data}; give its Hub id or folder with "
                "--dataset_name, or leave out --streaming."
            )
        changed = {
            "protocol": self.protocol != "given", "folds": self.folds is not None,
            "num_groups": self.num_groups != NUM_GROUPS, "train_speakers": self.train_speakers is not None,
            "duplicates": self.duplicates != "error", "task": self.task != "emotion",
            "dataset_split": self.dataset_split is not None, "label_map": self.label_map is not None,
            "on_bad_audio": self.on_bad_audio != "error",
        }  # fmt: skip
        if flags := [f"--{name}" for name, is_changed in changed.items() if is_changed]:
            raise UserError(
                f"expected the splits and labels of the dataset with --streaming, found {flags[0]}, which needs the "
                "names or the sound of all clips before the training; leave out one of the two."
            )

    def load(self) -> Corpus:
        """Return the corpus; see `CorpusArguments.load`.

        Raises:
            UserError: with `streaming`, for a command that needs the whole corpus.
        """
        if self.streaming:
            raise UserError(
                "expected train.py without --write_folds with --streaming, found a command that needs all clips; "
                "leave out --streaming."
            )
        return super().load()


@dataclass
class ModelArguments(AdapterArguments):
    """Arguments of the model, its weights and its input."""

    model: str | None = field(
        default=None,
        metadata={
            "help": f"One of {', '.join(REGISTERED)}; one of the encoders {', '.join(BACKBONES)}; "
            "encoder:<id or folder> for another; probe:<name, id or folder>, a linear layer on frozen features; or "
            "the Hub id or folder of any audio-classification checkpoint."
        },
    )
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Start a named model from these weights (Hub id or folder)."}
    )
    from_scratch: bool = field(default=False, metadata={"help": "Start from random weights, not pretrained ones."})
    model_config: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Fields of the model's configuration as JSON, such as '{\"hidden_size\": 96}'."},
    )
    augment: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Augmentation of clips as JSON, such as '{\"time_masks\": 2}'; recipes/README.md has all keys."
        },
    )
    normalization: Literal["none", "mean_std"] = field(
        default="none",
        metadata={"help": "Normalisation of features: none (the paper), or by mean_std of the training clips."},
    )
    max_seconds: float | None = field(
        default=None,
        metadata={
            "help": "Seconds to which encoders of the library cut clips; by default 30, or the encoder's window."
        },
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Execute code that comes with a checkpoint."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not split_name(self.model or "")[1]:
            found = f"{self.model!r} without an encoder" if self.model else "none"
            raise UserError(
                f"expected --model, found {found}; give one of {', '.join(REGISTERED)}, a Hub id or a folder."
            )
        self.model_config = json_object(self.model_config or {}, "--model_config")
        self.augment = json_object(self.augment or {}, "--augment")
        parse_augmentation(self.augment)
        if self.from_scratch and self.model_name_or_path:
            raise UserError("--from_scratch and --model_name_or_path exclude each other; give one of them.")
        labels = self.model_config.keys() & {"num_labels", "id2label", "label2id"}
        if labels:
            raise UserError(f"the labels are those of --task, found {min(labels)} in --model_config; remove it.")
        if self.max_seconds is not None:
            if self.model in REGISTERED and REGISTERED[self.model].extractor_class is not Wav2Vec2FeatureExtractor:
                remedy = "leave it out" if self.model in CLASSIC else "set num_samples or num_frames in --model_config"
                raise UserError(f"--max_seconds is for encoders of the library, found --model {self.model}; {remedy}.")
            if not self.max_seconds > 0:
                raise UserError(f"expected --max_seconds above 0, found {self.max_seconds}; give the clips' length.")
        if self.from_scratch and self.lora_save == "adapter":
            raise UserError(
                "--lora_save adapter refers to the published encoder, found random weights (--from_scratch); keep "
                "merged weights."
            )
        flags = {"freeze": self.freeze != "none", "lora_rank": self.lora_rank > 0}
        changed = [flag for flag, is_set in flags.items() if is_set]
        if changed and not (is_encoder(self.model) or (changed == ["freeze"] and self.model not in REGISTERED)):
            remedy = "" if self.model in REGISTERED else f"give --model {ENCODER}{split_name(self.model)[1]}, or "
            raise UserError(
                f"expected an encoder (encoder:<id or folder>, or one of {', '.join(BACKBONES)}) with --{changed[0]}, "
                f"found --model {self.model}; {remedy}leave out --{changed[0]}."
            )


@dataclass
class ReproductionArguments(Arguments):
    """Settings that only a reproduction of the paper, or of another publication with the same caveats, needs."""

    as_coded: list[str] = field(
        default_factory=list,
        metadata={"help": "Deviations of recipes/as_coded to apply; --recipe as_coded applies all of the model."},
    )
    resample: bool = field(
        default=True,
        metadata={"help": "Resample clips to the model's rate. false: treat theirs as if it were that."},
    )
    scale: Literal["peak", "full_scale"] = field(
        default="peak",
        metadata={
            "help": "Scale of waveforms. peak: the training clips' largest sample is 1. full_scale: full scale is."
        },
    )
    select_on: Literal["validation", "none", "test"] = field(
        default="validation",
        metadata={
            "help": "Clips that select the epoch. none or test: validation clips train too; none keeps the last "
            "epoch, test selects it on the scored clips, which marks the scores."
        },
    )
    watch_test: bool = field(
        default=False,
        metadata={"help": "Score the test clips after each epoch too, into history.jsonl; selects nothing."},
    )
    auc_split: Literal["test", "redrawn"] = field(
        default="test",
        metadata={"help": "Clips of the reported AUC. redrawn: a new random split, which contains training clips."},
    )
    auc_scores: Literal["probabilities", "logits"] = field(
        default="probabilities", metadata={"help": "Scores that rank the clips for the reported AUC."}
    )
    loss_reduction: Literal["mean", "sum"] = field(
        default="mean", metadata={"help": "Report losses as mean over clips, or as sum over batches of their means."}
    )


@dataclass
class RunArguments(DataArguments, ModelArguments, ReproductionArguments):
    """Arguments of one run apart from those of its training."""

    recipe: str | None = field(
        default=None,
        metadata={
            "help": "Folder of recipes/ whose YAML gives the defaults; by default paper for the paper's models, else "
            "tuned."
        },
    )
    reject_rate: float | None = field(
        default=None,
        metadata={
            "help": "Fit a threshold on validation clips, by which this share of clips of the labels is rejected as "
            "unknown, such as 0.05; by default none."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reject_rate is not None and not 0 < self.reject_rate < 1:
            raise UserError(f"expected --reject_rate above 0 and below 1, found {self.reject_rate:g}; 0.05 is usual.")
        if self.reject_rate is not None and self.select_on != "validation":
            raise UserError(
                f"expected --select_on validation with --reject_rate, found {self.select_on}, which leaves no "
                "validation clips; leave out one of the two."
            )
        self.recipe = self.recipe or usual_recipe(self.model) or "none"
        if Path(self.recipe).name != self.recipe:  # of a run.json; it is a part of the run folder's path
            raise UserError(f"expected the name of a recipe, found {self.recipe!r}; give one of recipes/.")


LARGEST = 2**31  # of a number of clips; Python's own iterators take no more than 2**63
# arguments of the library without a meaning here -> why
MEANINGLESS = {
    "use_liger_kernel": "its kernels are those of language models",
    "neftune_noise_alpha": "it adds noise to embeddings of words, which sound has none of; see --augment",
    "prediction_loss_only": "the scores need the logits of all clips",
    "batch_eval_metrics": "the scores need the logits of all clips at once",
    "label_names": "the labels are those of --task",
    "bf16_full_eval": "features are 32-bit floats, which its weights do not take; --bf16 is for scoring, too",
    "fp16_full_eval": "features are 32-bit floats, which its weights do not take; --fp16 is for scoring, too",
}
SELECTING = ("accuracy", "uar", "macro_f1", "macro_auc", "loss")


@dataclass
class VivaeTrainingArguments(TrainingArguments):
    """`TrainingArguments` with the defaults of this package and the optimizer of the paper."""

    output_dir: str | None = field(
        default=None,
        metadata={"help": "Run folder; runs/<data>/<recipe>/<model>-<protocol>-<task>-seed<seed> if absent."},
    )
    adam_l2: bool = field(
        default=False,
        metadata={"help": "torch.optim.Adam whose weight_decay is an L2 penalty on all parameters (the paper)."},
    )
    lr_decay_epochs: int = field(
        default=0,
        metadata={"help": "Multiply the learning rate by lr_decay_factor after every so many epochs."},
    )
    lr_decay_steps: int = field(
        default=0,
        metadata={
            "help": "Multiply the learning rate by lr_decay_factor after every so many optimizer steps (the paper's "
            "notebook)."
        },
    )
    lr_decay_factor: float = field(default=0.98, metadata={"help": "Factor of lr_decay_epochs and lr_decay_steps."})
    loss: Literal["cross_entropy", "ctc"] = field(
        default="cross_entropy",
        metadata={"help": "Loss of training. ctc: a clip's scores are the one frame of a CTC output (the paper)."},
    )
    eval_dropout: bool = field(
        default=False, metadata={"help": "Leave dropout on while scoring (the paper's notebook)."}
    )
    head_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of the head of a pretrained encoder; learning_rate is that of the encoder."},
    )
    class_weights: Literal["none", "balanced"] = field(
        default="none",
        metadata={"help": "Weights of labels in the loss. balanced: all count the same, for any number of clips."},
    )
    early_stopping_patience: int = field(
        default=0, metadata={"help": "Stop after so many evaluations without an improvement; 0 never stops early."}
    )
    # the collator needs every column of the features
    remove_unused_columns: bool = field(default=False)
    eval_strategy: str = field(default="epoch")
    save_strategy: str = field(default="epoch")
    logging_strategy: str = field(default="epoch")
    # the last epoch, to resume from; the library also keeps the selected one
    save_total_limit: int | None = field(default=1)
    load_best_model_at_end: bool = field(default=True)
    metric_for_best_model: str | None = field(
        default="uar",
        metadata={"help": "Score that selects the epoch: accuracy, uar, macro_f1, macro_auc or loss."},
    )
    greater_is_better: bool | None = field(default=None)
    # otherwise a resumed run would count from 0 again and stop later than an uninterrupted one
    restore_callback_states_from_checkpoint: bool = field(default=True)

    def __post_init__(self) -> None:
        # without use_cpu, the library lets each process of a machine without accelerator train alone, and refuses bf16
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        super().__post_init__()
        # a process uses one GPU: with several, the library multiplies the recipe's batch by their number, and the loss
        # of compute_loss_func, which is of all of them, once more
        self._n_gpu = min(self.n_gpu, 1)
        # pinned memory speeds copies to an accelerator; without one torch warns for each loader
        self.dataloader_pin_memory = self.dataloader_pin_memory and not self.use_cpu
        check_choice("--metric_for_best_model", self.metric_for_best_model.removeprefix("eval_"), SELECTING)
        self._check_numbers()
        # names that the libraries would look up only after the clips are read, or in the first step
        for name in ("lr_scheduler_kwargs", "activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"):
            if value := getattr(self, name, None):  # the library parses text that begins with {, and keeps other text
                json_object(value, f"--{name}")
        for name in self.report_to:
            check_choice("--report_to", name, [*INTEGRATION_TO_CALLBACK, "all", "none"])
            if name not in get_available_reporting_integrations():
                raise UserError(
                    f"expected the package of --report_to {name}, found none; install it, or leave the flag out."
                )
        if self.torch_compile_backend:
            backends = torch.compiler.list_backends(exclude_tags=())
            check_choice("--torch_compile_backend", self.torch_compile_backend, backends)
        if self.torch_compile_mode:
            modes = ("default", *torch._inductor.list_mode_options())
            check_choice("--torch_compile_mode", self.torch_compile_mode, modes)
        self._check_combinations()

    def _check_numbers(self) -> None:
        if not 0 < self.num_train_epochs < math.inf and self.max_steps <= 0:
            raise UserError(
                f"expected --num_train_epochs above 0, found {self.num_train_epochs:g}; a model needs a step, "
                "and an end."
            )
        usual = {
            "learning_rate": "usual values are 1e-6 to 1e-2", "head_learning_rate": "1e-3 is usual",
            "lr_decay_factor": "0.98 is usual",
        }  # fmt: skip
        for name, remedy in usual.items():
            if (rate := getattr(self, name)) is not None and not (math.isfinite(rate) and rate > 0):
                raise UserError(f"expected --{name} above 0, found {rate}; {remedy}.")
        for name in ("seed", "data_seed"):
            if (seed := getattr(self, name)) is not None and not 0 <= seed < 2**32:
                raise UserError(f"expected --{name} of 0 to {2**32 - 1}, found {seed}; 42 is usual.")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= (beta := getattr(self, name)) < 1:
                raise UserError(f"expected --{name} of 0 or more and below 1, found {beta:g}; leave it out.")
        for name in (
            "lr_decay_epochs", "lr_decay_steps", "early_stopping_patience", "weight_decay", "adam_epsilon",
            "dataloader_num_workers", "max_grad_norm",
        ):  # fmt: skip
            if not 0 <= (number := getattr(self, name)) < math.inf:
                raise UserError(f"expected --{name} of 0 or more, found {number}; 0 turns it off.")
        usual = {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 8, "gradient_accumulation_steps": 1}
        for name, number in usual.items():
            if not 1 <= getattr(self, name) <= LARGEST:
                raise UserError(
                    f"expected --{name} of 1 to {LARGEST}, found {getattr(self, name)}; {number} is usual."
                )
        for name in ("eval_accumulation_steps", "dataloader_prefetch_factor"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise UserError(f"expected --{name} of 1 or more, found {number}; leave it out.")
        if not 0 <= (share := self.label_smoothing_factor) <= 1:
            raise UserError(f"expected --label_smoothing_factor of 0 to 1, found {share:g}; 0.1 is usual.")

    def _check_combinations(self) -> None:
        for name, reason in MEANINGLESS.items():
            if getattr(self, name):
                raise UserError(f"expected no --{name}, since {reason}; leave it out.")
        if self.dataloader_persistent_workers and not self.dataloader_num_workers:
            raise UserError(
                "expected --dataloader_num_workers with --dataloader_persistent_workers, found 0; add one, or leave "
                "out the latter."
            )
        if self.fsdp and self.parallel_mode != ParallelMode.DISTRIBUTED:
            raise UserError(
                "expected several processes with --fsdp, found one; start with torchrun or accelerate launch, or "
                "leave out --fsdp."
            )
        if self.adam_l2 and self.optim != "adamw_torch_fused":
            raise UserError(
                f"--adam_l2 and --optim {self.optim.value} exclude each other; add --adam_l2 false to use the latter."
            )
        if self.lr_decay_epochs and self.lr_decay_steps:
            raise UserError("--lr_decay_epochs and --lr_decay_steps exclude each other; set one of them to 0.")
        decay = "lr_decay_epochs" if self.lr_decay_epochs else "lr_decay_steps"
        others = self.lr_scheduler_type != "linear" or self.lr_scheduler_kwargs or self.warmup_steps
        if getattr(self, decay) and others:
            raise UserError(
                f"--{decay} replaces --lr_scheduler_type, --lr_scheduler_kwargs and --warmup_steps; add "
                f"--{decay} 0 to use those."
            )
        if self.loss == "ctc" and (self.label_smoothing_factor or self.class_weights == "balanced"):
            flag = "label_smoothing_factor" if self.label_smoothing_factor else "class_weights balanced"
            raise UserError(f"--{flag} is for cross entropy, found --loss ctc; leave out one of the two.")
        if self.adam_l2 and self.head_learning_rate:
            raise UserError(
                "--adam_l2 has one rate for all parameters, found --head_learning_rate; leave out one of the two."
            )
        if self.resume_from_checkpoint:
            raise UserError("a run resumes by itself, found --resume_from_checkpoint; repeat its command without it.")
        if self.hub_strategy == HubStrategy.CHECKPOINT:
            raise UserError(
                "expected --hub_strategy end, every_save or all_checkpoints, found checkpoint, which pushes optimizer "
                "states, and these are pickles; a run resumes from its own folder."
            )


def usual_recipe(model: str) -> str | None:
    """Return the default recipe of a model; None for a model without recipes."""
    return "paper" if model in MODELS else "tuned" if is_encoder(model) else None

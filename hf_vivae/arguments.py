"""What to run and how: a recipe's defaults under the command line, in one hop, with every misspelling refused."""

import argparse
import json
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from .models import MODELS


@dataclass
class RunArguments:
    """What to train on what. Values here < recipe YAML < command line."""

    model: str | None = field(
        default=None,
        metadata={
            "help": f"One of {', '.join(MODELS)}; or the Hub id or folder of any audio-classification checkpoint."
        },
    )
    recipe: str = field(default="paper", metadata={"help": "Folder of recipes/ whose YAML gives the defaults."})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Start a named model from these weights (Hub id or folder)."}
    )
    from_scratch: bool = field(default=False, metadata={"help": "Start from random weights, not pretrained ones."})
    model_config: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Fields of the model's configuration as JSON, such as '{\"hidden_size\": 96}'."},
    )
    normalization: Literal["none", "mean_std"] = field(
        default="none",
        metadata={"help": "Of the features: none (the report), or mean_std of the training clips."},
    )
    max_seconds: float | None = field(
        default=None,
        metadata={"help": "Input length of library encoders; by default the longest clip, 30 s at most."},
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Execute code that a checkpoint brings along."})
    data: str = field(default="vivae", metadata={"help": "vivae, synthetic or folder."})
    data_dir: str | None = field(
        default=None,
        metadata={"help": "Folder of clips (folder), or folder or VIVAE.zip (vivae) instead of a download."},
    )
    data_url: str | None = field(default=None, metadata={"help": "Another address of VIVAE.zip, such as a mirror."})
    subset: Literal["full", "core"] = field(default="full", metadata={"help": "Part of VIVAE: full_set or core_set."})
    allow_partial: bool = field(
        default=False, metadata={"help": "Train on a VIVAE that has clips missing, extra or unusable."}
    )
    on_bad_audio: Literal["error", "skip"] = field(
        default="error",
        metadata={"help": "Clips that cannot be used stop the run, or are left out and listed."},
    )
    speaker_pattern: str | None = field(
        default=None,
        metadata={"help": "Regular expression whose group is the speaker in a file name (folder)."},
    )
    synthetic_seed: int = field(default=0, metadata={"help": "Seed of the synthetic corpus."})
    task: str = field(default="emotion", metadata={"help": "emotion, intensity, emotion_intensity or valence."})
    protocol: str | None = field(
        default=None,
        metadata={
            "help": "How clips are split; random-80-20 (the report), or speaker-k-fold for a folder, by default."
        },
    )
    folds: list[int] | None = field(
        default=None, metadata={"help": "Numbers of the folds to run, counted from 0; all by default."}
    )

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError(f"expected --model, found none; give one of {', '.join(MODELS)}, a Hub id or a folder.")
        # the parser leaves dictionaries that were given on the command line as JSON text
        if isinstance(self.model_config, str):
            self.model_config = _json_object(self.model_config, "--model_config")
        self.model_config = self.model_config or {}
        if self.protocol is None:
            self.protocol = "speaker-k-fold" if self.data == "folder" else "random-80-20"
        if self.from_scratch and self.model_name_or_path:
            raise ValueError("--from_scratch and --model_name_or_path exclude each other; give one of them.")


@dataclass
class VivaeTrainingArguments(TrainingArguments):
    """How to train: the library's `TrainingArguments`, with the report's optimiser and this package's defaults."""

    output_dir: str | None = field(
        default=None,
        metadata={"help": "Run folder; runs/<data>/<recipe>/<model>-<protocol>-<task>-seed<seed> if absent."},
    )
    adam_l2: bool = field(
        default=False,
        metadata={"help": "torch.optim.Adam whose weight_decay is an L2 penalty on all parameters (the report)."},
    )
    lr_decay_epochs: int = field(
        default=0,
        metadata={"help": "Multiply the learning rate by lr_decay_factor each time so many epochs have passed."},
    )
    lr_decay_factor: float = field(default=0.98, metadata={"help": "See lr_decay_epochs."})
    # the collator takes every column of the features, and nothing else is in them
    remove_unused_columns: bool = field(default=False)
    eval_strategy: str = field(default="epoch")
    save_strategy: str = field(default="epoch")
    logging_strategy: str = field(default="epoch")
    # the best epoch and the last: one to keep, one to resume from
    save_total_limit: int | None = field(default=1)
    load_best_model_at_end: bool = field(default=True)
    metric_for_best_model: str | None = field(
        default="uar", metadata={"help": "Validation score that picks the epoch."}
    )
    greater_is_better: bool | None = field(default=None)

    def __post_init__(self) -> None:
        # without use_cpu, the library lets each process of a machine without accelerator train alone, and refuses bf16
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        super().__post_init__()
        # pinned memory speeds copies to an accelerator; without one torch warns for each loader
        self.dataloader_pin_memory = self.dataloader_pin_memory and not self.use_cpu


def parse_run(argv: list[str], recipes: Path) -> tuple[RunArguments, VivaeTrainingArguments]:
    """Arguments of one run.

    Args:
        argv: the command line without the program's name; `--config run.json` repeats a run.
        recipes: folder of recipe folders, each with a YAML for each model.

    Raises:
        ValueError: for unknown or misspelt keys and flags, with the nearest; for recipes that do not exist.
    """
    parser = HfArgumentParser([RunArguments, VivaeTrainingArguments], allow_abbrev=False)
    parser.add_argument("--config", help="run.json of a run to repeat; other flags win over it.")
    known = {action.dest for action in parser._actions}
    source, defaults = _defaults(argv, recipes)
    for key in defaults:
        if key not in known:
            raise ValueError(f"{source} has an unknown key {key!r}{_did_you_mean(key, known)}; correct or remove it.")
    parser.set_defaults(**defaults)
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].split("=")[0]
        nearest = _did_you_mean(flag.lstrip("-").replace("-", "_"), known, prefix="--")
        raise ValueError(f"unknown argument {flag!r}{nearest}; see --help for all of them.")
    run = RunArguments(**{f.name: getattr(given, f.name) for f in fields(RunArguments)})
    settings = {f.name: getattr(given, f.name) for f in fields(VivaeTrainingArguments) if f.init}
    settings["output_dir"] = settings["output_dir"] or default_output_dir(run, settings["seed"])
    try:
        return run, VivaeTrainingArguments(**settings)
    except ValueError as error:  # the library's own checks, such as a strategy that does not fit another
        raise ValueError(" ".join(str(error).split())) from error


def default_output_dir(run: RunArguments, seed: int) -> str:
    """Run folder that tells what was run: runs/<data>/<recipe>/<model>-<protocol>-<task>-seed<seed>."""
    model = run.model if run.model in MODELS else Path(run.model).name
    return str(Path("runs", run.data, run.recipe, f"{model}-{run.protocol}-{run.task}-seed{seed}"))


def _defaults(argv: list[str], recipes: Path) -> tuple[str, dict[str, Any]]:
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--model", "--recipe", "--config"):
        first.add_argument(flag)
    given, _ = first.parse_known_args(argv)
    if given.config:
        return given.config, _read_run(Path(given.config))
    recipe = given.recipe or RunArguments.recipe
    if not (recipes / recipe).is_dir():
        names = sorted(path.name for path in recipes.iterdir() if any(path.glob("*.yaml")))
        raise ValueError(
            f"expected a recipe out of {', '.join(names)}, found {recipe!r}{_did_you_mean(recipe, names)}."
        )
    file = recipes / recipe / f"{given.model}.yaml"
    if given.model in MODELS:
        return str(file.relative_to(recipes)), _read_yaml(file)
    if given.recipe:
        raise ValueError(f"recipe {recipe!r} has no {given.model}.yaml; leave --recipe out to use the defaults.")
    return "defaults", {}


def _read_yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"expected the recipe {file}, found none; choose another --recipe or --model.")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not valid YAML ({' '.join(str(error).split())}); mend it.") from error
    if not isinstance(values, dict):
        raise ValueError(f"expected {file} to hold `key: value` lines, found {type(values).__name__}; mend it.")
    return values


def _read_run(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"expected the run.json of a run, found no file {file}; check --config.")
    content = _json_object(file.read_text(encoding="utf-8"), str(file))
    if not {"run", "training"} <= content.keys():
        raise ValueError(f"expected the keys 'run' and 'training' in {file}, found {sorted(content)}; use a run.json.")
    # a repeated run must not land in the folder of the first one unless it is told to
    return {
        name: value for part in ("run", "training") for name, value in content[part].items() if name != "output_dir"
    }


def _json_object(text: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON in {source}, found {text[:40]!r} ({error}); mend it.") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object in {source}, found {type(value).__name__}; mend it.")
    return value


def _did_you_mean(name: str, known: Any, prefix: str = "") -> str:
    close = get_close_matches(name, known, 1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""

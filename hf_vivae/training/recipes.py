"""Arguments of a run from recipe, command line and overrides, and the deviations of the paper's notebook."""

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..cli_parser import FlagParser, Group, refuse_unknown
from ..files import read_text, read_yaml
from ..models import MODELS, PROBE, REGISTERED, short_name
from ..models.backbones import is_encoder, recipe_file
from ..run_folder import UNSELECTED, VOLATILE
from ..splits import NUM_GROUPS
from ..validation import UserError, did_you_mean, json_object
from .argument_checks import check_together, try_out
from .arguments import DataArguments, RunArguments, VivaeTrainingArguments, usual_recipe

logger = logging.getLogger(__name__)

NO_RECIPES = ("ablation", "accelerate", "label_maps", "search")  # folders of other YAML files in recipes/
GROUPS = [
    Group(title, example, tuple(names.split()))
    for title, example, names in (
        ("What to train on what", "--model vit-32-30 --data folder --data_dir my_clips --protocol speaker-k-fold",
         "model recipe data data_dir dataset_name streaming task protocol folds augment normalization freeze"),
        ("How long", "--model mlp --num_train_epochs 20 --early_stopping_patience 5",
         "num_train_epochs max_steps early_stopping_patience select_on"),
        ("What is kept", "--model mlp --output_dir runs/first --metric_for_best_model uar",
         "output_dir metric_for_best_model config push_to_hub hub_model_id write_folds"),
        ("The most common of TrainingArguments", "--model hubert-base --per_device_train_batch_size 8 --bf16",
         "learning_rate head_learning_rate per_device_train_batch_size gradient_accumulation_steps warmup_steps "
         "weight_decay label_smoothing_factor lr_scheduler_type bf16 seed"),
    )
]  # fmt: skip


@cache
def run_parser() -> FlagParser:
    """Return the parser of `recipes/train.py`."""
    parser = FlagParser(
        [RunArguments, VivaeTrainingArguments],
        GROUPS,
        description="Train and score one model.",
        epilog="The recipe of the model replaces defaults in brackets.",
    )
    parser.add_argument("--config", help="run.json of a run to repeat; other flags win over it.")
    parser.add_argument(
        "--write_folds",
        metavar="FILE.jsonl",
        help="Write the clips of each fold to this file, and train nothing; needs no --model.",
    )
    return parser


def parse_run(
    argv: Sequence[str], recipes: Path, overrides: Mapping[str, Any] | None = None
) -> tuple[RunArguments, VivaeTrainingArguments]:
    """Return the arguments of one run: the dataclasses' defaults < the recipe's YAML < `argv` < `overrides`.

    `model_config` is merged field by field; everything else is replaced.

    Args:
        argv: the command line without the program's name; `--config run.json` repeats a run.
        recipes: folder of recipe folders, each with YAML files named after models.
        overrides: arguments by name. Here and in files, None stands for the default of the dataclass.

    Raises:
        UserError: for unknown or misspelt keys and flags, with the nearest; for values of another type; for recipes
            that do not exist; for files that consent to execute code; and for values that the dataclasses refuse.
    """
    types = _argument_types()
    namespace = argparse.Namespace(**dict.fromkeys([*types, "config"]))
    flags, unknown = run_parser().parse_known_args(argv, namespace)
    refuse_unknown(unknown, types)
    if flags.write_folds is not None:
        raise UserError("--write_folds is for train.py, which then trains nothing; leave it out.")
    on_command_line = {name: value for name, value in vars(flags).items() if value is not None}
    explicit = on_command_line | _check_types(overrides or {})
    source, defaults = _read_defaults(explicit, recipes)
    if defaults.get("trust_remote_code") and "trust_remote_code" not in on_command_line:
        raise UserError(
            f"expected consent to execute a checkpoint's code on the command line, found it in {source}; read that "
            "code, and if you trust it add --trust_remote_code."
        )
    settings = _check_types(defaults, f" in {source}") | explicit
    settings["model_config"] = {
        field: value
        for values in (defaults, on_command_line, overrides or {})
        for field, value in json_object(values.get("model_config") or {}, "--model_config").items()
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    run = RunArguments(**{f.name: settings[f.name] for f in fields(RunArguments) if f.name in settings})
    training = {f.name: settings[f.name] for f in fields(VivaeTrainingArguments) if f.name in settings}
    training.setdefault("output_dir", default_output_dir(run, training.get("seed", VivaeTrainingArguments.seed)))
    if run.select_on == "none":
        training |= UNSELECTED
    if run.streaming and "train_sampling_strategy" not in explicit and "train_sampling_strategy" in training:
        strategy = training.pop("train_sampling_strategy")
        logger.warning("--streaming does not know lengths before clips are read: without %s of the recipe.", strategy)
    try:
        args = VivaeTrainingArguments(**training)
        try_out(args)
    except UserError:
        raise
    # the library's own checks, such as a strategy that does not fit another, a file or a package that is not there, or
    # a name in JSON that a function of the library does not take
    except (ValueError, OSError, ImportError, TypeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"expected arguments that transformers can train with, found some that it refuses ({reason}); correct "
            "them, or leave them out."
        ) from error
    check_together(run, args, explicit)
    return run, args


def parse_folds(argv: Sequence[str], recipes: Path) -> tuple[Path, DataArguments, int, str] | None:
    """Return the path of `--write_folds`, and clips, seed and `select_on` of the folds; None without that flag.

    With `--model` or `--config`, the folds are those of that run.

    Args:
        argv: as for `parse_run`.
        recipes: as for `parse_run`.

    Raises:
        UserError: for a path that does not end in .jsonl, for arguments of a training without a model, and as
            `parse_run`.
    """
    types = _argument_types()
    flags, unknown = run_parser().parse_known_args(argv, argparse.Namespace(**dict.fromkeys(types)))
    if flags.write_folds is None:
        return None
    path = Path(flags.write_folds)
    if path.suffix != ".jsonl":
        raise UserError(f"expected a name that ends in .jsonl with --write_folds, found {path}; correct it.")
    if flags.model or flags.config:
        other = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        other.add_argument("--write_folds")
        run, args = parse_run(other.parse_known_args(argv)[1], recipes)
        return path, run, args.seed, run.select_on
    refuse_unknown(unknown, types)
    values = {name: value for name in types if (value := getattr(flags, name)) is not None}
    seed = values.pop("seed", VivaeTrainingArguments.seed)
    names = {f.name for f in fields(DataArguments)}
    if others := [name for name in values if name not in names]:
        raise UserError(
            f"expected only arguments of clips and folds with --write_folds, found --{', --'.join(others)}; leave "
            "them out, or add --model."
        )
    return path, DataArguments(**values), seed, "validation"


@cache
def _argument_types() -> dict[str, Any]:
    """Return the type of each argument of a run by its name."""
    types = get_type_hints(RunArguments) | get_type_hints(VivaeTrainingArguments)
    return {f.name: types[f.name] for owner in (RunArguments, VivaeTrainingArguments) for f in fields(owner) if f.init}


def _check_types(values: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """Return arguments with numbers as floats where floats are expected.

    Args:
        values: by the names of arguments.
        source: end of "the value ..." in errors, such as " in paper/mlp.yaml".

    Raises:
        UserError: for an unknown key, with the nearest, and for a value of another type.
    """
    types = _argument_types()
    checked = {}
    for key, value in values.items():
        if key not in types:
            raise UserError(f"unknown key {key!r}{source}{did_you_mean(key, types)}; correct or remove it.")
        try:
            checked[key] = None if value is None else _cast(value, types[key])
        except TypeError as error:
            raise UserError(f"expected {error} as {key}{source}, found {value!r}; correct it.") from error
    return checked


def _cast(value: Any, hint: Any) -> Any:
    """Return a value of YAML or JSON as the type of its argument.

    Raises:
        TypeError: for a value of another type, with the name of the expected one.
    """
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for option in options:
        kind = get_origin(option) or option
        if kind is Literal:
            if value in get_args(option):
                return value
        elif kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                return float(value)  # YAML 1.1 reads 5e-4 as text
            except (ValueError, OverflowError):
                continue
        elif kind is list and isinstance(value, list):
            return [_cast(entry, *get_args(option)) for entry in value]
        elif type(value) is kind or (issubclass(kind, Enum) and value in [member.value for member in kind]):
            return value
    literals = [repr(name) for option in options if get_origin(option) is Literal for name in get_args(option)]
    kinds = [(get_origin(option) or option).__name__ for option in options if option is not NoneType]
    raise TypeError(f"one of {', '.join(literals)}" if literals else " or ".join(kinds))


def default_output_dir(run: RunArguments, seed: int) -> str:
    """Return the run folder: runs/<data>/<recipe>/<model>-<protocol>-<task>-seed<seed>.

    A number of groups other than the default is added to the protocol; <data> is `CorpusArguments.folder_name`.
    """
    model = short_name(run.model).replace(":", "-")
    recipe = "+".join([run.recipe, *run.as_coded]) if run.recipe == "paper" else run.recipe
    groups = f"-of-{run.num_groups}" if run.num_groups != NUM_GROUPS else ""
    return str(Path("runs", run.folder_name, recipe, f"{model}-{run.protocol}{groups}-{run.task}-seed{seed}"))


def default_study_dir(run: RunArguments, kind: str) -> str:
    """Return the folder of a study of several runs: runs/<data>/<kind>/<recipe>-<model>-<protocol>-<task>."""
    folder = Path(default_output_dir(run, 0))
    return str(folder.parents[1] / kind / f"{folder.parent.name}-{folder.name.removesuffix('-seed0')}")


def _read_defaults(explicit: Mapping[str, Any], recipes: Path) -> tuple[str, dict[str, Any]]:
    """Return the name and the content of the file that gives the defaults: a run.json, or the recipe of the model."""
    model, recipe, deviations = explicit.get("model") or "", explicit.get("recipe"), explicit.get("as_coded")
    if "config" in explicit:
        for flag in ("recipe", "as_coded"):
            if explicit.get(flag):
                raise UserError(f"--config repeats a run with its recipe and deviations; leave out --{flag}.")
        return explicit["config"], _read_run(Path(explicit["config"]))
    folders = (path for path in recipes.iterdir() if any(path.glob("*.yaml")))
    names = sorted(path.name for path in folders if path.name not in NO_RECIPES)
    if recipe and recipe not in names:
        raise UserError(
            f"expected a recipe out of {', '.join(names)}, found {recipe!r}{did_you_mean(recipe, names)}; choose one "
            "of them."
        )
    if deviations or recipe == "as_coded":
        if recipe not in (None, "paper", "as_coded") or model not in MODELS:
            raise UserError(
                f"the deviations of recipes/as_coded change the recipe paper of {', '.join(MODELS)}, found --recipe "
                f"{recipe or 'paper'} and --model {model}; leave out --as_coded, or choose one of these models."
            )
        by_name = read_deviations(recipes)
        deviations = deviations or [name for name, deviation in by_name.items() if model in deviation.models]
        values = read_yaml(recipes / "paper" / f"{model}.yaml")
        return "recipes/as_coded", apply_deviations(values, choose_deviations(by_name, deviations, model))
    folder = recipe or usual_recipe(model)
    if folder and (model in REGISTERED or is_encoder(model) or model.startswith(PROBE)):
        file = recipe_file(recipes / folder, model)
        if not file.is_file():
            raise UserError(f"expected the recipe {file}, found none; choose another --recipe or --model.")
        return f"{file.parent.name}/{file.name}", read_yaml(file)
    if recipe and model:
        raise UserError(f"recipe {recipe!r} has no {model}.yaml; leave --recipe out to use the defaults.")
    return "defaults", {}


def _read_run(file: Path) -> dict[str, Any]:
    if not os.path.isfile(file):
        raise UserError(f"expected the run.json of a run, found no file {file}; check --config.")
    content = json_object(read_text(file, "give the run.json of a run as --config"), str(file))
    if not all(isinstance(content.get(part), dict) for part in ("run", "training")):
        raise UserError(
            f"expected the objects 'run' and 'training' in {file}, found {str(content)[:60]}; use a run.json."
        )
    settings = {**content["run"], **content["training"]}
    # settings of the first run's folder or machine are not repeated, nor those that follow from --select_on
    dropped = {*VOLATILE, *(UNSELECTED if settings.get("select_on") == "none" else ())} - {"folds"}
    return {name: value for name, value in settings.items() if name not in dropped}


@dataclass(frozen=True)
class Deviation:
    """Difference between the text of the paper and its notebook.

    Args:
        name: stem of its file.
        row: number of the difference.
        report: the text of the paper.
        notebook: the notebook of the paper.
        models: the keys of `MODELS` that it concerns.
        settings: arguments that change in their recipe.
        instead: arguments of a run without a deviation that text and notebook share, so that `paper` has it too.
    """

    name: str
    row: int
    report: str
    notebook: str
    models: tuple[str, ...]
    settings: dict[str, Any]
    instead: dict[str, Any] = field(default_factory=dict)


def read_deviations(recipes: Path) -> dict[str, Deviation]:
    """Return all deviations by name, in the order of their rows.

    Raises:
        UserError: for a file with missing or unknown keys or models.
    """
    deviations = []
    names = {f.name for f in fields(Deviation)} - {"name"}
    for file in sorted((recipes / "as_coded").glob("*.yaml")):
        values = read_yaml(file)
        if not names - {"instead"} <= values.keys() <= names or not set(values["models"]) <= MODELS.keys():
            raise UserError(
                f"expected {file} to contain {', '.join(sorted(names))} and names of models, found {sorted(values)}; "
                "correct it."
            )
        deviations.append(Deviation(file.stem, **{**values, "models": tuple(values["models"])}))
    return {deviation.name: deviation for deviation in sorted(deviations, key=lambda deviation: deviation.row)}


def choose_deviations(deviations: dict[str, Deviation], names: Sequence[str], model: str) -> list[Deviation]:
    """Return the deviations of these names.

    Raises:
        UserError: for an unknown name, with the nearest, and for a deviation that does not concern the model.
    """
    for name in names:
        if name not in deviations:
            hint = did_you_mean(name, deviations)
            raise UserError(f"expected --as_coded out of {', '.join(deviations)}, found {name!r}{hint}; correct it.")
        if model not in deviations[name].models:
            raise UserError(
                f"the deviation {name} concerns {', '.join(deviations[name].models)}, found --model {model}; leave it "
                "out."
            )
    return [deviations[name] for name in deviations if name in names]


def apply_deviations(values: dict[str, Any], deviations: Sequence[Deviation]) -> dict[str, Any]:
    """Return a recipe's values with the settings of deviations; `model_config` is merged field by field."""
    changed = dict(values)
    for deviation in deviations:
        config = {**(changed.get("model_config") or {}), **deviation.settings.get("model_config", {})}
        changed |= {**deviation.settings, **({"model_config": config} if config else {})}
    return {**changed, "as_coded": [deviation.name for deviation in deviations]}

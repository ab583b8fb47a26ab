"""Recipe and command line to arguments, in one hop: a recipe's lines are read as flags that come first."""

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers.trainer_utils import HubStrategy

from .arguments import RunArguments, VivaeTrainingArguments, json_object, usual_recipe
from .backbones import BACKBONES, is_encoder
from .flags import FlagParser, did_you_mean, refuse_unknown
from .models import MODELS, PROBE, short_name
from .runs import VOLATILE
from .splits import NUM_GROUPS
from .switches import choose_switches, read_switches, turn_on

NO_RECIPES = ("ablation", "search")  # folders of other YAML files in recipes/
OF_EPOCHS = (
    "augment", "head_learning_rate", "class_weights", "early_stopping_patience", "label_smoothing_factor",
    "train_sampling_strategy",
)  # fmt: skip
WITHOUT_EPOCHS = (
    *OF_EPOCHS, "num_train_epochs", "max_steps", "learning_rate", "weight_decay", "warmup_steps", "loss", "adam_l2",
    "metric_for_best_model", "load_best_model_at_end", "eval_dropout", "bf16", "fp16", "watch_test", "normalization",
    "trust_remote_code", "freeze", "lora_rank",
)  # fmt: skip


def parse_run(argv: list[str], recipes: Path) -> tuple[RunArguments, VivaeTrainingArguments]:
    """Arguments of one run: the dataclasses' defaults < the recipe's YAML < the command line.

    `model_config` is merged field by field; everything else is replaced.

    Args:
        argv: the command line without the program's name; `--config run.json` repeats a run.
        recipes: folder of recipe folders, each with a YAML for each model.

    Raises:
        ValueError: for unknown or misspelt keys and flags, with the nearest; for values of another type; for recipes
            that do not exist; and for what the dataclasses refuse.
    """
    parser = FlagParser([RunArguments, VivaeTrainingArguments], allow_abbrev=False)
    parser.add_argument("--config", help="run.json of a run to repeat; other flags win over it.")
    known = {action.dest for action in parser._actions} - {"help", "config"}
    source, defaults = _defaults(argv, recipes)
    for key in defaults:
        if key not in known:
            raise ValueError(f"{source} has an unknown key {key!r}{did_you_mean(key, known)}; correct or remove it.")
    model_config = json_object(defaults.pop("model_config", None) or {}, f"model_config of {source}")
    given, unknown = parser.parse_known_args([*as_flags(defaults), *argv])
    refuse_unknown(unknown, known)
    given.model_config = {**model_config, **json_object(given.model_config or {}, "--model_config")}
    run = RunArguments(**{f.name: getattr(given, f.name) for f in fields(RunArguments)})
    settings = {f.name: getattr(given, f.name) for f in fields(VivaeTrainingArguments) if f.init}
    settings["output_dir"] = settings["output_dir"] or default_output_dir(run, settings["seed"])
    if run.select_on == "none":
        settings |= {"eval_strategy": "no", "load_best_model_at_end": False}  # what nothing is left to do for
    try:
        args = VivaeTrainingArguments(**settings)
    except ValueError as error:  # the library's own checks, such as a strategy that does not fit another
        raise ValueError(" ".join(str(error).split())) from error
    if run.model.startswith(PROBE):
        _refuse(run, args, WITHOUT_EPOCHS, "a probe", "train the encoder: --model without probe:")
    if run.model == "logistic-regression":
        _refuse(run, args, OF_EPOCHS, "what scikit-learn solves", "give another --model")
    if args.head_learning_rate and run.model in MODELS:
        raise ValueError(
            f"expected a pretrained encoder beside --head_learning_rate, found --model {run.model}; leave it out."
        )
    _check_selection(run, args)
    _check_push(run, args)
    return run, args


def _check_push(run: RunArguments, args: VivaeTrainingArguments) -> None:
    """Refuse to push what nobody could load: LoRA's matrices before they are merged."""
    if not (args.push_to_hub and run.lora_rank):
        return
    if run.lora_save == "adapter" or args.hub_strategy != HubStrategy.END:
        found = "adapter" if run.lora_save == "adapter" else args.hub_strategy.value
        flag = "--lora_save merged" if run.lora_save == "adapter" else "--hub_strategy end"
        raise ValueError(
            f"expected {flag} beside --push_to_hub, found {found}, which nobody else could load; change it, or leave "
            "out --push_to_hub."
        )


def _check_selection(run: RunArguments, args: VivaeTrainingArguments) -> None:
    """Refuse what needs clips that select where there are none."""
    watching = {"watch_test": run.watch_test, "early_stopping_patience": args.early_stopping_patience}
    given = [name for name, value in watching.items() if value]
    if run.select_on == "none" and (given or run.model.startswith(PROBE)):
        found = f"--{given[0]}" if given else "a probe, whose regularisation they choose"
        raise ValueError(
            f"--select_on none leaves no clips that are scored while training, found {found} beside it; leave out one "
            "of the two."
        )
    if args.early_stopping_patience and not args.load_best_model_at_end:
        raise ValueError(
            "--early_stopping_patience stops at a best evaluation, found --load_best_model_at_end false beside it; "
            "leave out one of the two."
        )


def _refuse(
    run: RunArguments, args: VivaeTrainingArguments, names: tuple[str, ...], model: str, otherwise: str
) -> None:
    """Refuse what a model without epochs would take no notice of."""
    given = [f.name for f in fields(args) if f.name in names and getattr(args, f.name) != f.default]
    given += [f.name for f in fields(run) if f.name in names and getattr(run, f.name) not in (f.default, {})]
    if given:
        raise ValueError(
            f"expected only arguments that {model} has a use for, found --{', --'.join(given)}; leave out what is for "
            f"training with epochs, or {otherwise}."
        )


def default_output_dir(run: RunArguments, seed: int) -> str:
    """Run folder that tells what was run: runs/<data>/<recipe>/<model>-<protocol>-<task>-seed<seed>.

    A number of groups that is not the usual one stands behind the protocol.
    """
    model = short_name(run.model).replace(":", "-")
    recipe = "+".join([run.recipe, *run.as_coded]) if run.recipe == "paper" else run.recipe
    groups = f"-of-{run.num_groups}" if run.num_groups != NUM_GROUPS else ""
    return str(Path("runs", run.data, recipe, f"{model}-{run.protocol}{groups}-{run.task}-seed{seed}"))


def as_flags(values: dict[str, Any]) -> list[str]:
    """Settings as the command line that gives them; those that are None or empty are left out."""
    flags = []
    for key, value in values.items():
        if isinstance(value, list):
            flags += [f"--{key}", *map(str, value)] if value else []
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            flags.append(f"--{key}={text}")
    return flags


def _defaults(argv: list[str], recipes: Path) -> tuple[str, dict[str, Any]]:
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--model", "--recipe", "--config"):
        first.add_argument(flag)
    first.add_argument("--as_coded", nargs="*")
    given, _ = first.parse_known_args(argv)
    if given.config:
        for flag in ("recipe", "as_coded"):
            if getattr(given, flag):
                raise ValueError(f"--config repeats a run with its recipe and switches; leave out --{flag}.")
        return given.config, _read_run(Path(given.config))
    folders = (path for path in recipes.iterdir() if any(path.glob("*.yaml")))
    names = sorted(path.name for path in folders if path.name not in NO_RECIPES)
    if given.recipe and given.recipe not in names:
        raise ValueError(
            f"expected a recipe out of {', '.join(names)}, found {given.recipe!r}"
            f"{did_you_mean(given.recipe, names)}; choose one of them."
        )
    if given.as_coded or given.recipe == "as_coded":
        return _as_coded(given.model, given.recipe, given.as_coded, recipes)
    recipe = given.recipe or usual_recipe(given.model or "")
    if recipe and (given.model in MODELS or is_encoder(given.model or "") or (given.model or "").startswith(PROBE)):
        file = _recipe_file(recipes / recipe, given.model)
        return f"{file.parent.name}/{file.name}", _read_yaml(file)
    if given.recipe and given.model:
        raise ValueError(f"recipe {given.recipe!r} has no {given.model}.yaml; leave --recipe out to use the defaults.")
    return "defaults", {}


def _recipe_file(folder: Path, model: str) -> Path:
    """The file of a model; an encoder that has none of its own shares one with the others."""
    own = folder / f"{model}.yaml"
    if model in MODELS or (model in BACKBONES and own.is_file()):
        return own
    return folder / ("probe.yaml" if model.startswith(PROBE) else "encoder.yaml")


def _as_coded(
    model: str | None, recipe: str | None, names: list[str] | None, recipes: Path
) -> tuple[str, dict[str, Any]]:
    """Values of recipe `paper` with the named switches on, or with all that concern the model."""
    if recipe not in (None, "paper", "as_coded") or model not in MODELS:
        raise ValueError(
            f"the switches of recipes/as_coded change the recipe paper of {', '.join(MODELS)}, found --recipe "
            f"{recipe or 'paper'} and --model {model}; leave out --as_coded, or choose one of these models."
        )
    switches = read_switches(recipes)
    names = names or [name for name, switch in switches.items() if model in switch.models]
    values = _read_yaml(recipes / "paper" / f"{model}.yaml")
    return "recipes/as_coded", turn_on(values, choose_switches(switches, names, model))


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
    content = json_object(file.read_text(encoding="utf-8"), str(file))
    if not {"run", "training"} <= content.keys():
        raise ValueError(f"expected the keys 'run' and 'training' in {file}, found {sorted(content)}; use a run.json.")
    # what belongs to the first run's folder or machine is not repeated
    kept = {**content["run"], **content["training"]}
    return {name: value for name, value in kept.items() if name == "folds" or name not in VOLATILE}

"""Recipe YAML and command line to arguments, and the deviations of the paper's code."""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..cli_parser import FlagParser, refuse_unknown
from ..files import read_text, read_yaml
from ..models import MODELS, PROBE, short_name
from ..models.backbones import BACKBONES, is_encoder
from ..run_folder import UNSELECTED, VOLATILE
from ..splits import NUM_GROUPS
from ..validation import UserError, did_you_mean, json_object
from .argument_checks import check_together, try_out
from .arguments import RunArguments, VivaeTrainingArguments, usual_recipe

NO_RECIPES = ("ablation", "accelerate", "search")  # folders of other YAML files in recipes/


def parse_run(
    argv: list[str], recipes: Path, absent: Sequence[str] = ()
) -> tuple[RunArguments, VivaeTrainingArguments]:
    """Arguments of one run: the dataclasses' defaults < the recipe's YAML < the command line.

    `model_config` is merged field by field; everything else is replaced.

    Args:
        argv: the command line without the program's name; `--config run.json` repeats a run.
        recipes: folder of recipe folders, each with a YAML for each model.
        absent: arguments that have their default, whatever recipe and command line say.

    Raises:
        ValueError: for unknown or misspelt keys and flags, with the nearest; for values of another type; for recipes
            that do not exist; for files that consent to execute code; and for what the dataclasses refuse.
    """
    parser = FlagParser([RunArguments, VivaeTrainingArguments], allow_abbrev=False)
    parser.add_argument("--config", help="run.json of a run to repeat; other flags win over it.")
    known = {action.dest for action in parser._actions} - {"help", "config"}
    source, defaults = _defaults(argv, recipes)
    # None stands for what the command line leaves to recipe and defaults
    on_command_line, _ = parser.parse_known_args(argv, argparse.Namespace(**dict.fromkeys(known)))
    if defaults.pop("trust_remote_code", False) and on_command_line.trust_remote_code is None:
        raise UserError(
            f"expected consent to execute a checkpoint's code on the command line, found it in {source}; read that "
            "code, and if you trust it add --trust_remote_code."
        )
    for key in defaults:
        if key not in known:
            raise UserError(f"{source} has an unknown key {key!r}{did_you_mean(key, known)}; correct or remove it.")
    model_config = json_object(defaults.pop("model_config", None) or {}, f"model_config of {source}")
    given, unknown = parser.parse_known_args([*as_flags(defaults), *argv])
    refuse_unknown([*unknown, *(f"--{name}" for name in absent if name not in known)], known)
    for name in absent:
        setattr(given, name, parser.get_default(name))
    given.model_config = {**model_config, **json_object(given.model_config or {}, "--model_config")}
    run = RunArguments(**{f.name: getattr(given, f.name) for f in fields(RunArguments)})
    settings = {f.name: getattr(given, f.name) for f in fields(VivaeTrainingArguments) if f.init}
    settings["output_dir"] = settings["output_dir"] or default_output_dir(run, settings["seed"])
    if run.select_on == "none":
        settings |= UNSELECTED
    try:
        args = VivaeTrainingArguments(**settings)
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
    check_together(run, args, on_command_line)
    return run, args


def default_output_dir(run: RunArguments, seed: int) -> str:
    """Run folder that is named after what was run: runs/<data>/<recipe>/<model>-<protocol>-<task>-seed<seed>.

    A number of groups that is not the usual one stands behind the protocol.
    """
    model = short_name(run.model).replace(":", "-")
    recipe = "+".join([run.recipe, *run.as_coded]) if run.recipe == "paper" else run.recipe
    groups = f"-of-{run.num_groups}" if run.num_groups != NUM_GROUPS else ""
    return str(Path("runs", run.data, recipe, f"{model}-{run.protocol}{groups}-{run.task}-seed{seed}"))


def as_flags(values: dict[str, Any]) -> list[str]:
    """Settings as the command line that gives them; those that are None or empty are left out.

    Raises:
        UserError: for a list with a flag in it, by which a file of a stranger could say anything.
    """
    flags = []
    for key, value in values.items():
        if isinstance(value, list):
            if smuggled := next((entry for entry in value if str(entry).startswith("--")), None):
                raise UserError(f"expected values of {key} in a list, found the flag {smuggled!r}; take it out.")
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
                raise UserError(f"--config repeats a run with its recipe and switches; leave out --{flag}.")
        return given.config, _read_run(Path(given.config))
    folders = (path for path in recipes.iterdir() if any(path.glob("*.yaml")))
    names = sorted(path.name for path in folders if path.name not in NO_RECIPES)
    if given.recipe and given.recipe not in names:
        raise UserError(
            f"expected a recipe out of {', '.join(names)}, found {given.recipe!r}"
            f"{did_you_mean(given.recipe, names)}; choose one of them."
        )
    if given.as_coded or given.recipe == "as_coded":
        return _as_coded(given.model, given.recipe, given.as_coded, recipes)
    recipe = given.recipe or usual_recipe(given.model or "")
    if recipe and (given.model in MODELS or is_encoder(given.model or "") or (given.model or "").startswith(PROBE)):
        file = recipe_file(recipes / recipe, given.model)
        if not file.is_file():
            raise UserError(f"expected the recipe {file}, found none; choose another --recipe or --model.")
        return f"{file.parent.name}/{file.name}", read_yaml(file)
    if given.recipe and given.model:
        raise UserError(f"recipe {given.recipe!r} has no {given.model}.yaml; leave --recipe out to use the defaults.")
    return "defaults", {}


def recipe_file(folder: Path, model: str) -> Path:
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
        raise UserError(
            f"the switches of recipes/as_coded change the recipe paper of {', '.join(MODELS)}, found --recipe "
            f"{recipe or 'paper'} and --model {model}; leave out --as_coded, or choose one of these models."
        )
    switches = read_switches(recipes)
    names = names or [name for name, switch in switches.items() if model in switch.models]
    values = read_yaml(recipes / "paper" / f"{model}.yaml")
    return "recipes/as_coded", apply_deviations(values, choose_switches(switches, names, model))


def _read_run(file: Path) -> dict[str, Any]:
    if not os.path.isfile(file):
        raise UserError(f"expected the run.json of a run, found no file {file}; check --config.")
    content = json_object(read_text(file, "give the run.json of a run as --config"), str(file))
    if not all(isinstance(content.get(part), dict) for part in ("run", "training")):
        raise UserError(
            f"expected the objects 'run' and 'training' in {file}, found {str(content)[:60]}; use a run.json."
        )
    kept = {**content["run"], **content["training"]}
    # what belongs to the first run's folder or machine is not repeated, nor what follows from --select_on
    dropped = {*VOLATILE, *(UNSELECTED if kept.get("select_on") == "none" else ())} - {"folds"}
    return {name: value for name, value in kept.items() if name not in dropped}


@dataclass(frozen=True)
class Deviation:
    """One difference.

    Args:
        name: stem of its file.
        row: number of the difference.
        report: what the report says.
        notebook: what its notebook does.
        models: those of `MODELS` that it concerns.
        settings: what changes in their recipe.
        instead: settings of a run without it, for a habit that text and notebook share, so that `paper` has it too.
    """

    name: str
    row: int
    report: str
    notebook: str
    models: tuple[str, ...]
    settings: dict[str, Any]
    instead: dict[str, Any] = field(default_factory=dict)


def read_switches(recipes: Path) -> dict[str, Deviation]:
    """All switches by name, in the order of their rows.

    Raises:
        ValueError: for a file with missing or unknown keys or models.
    """
    switches = [_read_switch(file) for file in sorted((recipes / "as_coded").glob("*.yaml"))]
    return {switch.name: switch for switch in sorted(switches, key=lambda switch: switch.row)}


def _read_switch(file: Path) -> Deviation:
    values = read_yaml(file)
    known = {field.name for field in fields(Deviation)} - {"name"}
    if not known - {"instead"} <= values.keys() <= known or not set(values["models"]) <= MODELS.keys():
        raise UserError(
            f"expected {file} to hold {', '.join(sorted(known))} and names of models, found {sorted(values)}; "
            "correct it."
        )
    return Deviation(file.stem, **{**values, "models": tuple(values["models"])})


def choose_switches(switches: dict[str, Deviation], names: Sequence[str], model: str) -> list[Deviation]:
    """The switches of these names.

    Raises:
        ValueError: for an unknown name, with the nearest, and for a switch that does not concern the model.
    """
    for name in names:
        if name not in switches:
            hint = did_you_mean(name, switches)
            raise UserError(f"expected --as_coded out of {', '.join(switches)}, found {name!r}{hint}; correct it.")
        if model not in switches[name].models:
            raise UserError(
                f"the switch {name} concerns {', '.join(switches[name].models)}, found --model {model}; leave it out."
            )
    return [switches[name] for name in switches if name in names]


def apply_deviations(values: dict[str, Any], switches: Sequence[Deviation]) -> dict[str, Any]:
    """A recipe's values with the settings of switches in place of its own; `model_config` field by field."""
    changed = dict(values)
    for switch in switches:
        config = {**(changed.get("model_config") or {}), **switch.settings.get("model_config", {})}
        changed |= {**switch.settings, **({"model_config": config} if config else {})}
    return {**changed, "as_coded": [switch.name for switch in switches]}

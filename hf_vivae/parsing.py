"""Recipe and command line to arguments, in one hop: a recipe's lines are read as flags that come first."""

import argparse
import json
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

from .arguments import RunArguments, VivaeTrainingArguments, json_object
from .models import MODELS
from .runs import VOLATILE


class _Parser(HfArgumentParser):
    """A parser that says what is wrong in one sentence, instead of printing all that is right."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see --help for all arguments.")


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
    parser = _Parser([RunArguments, VivaeTrainingArguments], allow_abbrev=False)
    parser.add_argument("--config", help="run.json of a run to repeat; other flags win over it.")
    known = {action.dest for action in parser._actions} - {"help", "config"}
    source, defaults = _defaults(argv, recipes)
    for key in defaults:
        if key not in known:
            raise ValueError(f"{source} has an unknown key {key!r}{_did_you_mean(key, known)}; correct or remove it.")
    model_config = json_object(defaults.pop("model_config", None) or {}, f"model_config of {source}")
    given, unknown = parser.parse_known_args([*_as_flags(defaults), *argv])
    if unknown:
        flag = unknown[0].split("=")[0]
        nearest = _did_you_mean(flag.lstrip("-").replace("-", "_"), known, prefix="--")
        raise ValueError(f"unknown argument {flag!r}{nearest}; see --help for all of them.")
    given.model_config = {**model_config, **json_object(given.model_config or {}, "--model_config")}
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


def _as_flags(values: dict[str, Any]) -> list[str]:
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
    given, _ = first.parse_known_args(argv)
    if given.config:
        if given.recipe:
            raise ValueError("--config repeats a run with its recipe; leave out --recipe.")
        return given.config, _read_run(Path(given.config))
    names = sorted(path.name for path in recipes.iterdir() if any(path.glob("*.yaml")))
    if given.recipe and given.recipe not in names:
        raise ValueError(
            f"expected a recipe out of {', '.join(names)}, found {given.recipe!r}"
            f"{_did_you_mean(given.recipe, names)}; choose one of them."
        )
    if given.model in MODELS:
        file = recipes / (given.recipe or "paper") / f"{given.model}.yaml"
        return f"{file.parent.name}/{file.name}", _read_yaml(file)
    if given.recipe:
        raise ValueError(f"recipe {given.recipe!r} has no {given.model}.yaml; leave --recipe out to use the defaults.")
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
    content = json_object(file.read_text(encoding="utf-8"), str(file))
    if not {"run", "training"} <= content.keys():
        raise ValueError(f"expected the keys 'run' and 'training' in {file}, found {sorted(content)}; use a run.json.")
    # what belongs to the first run's folder or machine is not repeated
    kept = {**content["run"], **content["training"]}
    return {name: value for name, value in kept.items() if name == "folds" or name not in VOLATILE}


def _did_you_mean(name: str, known: Any, prefix: str = "") -> str:
    close = get_close_matches(name, known, 1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""

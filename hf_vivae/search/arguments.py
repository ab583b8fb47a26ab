"""The command line of a search: its own flags, and all those of the runs that it tries."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ..arguments import RunArguments, VivaeTrainingArguments, usual_recipe
from ..flags import FlagParser, json_object
from ..parsing import default_output_dir
from ..validation import UserError


@dataclass
class SearchArguments:
    """How to search."""

    space: str | None = field(
        default=None, metadata={"help": "YAML of the search space; recipes/search/<model>.yaml if absent."}
    )
    trials: int = field(
        default=20, metadata={"help": "Trials of the whole study, those of earlier and other processes counted."}
    )
    backend: Literal["optuna", "ray"] = field(
        default="optuna", metadata={"help": "Engine: optuna, or ray for a cluster of Ray."}
    )
    storage: str | None = field(
        default=None,
        metadata={
            "help": "Where Optuna keeps the study: a database's URL, or a file NAME.journal; study.db in --output_dir "
            "if absent."
        },
    )
    study: str | None = field(
        default=None, metadata={"help": "Name of the study in its storage; tells data, recipe and model if absent."}
    )
    resources_per_trial: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'What Ray gives a trial as JSON, such as \'{"cpu": 4, "gpu": 1}\'.'}
    )

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UserError(f"expected --trials of 1 or more, found {self.trials}; give the trials of the study.")
        if self.resources_per_trial is not None:
            self.resources_per_trial = json_object(self.resources_per_trial, "--resources_per_trial")
        given = "--storage" if self.storage else "--study"
        if self.backend == "ray" and (self.storage or self.study):
            raise UserError(
                f"{given} is Optuna's, found it beside --backend ray, which keeps trials in its own folder and joins "
                "no study; leave it out, or use --backend optuna."
            )
        if self.backend == "optuna" and self.resources_per_trial is not None:
            raise UserError("--resources_per_trial is Ray's, found it without --backend ray; leave it out.")
        if find_spec(self.backend) is None:
            extra = "search" if self.backend == "optuna" else "ray"
            raise UserError(
                f"--backend {self.backend} needs {self.backend}, which is not installed; run `pip install "
                f"'hf_vivae[{extra}]'`."
            )


def parse_search(argv: Sequence[str]) -> tuple[SearchArguments, list[str]]:
    """The flags of a search, and the rest, which are those of `recipes/train.py`.

    Raises:
        ValueError: for values of another type, and for what cannot be meant.
    """
    parser = FlagParser(
        SearchArguments,
        allow_abbrev=False,
        description="Search for a model's hyperparameters.",
        epilog="All arguments of recipes/train.py are taken too: python recipes/train.py --help. --recipe is tuned "
        "where the model has one and none is given.",
    )
    given, rest = parser.parse_known_args(list(argv))
    return SearchArguments(**vars(given)), around_tuned(rest)


def around_tuned(argv: list[str]) -> list[str]:
    """Flags of a run with the recipe `tuned`, whose values the spaces are around, where they choose none."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--model", default="")
    model = first.parse_known_args(argv)[0].model
    chosen = {flag.partition("=")[0] for flag in argv} & {"--recipe", "--config", "--as_coded"}
    return argv if chosen or usual_recipe(model) is None else ["--recipe", "tuned", *argv]


def check_searchable(run: RunArguments, args: VivaeTrainingArguments) -> None:
    """Refuse runs that a search has no use for.

    Raises:
        ValueError: naming the flag.
    """
    if run.select_on == "test" or run.watch_test:
        flag = "--select_on test" if run.select_on == "test" else "--watch_test"
        raise UserError(
            f"a search is decided by validation clips and never sees the test clips, found {flag}; leave it out, or "
            "take another --recipe."
        )
    if len(run.folds or []) > 1:
        raise UserError(
            f"expected one number as --folds of a search, found {' '.join(map(str, run.folds))}; give the fold whose "
            "validation clips shall decide."
        )
    if args.push_to_hub:
        raise UserError("a search has nothing to push, found --push_to_hub; give it to recipes/train.py.")
    if args.world_size > 1:
        raise UserError(
            f"expected a search in one process, found a launcher of {args.world_size}; start `python "
            "recipes/search.py` several times, and they share the study."
        )


def search_folder(run: RunArguments, args: VivaeTrainingArguments) -> Path:
    """The chosen --output_dir, or runs/<data>/search/<recipe>/..., apart from the run folder of `recipes/train.py`."""
    usual = Path(default_output_dir(run, args.seed))
    if Path(args.output_dir) != usual:
        return Path(args.output_dir)
    return Path(*usual.parts[:2], "search", *usual.parts[2:])


def study_name(run: RunArguments, args: VivaeTrainingArguments) -> str:
    """What tells a study from others in one storage: data, recipe, model, protocol, task and seed."""
    return "/".join(Path(default_output_dir(run, args.seed)).parts[1:])

"""Arguments and entry point of a hyperparameter search."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from .. import run_folder
from ..checkpoints.resolve import find_checkpoint
from ..cli_parser import FlagParser
from ..files import make_folder
from ..models.backbones import recipe_file
from ..training.arguments import RunArguments, VivaeTrainingArguments, usual_recipe
from ..training.build import load_training_data
from ..training.recipes import default_output_dir, parse_run, run_parser
from ..validation import UserError, json_object
from .optuna_backend import Study, search_result
from .ray_backend import search_with_ray
from .report import SearchReport, write_report
from .space import read_space
from .trials import RunTemplate, Trials

if TYPE_CHECKING:
    import optuna

DESCRIPTION = """Search for a model's hyperparameters on validation clips.

python recipes/search.py --model wav2vec2 --data synthetic --trials 20"""
EPILOG = (
    "All arguments of recipes/train.py are taken too, and hold for every trial. --recipe is tuned where the model has "
    "one and none is given."
)


@dataclass
class SearchArguments:
    """Arguments of a search; all others are those of `recipes/train.py`."""

    space: str | None = field(
        default=None, metadata={"help": "YAML file of the search space; recipes/search/<model>.yaml by default."}
    )
    trials: int = field(
        default=20, metadata={"help": "Number of trials of the study, those of earlier and other processes included."}
    )
    backend: Literal["optuna", "ray"] = field(
        default="optuna", metadata={"help": "Library of the search: optuna, or ray for a cluster of Ray."}
    )
    storage: str | None = field(
        default=None,
        metadata={
            "help": "Storage of Optuna's study: URL of a database, or a file NAME.journal; by default study.db in "
            "--output_dir."
        },
    )
    study: str | None = field(
        default=None, metadata={"help": "Name of the study in its storage; data, recipe, model and seed by default."}
    )
    resources_per_trial: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'Resources of a trial of Ray as JSON, such as \'{"cpu": 4, "gpu": 1}\'.'}
    )

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UserError(f"expected --trials of 1 or more, found {self.trials}; give the trials of the study.")
        if self.resources_per_trial is not None:
            self.resources_per_trial = json_object(self.resources_per_trial, "--resources_per_trial")
        flag = "--storage" if self.storage else "--study"
        if self.backend == "ray" and (self.storage or self.study):
            raise UserError(
                f"{flag} is for Optuna, found --backend ray, which keeps trials in its own folder and joins no study; "
                "leave it out, or use --backend optuna."
            )
        if self.backend == "optuna" and self.resources_per_trial is not None:
            raise UserError("--resources_per_trial is for --backend ray, found --backend optuna; leave it out.")
        if find_spec(self.backend) is None:
            extra = "search" if self.backend == "optuna" else "ray"
            raise UserError(
                f"--backend {self.backend} needs {self.backend}, which is not installed; run `pip install "
                f"'hf_vivae[{extra}]'`."
            )


def parse_search(argv: Sequence[str], recipes: Path) -> tuple[SearchArguments, RunTemplate]:
    """Return the arguments of a search and the run that it starts from.

    Without --recipe, --config and --as_coded, the run has the recipe `tuned` where the model has one, since the search
    spaces contain values around it.

    Raises:
        UserError: for unknown or misspelt flags, for values of another type, and for values that do not fit.
    """
    parser = FlagParser(SearchArguments, base=run_parser(), description=DESCRIPTION, epilog=EPILOG)
    namespace, flags = parser.parse_known_args(list(argv))
    arguments = SearchArguments(**vars(namespace))
    chosen, _ = run_parser().parse_known_args(flags)
    tuned = usual_recipe(chosen.model or "") and not (chosen.recipe or chosen.config or chosen.as_coded)
    overrides = {"recipe": "tuned"} if tuned else {}
    return arguments, RunTemplate(flags, recipes, overrides, *parse_run(flags, recipes, overrides))


def check_searchable(run: RunArguments, args: VivaeTrainingArguments) -> None:
    """Check that a run can be searched.

    Raises:
        UserError: with the argument and the remedy.
    """
    if run.select_on == "test" or run.watch_test:
        flag = "--select_on test" if run.select_on == "test" else "--watch_test"
        raise UserError(
            f"a search uses validation clips and never the test clips, found {flag}; leave it out, or take another "
            "--recipe."
        )
    if len(run.folds or []) > 1:
        raise UserError(
            f"expected one number as --folds of a search, found {' '.join(map(str, run.folds))}; give the fold whose "
            "validation clips score the trials."
        )
    if args.push_to_hub:
        raise UserError("a search has nothing to push, found --push_to_hub; give it to recipes/train.py.")
    if args.world_size > 1:
        raise UserError(
            f"expected a search in one process, found a launcher of {args.world_size}; start `python "
            "recipes/search.py` several times, since its processes share the study."
        )


def search(argv: list[str], recipes: Path) -> SearchReport:
    """Search for a model's hyperparameters, or continue a search, and write its results, also when interrupted.

    Args:
        argv: flags of `recipes/search.py`.
        recipes: folder of the recipes.

    Raises:
        UserError: for arguments that do not fit, a space that runs refuse, and a study of another search.
    """
    arguments, template = parse_search(argv, recipes)
    run, args = template.run, template.args
    check_searchable(run, args)
    folder, usual = Path(args.output_dir), Path(default_output_dir(run, args.seed))
    if folder == usual:  # the default of recipes/train.py
        folder = Path(*usual.parts[:2], "search", *usual.parts[2:])
    run_folder.check_report_folder(folder, "trials")
    source = Path(arguments.space) if arguments.space else recipe_file(recipes / "search", run.model)
    space = read_space(source)
    template.check(space, source)
    make_folder(folder)
    checkpoint = find_checkpoint(run.model, run.model_name_or_path, run.from_scratch, run.trust_remote_code)
    prepared = load_training_data(run, args.seed, run.load())
    number = (run.folds or [0])[0]
    if not 0 <= number < len(prepared.folds):
        last = len(prepared.folds) - 1
        raise UserError(f"expected --folds between 0 and {last}, found {number}; the protocol has no such fold.")
    trials = Trials(template, space, prepared, prepared.folds[number], checkpoint, folder)
    if arguments.backend == "ray":
        result = search_with_ray(trials, source, arguments.trials, arguments.resources_per_trial)
        return write_report(trials, "ray", result)
    return _search_with_optuna(trials, source, arguments)


def _search_with_optuna(trials: Trials, source: Path, arguments: SearchArguments) -> SearchReport:
    usual = Path(default_output_dir(trials.template.run, trials.template.args.seed))
    name = arguments.study or "/".join(usual.parts[1:])
    storage = arguments.storage or f"sqlite:///{trials.folder / 'study.db'}"
    study = Study(name, storage, arguments.trials, trials)
    opened = study.open()
    try:
        study.train(opened, source)
    except BaseException as error:  # also of Ctrl-C
        if search_result(opened, trials).scored:
            error.add_note(f"Results until then:\n{_report(opened, trials).text}")
        raise
    return _report(opened, trials)


def _report(study: "optuna.Study", trials: Trials) -> SearchReport:
    # otherwise a process that has read the study earlier may write its results after one that has read it later
    with FileLock(trials.folder / ".results.lock"):
        return write_report(trials, "optuna", search_result(study, trials))

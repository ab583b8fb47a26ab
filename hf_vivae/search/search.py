"""A search from its command line to what it writes: one function for the script."""

from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from .. import runs
from ..checkpoints import find_checkpoint
from ..disk import make_folder
from ..parsing import parse_run
from ..prepared import Prepared, prepare
from ..splits import Fold
from ..validation import UserError
from .arguments import SearchArguments, check_searchable, parse_search, search_folder, study_name
from .candidates import Candidates
from .question import question
from .ray_tune import search_with_ray
from .report import SearchReport, write_report
from .space import find_space, read_space
from .study import Study, outcome
from .trials import Trials

if TYPE_CHECKING:
    import optuna


def search(argv: list[str], recipes: Path) -> SearchReport:
    """Search for a model's hyperparameters, or go on with a search, and write down what was found.

    What a search had found until it was interrupted is written down, too.

    Args:
        argv: flags of `recipes/search.py`.
        recipes: folder of the recipes.

    Raises:
        ValueError: for what cannot be meant, a space that runs refuse, and a study of another search.
    """
    given, rest = parse_search(argv)
    run, args = parse_run(rest, recipes)
    check_searchable(run, args)
    folder = search_folder(run, args)
    runs.check_report_folder(folder, "trials")
    source = Path(given.space) if given.space else find_space(run.model, recipes)
    space, candidates = read_space(source), Candidates(rest, recipes, run, args)
    candidates.check(space, source)
    make_folder(folder)
    checkpoint = find_checkpoint(run.model, run.model_name_or_path, run.from_scratch, run.trust_remote_code)
    prepared = prepare(run, args.seed, run.load())
    fold = searched_fold(prepared, run.folds)
    trials = Trials(candidates, space, prepared, fold, checkpoint, folder)
    if given.backend == "ray":
        return write_report(trials, "ray", search_with_ray(trials, source, given.trials, given.resources_per_trial))
    return _search_with_optuna(trials, source, given)


def searched_fold(prepared: Prepared, numbers: list[int] | None) -> Fold:
    """The fold whose validation clips decide: the chosen one, or the first.

    Raises:
        ValueError: for a number that the protocol does not have, and a fold without validation clips.
    """
    number = (numbers or [0])[0]
    if not 0 <= number < len(prepared.folds):
        raise UserError(
            f"expected --folds between 0 and {len(prepared.folds) - 1}, found {number}; the protocol has no such fold."
        )
    return prepared.folds[number]


def _search_with_optuna(trials: Trials, source: Path, given: SearchArguments) -> SearchReport:
    name = given.study or study_name(trials.candidates.run, trials.candidates.args)
    storage = given.storage or f"sqlite:///{trials.folder / 'study.db'}"
    study = Study(name, storage, given.trials, trials, question(trials))
    opened = study.open()
    try:
        study.train(opened, source)
    except BaseException as error:  # of Ctrl-C, too
        if outcome(opened, trials).scored:
            error.add_note(f"What was found until then:\n{_report(opened, trials).text}")
        raise
    return _report(opened, trials)


def _report(study: "optuna.Study", trials: Trials) -> SearchReport:
    with FileLock(trials.folder / ".results.lock"):  # else an earlier reader may write after a later one
        return write_report(trials, "optuna", outcome(study, trials))

"""A search from its command line to what it writes: one function for the script."""

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from .. import runs
from ..checkpoints import find_checkpoint
from ..corpus_arguments import CorpusArguments
from ..parsing import parse_run
from ..prepared import Prepared, prepare
from ..runs import VOLATILE
from ..splits import Fold
from .arguments import SearchArguments, check_searchable, parse_search, search_folder, study_name
from .candidates import Candidates
from .ray_tune import search_with_ray
from .report import SearchReport, write_report
from .results import Outcome
from .space import find_space, read_space
from .study import Study, outcome
from .trials import Trials


def search(argv: list[str], recipes: Path) -> SearchReport:
    """Search for a model's hyperparameters, or go on with a search, and write down what was found.

    Args:
        argv: flags of `recipes/search.py`.
        recipes: folder of the recipes.

    Raises:
        ValueError: for what cannot be meant, a space that runs refuse, and a study of another search.
    """
    given, rest = parse_search(argv)
    run, args = parse_run(rest, recipes)
    check_searchable(run, args)
    source = Path(given.space) if given.space else find_space(run.model, recipes)
    space, candidates = read_space(source), Candidates(rest, recipes, run, args)
    candidates.check(space, source)
    folder = search_folder(run, args)
    runs.make_folder(folder)
    checkpoint = find_checkpoint(run.model, run.model_name_or_path, run.from_scratch, run.trust_remote_code)
    prepared = prepare(run, args.seed, run.load())
    fold = first_fold(prepared, run.folds)
    trials = Trials(candidates, space, prepared, fold, checkpoint, folder)
    settings = _settings(trials)
    read = _carry_out(given, trials, source, settings)
    with FileLock(folder / ".results.lock"):  # else an earlier reader may write after a later one
        return write_report(trials, given.backend, read())


def first_fold(prepared: Prepared, numbers: list[int] | None) -> Fold:
    """The fold whose validation clips decide: the first of the chosen ones.

    Raises:
        ValueError: for a number that the protocol does not have, and a fold without validation clips.
    """
    number = (numbers or [0])[0]
    if not 0 <= number < len(prepared.folds):
        raise ValueError(
            f"expected --folds between 0 and {len(prepared.folds) - 1}, found {number}; the protocol has no such fold."
        )
    return prepared.folds[number]


def _carry_out(
    given: SearchArguments, trials: Trials, source: Path, settings: dict[str, Any]
) -> Callable[[], Outcome]:
    if given.backend == "ray":
        found = search_with_ray(trials, source, given.trials, given.resources_per_trial)
        return lambda: found
    candidates = trials.candidates
    name = given.study or study_name(candidates.run, candidates.args)
    storage = given.storage or f"sqlite:///{trials.folder / 'study.db'}"
    study = Study(name, storage, given.trials, trials).search(source, settings)
    return lambda: outcome(study, trials)


def _settings(trials: Trials) -> dict[str, Any]:
    """What all processes of a study must have in common: everything but where they run and find the clips."""
    run, args = trials.candidates.run, trials.candidates.args
    places = {*VOLATILE, *(f.name for f in fields(CorpusArguments))}
    settings = {
        **{name: value for name, value in {**asdict(run), **args.to_dict()}.items() if name not in places},
        **{"data": run.data, "clips": trials.prepared.digest, "fold": trials.fold.name},
        **{f"space of {key}": str(dimension) for key, dimension in trials.space.items()},
    }
    return json.loads(json.dumps(settings))  # as a storage gives them back

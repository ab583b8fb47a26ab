"""What a search writes at its end: `results.json`, `trials.csv`, pictures and the winner's recipe."""

from dataclasses import asdict, dataclass
from pathlib import Path

from .. import runs
from ..evaluation.search_figures import history_figure, importance_figure, values_figure
from ..models import short_name
from ..prepared import identity
from .results import Outcome, TrialRow, write_trials
from .trials import Trials
from .winner import Winner

SPELLED = {"uar": "UAR", "macro_f1": "macro F1", "macro_auc": "macro AUC"}


@dataclass(frozen=True)
class SearchReport:
    """What a search has found.

    Args:
        folder: with `results.json`, `trials.csv`, pictures and the recipe.
        best: the winner.
        recipe: its settings.
        text: the same in lines for a terminal.
    """

    folder: Path
    best: TrialRow
    recipe: Path
    text: str


def write_report(trials: Trials, backend: str, outcome: Outcome) -> SearchReport:
    """Write what was found into the folder of the search.

    Raises:
        ValueError: where no trial has a score.
    """
    candidates, folder = trials.candidates, trials.folder
    best = outcome.best(candidates.args.greater_is_better)
    write_trials(folder / "trials.csv", outcome)
    _draw(trials, outcome)
    searched = {key: str(dimension) for key, dimension in trials.space.items()}
    folds = trials.prepared.folds
    fold = folds.index(trials.fold) if len(folds) > 1 else None
    winner = Winner(*candidates.with_values(best.values), searched, fold)
    recipe = winner.write_recipe(folder, _head(trials, outcome, best))
    content = {
        **identity(candidates.run, candidates.args, trials.prepared),
        "fold": trials.fold.name,
        "score": _score_name(trials),
        "backend": backend,
        "space": {key: asdict(dimension) for key, dimension in trials.space.items()},
        "trials": outcome.states,
        "best": {"trial": best.name, "score": best.score, "values": best.values},
        "importance": outcome.importance,
    }
    runs.write_json(folder / "results.json", content)
    text = _describe(trials, outcome, best, recipe, winner.command(recipe, candidates.recipes))
    return SearchReport(folder, best, recipe, text)


def _score_name(trials: Trials) -> str:
    metric = trials.candidates.args.metric_for_best_model.removeprefix("eval_")
    return f"validation {SPELLED.get(metric, metric)}"


def _where(trials: Trials) -> str:
    run = trials.candidates.run
    fold = f", fold {trials.fold.name}" if len(trials.prepared.folds) > 1 else ""
    split = f"protocol {run.protocol}{fold}, seed {trials.candidates.args.seed}"
    return f"{trials.prepared.corpus.name} clips, task {run.task}, {split}"


def _counted(outcome: Outcome) -> str:
    states = ", ".join(f"{number} {state}" for state, number in outcome.states.items())
    return f"{len(outcome.trials)} trials ({states})"


def _draw(trials: Trials, outcome: Outcome) -> None:
    run, greater, score = trials.candidates.run, trials.candidates.args.greater_is_better, _score_name(trials)
    title = f"{short_name(run.model)}, recipe {run.recipe}\n{_where(trials)}"
    rows = outcome.trials
    scores, states = [row.score for row in rows], [row.state for row in rows]
    figures = {"history": history_figure(scores, states, title, score, greater)}
    found = [(row.values, row.score) for row in outcome.scored]
    space = {key: asdict(dimension) for key, dimension in trials.space.items()}
    figures["values"] = values_figure(found, space, title, score, greater)
    if outcome.importance is not None:
        figures["importance"] = importance_figure(outcome.importance, title)
    for name, figure in figures.items():
        figure.savefig(trials.folder / f"{name}.png")


def _head(trials: Trials, outcome: Outcome, best: TrialRow) -> str:
    return (
        f"Found by recipes/search.py from recipe {trials.candidates.run.recipe} in {_counted(outcome)} on\n"
        f"{_where(trials)}: trial {best.name}, {_score_name(trials)} {best.score:.4f}.\n"
        "The best of many validation scores is higher than what other clips will give."
    )


def _describe(trials: Trials, outcome: Outcome, best: TrialRow, recipe: Path, command: str) -> str:
    values = "\n            ".join(f"{key}: {value}" for key, value in best.values.items())
    failed = "".join(f"failed      {error}\n" for error in outcome.errors)
    return f"""\
searched    {_counted(outcome)} on {_where(trials)}
{failed}best        trial {best.name}, {_score_name(trials)} {best.score:.4f}
            {values}
results     {trials.folder / "results.json"}
recipe      {recipe}

Use it:
{command}"""

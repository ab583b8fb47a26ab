"""Ray Tune as the engine, for a machine or a cluster of Ray: random search, poor trials ended early by ASHA."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..validation import UserError
from .report import SearchResult, TrialRow
from .trials import UNPRUNED, SearchTrainer, Trials, named

if TYPE_CHECKING:
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import ASHAScheduler


class RayTrainer(SearchTrainer):
    """A trainer whose trials Ray proposes and ends, each in a process of its own."""

    def train(self, *args, trial: dict[str, Any], **kwargs) -> None:
        """Train one trial."""
        from ray import tune

        values = {key: self.trials.space[key].decode(value) for key, value in trial.items()}
        name = tune.get_context().get_trial_id()

        def report(score: float, scorings: int, done: float) -> None:
            self._reported = {"objective": score, "scorings": scorings}
            if done < 1:
                tune.report({**self._reported, "percent": 100 * done, "complete": False})

        self.objective = self.trials.train(name, values, report)
        tune.report({**self._reported, "percent": 100, "complete": True})  # which one that ASHA has ended never says


def search_with_ray(trials: Trials, source: Path, total: int, resources: dict[str, Any] | None) -> SearchResult:
    """Train all trials of a search; it begins anew, and joins no earlier one.

    A running cluster is the one that `ray start` or `RAY_ADDRESS` names; else one is started on this machine. Each
    node needs this package, and the output folder at the same path.

    Args:
        trials: the runs.
        source: file of the search space.
        total: number of trials.
        resources: of a trial, such as `{"cpu": 4, "gpu": 1}`; one core, and a GPU where there is one, by default.

    Raises:
        ValueError: for values that runs refuse, and where the folder holds a search already.
    """
    folder = trials.folder.resolve()
    if (folder / "ray").exists():
        raise UserError(
            f"{folder} holds a search with Ray, which cannot be continued; give another --output_dir, or use "
            "--backend optuna."
        )
    trials.check(source)
    # of Ray: no report of its use over the network, and the working folder of this process for its workers
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    import ray

    ray.init(include_dashboard=False)
    try:
        return SearchResult([_row(trial, trials) for trial in _tune(trials, folder, total, resources)], None)
    finally:
        ray.shutdown()


def _tune(trials: Trials, folder: Path, total: int, resources: dict[str, Any] | None) -> list["Trial"]:
    from ray.tune.search import BasicVariantGenerator

    args = trials.candidates.args
    direction = "maximize" if args.greater_is_better else "minimize"
    try:
        best = trials.trainer(RayTrainer).hyperparameter_search(
            hp_space=lambda _: {key: dimension.for_ray() for key, dimension in trials.space.items()},
            n_trials=total,
            direction=direction,
            backend="ray",
            scheduler=_asha(direction[:3]),
            search_alg=BasicVariantGenerator(random_state=args.seed),
            storage_path=str(folder),
            name="ray",
            raise_on_failed_trial=False,  # the others are worth their time
            **({"resources_per_trial": resources} if resources else {}),
        )
    except AttributeError as error:
        if error.name != "trial_id":  # which the library looks for in the best of no trials
            raise
        raise UserError(
            f"expected a complete trial with a score, found none of {total} (why they failed, {folder / 'ray'} says); "
            "change the search space, and give another --output_dir."
        ) from error
    return best.run_summary.trials


def _asha(mode: str) -> "ASHAScheduler":
    from ray.tune.schedulers import ASHAScheduler

    # by how much of a trial's own training is done: trials may differ in their number of epochs
    return ASHAScheduler("percent", metric="objective", mode=mode, max_t=100, grace_period=100 * UNPRUNED)


def _row(trial: "Trial", trials: Trials) -> TrialRow:
    last = trial.last_result
    ended = trial.status == "TERMINATED" and last.get("scorings")  # after Ctrl-C, it is that of all others, too
    state = "complete" if last.get("complete") else "pruned" if ended else "failed"
    return TrialRow(
        name=trial.trial_id,
        state=state,
        score=last["objective"] if state == "complete" else None,
        values={key: trials.space[key].decode(value) for key, value in trial.config.items()},
        scorings=last.get("scorings", 0),
        seconds=last.get("time_total_s"),
        error=_error(trial),
    )


def _error(trial: "Trial") -> str | None:
    from ray.exceptions import RayTaskError

    error = trial.get_pickled_error()
    error = error.cause if isinstance(error, RayTaskError) else error  # what Ray says of it is a page
    return error and named(error)

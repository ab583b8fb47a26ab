"""Search with Ray Tune on a machine or a cluster: random search, with poor trials ended early by ASHA."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..validation import UserError
from .report import SearchResult, TrialRow
from .trials import UNPRUNED, SearchTrainer, Trials, named

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


class RayTrainer(SearchTrainer):
    """Trainer of the trials that Ray proposes and ends, each in a process of its own."""

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
        tune.report({**self._reported, "percent": 100, "complete": True})  # not reached by a trial that ASHA has ended


def search_with_ray(trials: Trials, source: Path, total: int, resources: dict[str, Any] | None) -> SearchResult:
    """Train all trials of a new search; an earlier one cannot be continued.

    The cluster is that of `ray start` or `RAY_ADDRESS`; without one, Ray is started on this machine. Each node needs
    this package, and the output folder at the same path.

    Args:
        trials: settings and data of its trials.
        source: file of the search space.
        total: number of trials.
        resources: resources of a trial, such as `{"cpu": 4, "gpu": 1}`; by default a core, and a GPU if there is one.

    Raises:
        UserError: for values that runs refuse, and where the folder already contains a search.
    """
    folder = trials.folder.resolve()
    if (folder / "ray").exists():
        raise UserError(
            f"{folder} contains a search with Ray, which cannot be continued; give another --output_dir, or use "
            "--backend optuna."
        )
    trials.check(source)
    # no usage report over the network, and the working folder of this process for the workers
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    import ray

    ray.init(include_dashboard=False)
    try:
        return SearchResult([_row(trial, trials) for trial in _tune(trials, folder, total, resources)], None)
    finally:
        ray.shutdown()


def _tune(trials: Trials, folder: Path, total: int, resources: dict[str, Any] | None) -> list["Trial"]:
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import BasicVariantGenerator

    args = trials.template.args
    direction = "maximize" if args.greater_is_better else "minimize"
    try:
        best = trials.trainer(RayTrainer).hyperparameter_search(
            hp_space=lambda _: {key: dimension.for_ray() for key, dimension in trials.space.items()},
            n_trials=total,
            direction=direction,
            backend="ray",
            # in percent of the training, since trials may differ in their number of epochs
            scheduler=ASHAScheduler(
                "percent", metric="objective", mode=direction[:3], max_t=100, grace_period=100 * UNPRUNED
            ),
            search_alg=BasicVariantGenerator(random_state=args.seed),
            storage_path=str(folder),
            name="ray",
            raise_on_failed_trial=False,  # the others go on
            **({"resources_per_trial": resources} if resources else {}),
        )
    except AttributeError as error:
        if error.name != "trial_id":  # an attribute of the best trial, which the library reads though there is none
            raise
        raise UserError(
            f"expected a complete trial with a score, found none of {total} (their errors are in {folder / 'ray'}); "
            "change the search space, and give another --output_dir."
        ) from error
    return best.run_summary.trials


def _row(trial: "Trial", trials: Trials) -> TrialRow:
    from ray.exceptions import RayTaskError

    error = trial.get_pickled_error()
    error = error.cause if isinstance(error, RayTaskError) else error  # the text of Ray's own error is a page long
    last = trial.last_result
    ended = trial.status == "TERMINATED" and last.get("scorings")  # after Ctrl-C, all others have it too
    state = "complete" if last.get("complete") else "pruned" if ended else "failed"
    return TrialRow(
        name=trial.trial_id,
        state=state,
        score=last["objective"] if state == "complete" else None,
        values={key: trials.space[key].decode(value) for key, value in trial.config.items()},
        scorings=last.get("scorings", 0),
        seconds=last.get("time_total_s"),
        error=error and named(error),
    )

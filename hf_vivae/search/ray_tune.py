"""Ray Tune as the engine, for a machine or a cluster of Ray: random search, poor trials ended early by ASHA."""

import os
from pathlib import Path
from typing import Any

from .results import Outcome, TrialRow
from .trials import SearchTrainer, Trials

UNPRUNED_SHARE = 4  # as for Optuna: no trial ends before this part of its epochs


class RayTrainer(SearchTrainer):
    """A trainer whose trials Ray proposes and ends, each in a process of its own."""

    def train(self, *args, trial: dict[str, Any], **kwargs) -> None:
        """Train one trial."""
        from ray import tune

        values = {key: self.trials.space[key].decode(value) for key, value in trial.items()}
        name = tune.get_context().get_trial_id()

        def report(score: float, scorings: int) -> None:
            self._reported = {"objective": score, "scorings": scorings}
            tune.report({**self._reported, "complete": False})

        self.objective = self.trials.train(name, values, report)
        tune.report({**self._reported, "complete": True})  # which one that ASHA has ended never says


def search_with_ray(trials: Trials, source: Path, total: int, resources: dict[str, Any] | None) -> Outcome:
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
        raise ValueError(
            f"{folder} holds a search with Ray, which cannot be continued; give another --output_dir, or use "
            "--backend optuna."
        )
    trials.check(source)
    # of Ray: no report of its use over the network, and the working folder of this process for its workers
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    import ray
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import BasicVariantGenerator

    args = trials.candidates.args
    direction = "maximize" if args.greater_is_better else "minimize"
    asha = ASHAScheduler(
        metric="objective",
        mode=direction[:3],
        max_t=10**6,  # how long a good trial is says its number of epochs
        grace_period=max(1, int(args.num_train_epochs / UNPRUNED_SHARE)),
    )
    ray.init(include_dashboard=False)
    try:
        best = trials.trainer(RayTrainer).hyperparameter_search(
            hp_space=lambda _: {key: dimension.for_ray() for key, dimension in trials.space.items()},
            n_trials=total,
            direction=direction,
            backend="ray",
            scheduler=asha,
            search_alg=BasicVariantGenerator(random_state=args.seed),
            storage_path=str(folder),
            name="ray",
            raise_on_failed_trial=False,  # the others are worth their time
            **({"resources_per_trial": resources} if resources else {}),
        )
    finally:
        ray.shutdown()
    return Outcome([_row(trial, trials) for trial in best.run_summary.trials], None)


def _row(trial: Any, trials: Trials) -> TrialRow:
    last = trial.last_result
    state = "failed" if trial.status == "ERROR" else "complete" if last.get("complete") else "pruned"
    return TrialRow(
        name=trial.trial_id,
        state=state,
        score=last["objective"] if state == "complete" else None,
        values={key: trials.space[key].decode(value) for key, value in trial.config.items()},
        scorings=last.get("scorings", 0),
        seconds=last.get("time_total_s"),
    )

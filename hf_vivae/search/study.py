"""Optuna as the engine: a study that processes and machines share, and that goes on where a killed one stopped."""

import logging
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .candidates import named
from .question import check_same_question, remember
from .results import Outcome, TrialRow
from .storage import fail_dead_trials, open_storage, sign_of_life
from .trials import REFUSALS, UNPRUNED, SearchTrainer, Trials

if TYPE_CHECKING:
    import optuna

TRIALS_FOR_IMPORTANCE = 8  # complete ones; with fewer, a forest has little to split
KEPT = 75.0  # percent; a median, which is that of complete trials only, would end most, and 100 clips are noisy
UNPRUNED_TRIALS = 5  # Optuna's default: so many are trained to their end before any is compared with them


@dataclass(frozen=True)
class Study:
    """An Optuna study of a search.

    Args:
        name: of the study.
        storage: URL of a database, or a file `NAME.journal`.
        total: trials that it shall have.
        trials: the runs.
        settings: what must be the same in all processes.
    """

    name: str
    storage: str
    total: int
    trials: Trials
    settings: dict[str, Any]

    def open(self) -> "optuna.Study":
        """The study as Optuna has it, begun where it is not there.

        Raises:
            ValueError: for a storage that cannot be used, and a study of other settings.
        """
        import optuna

        study = optuna.create_study(**self._options)
        check_same_question(study, self.settings)
        return study

    def train(self, study: "optuna.Study", source: Path) -> None:
        """Train what is missing of the study; a trial that cannot be trained counts as failed.

        Args:
            study: as `open` gives it.
            source: file of the search space.

        Raises:
            ValueError: for values that runs refuse, and where another process has just begun the study otherwise.
        """
        with sign_of_life(self.trials.folder / ".processes") as process:
            fail_dead_trials(study, process.parent)
            if missing := max(0, self.total - count(study)):
                self.trials.check(source)
                remember(study, self.settings)
                trainer = self.trials.trainer(OptunaTrainer)
                trainer.process, trainer.total = process.name, self.total
                self._search(study, trainer, missing)

    def _search(self, study: "optuna.Study", trainer: "OptunaTrainer", missing: int) -> None:
        logging.getLogger("optuna.study._optimize").addFilter(without_trace_of_ctrl_c)
        try:
            trainer.hyperparameter_search(
                hp_space=trainer.suggest,
                n_trials=missing,
                backend="optuna",
                gc_after_trial=True,  # Trainer is part of cycles; the library clears those of complete trials only
                catch=REFUSALS,  # other values may go together, or need less memory
                **self._options,
            )
        except ValueError:
            if complete_trials(study):  # else it is the library's, for want of a best one
                raise

    @cached_property
    def _options(self) -> dict[str, Any]:
        import optuna

        args = self.trials.candidates.args
        return {
            "study_name": self.name,
            "storage": open_storage(self.storage),
            "load_if_exists": True,
            "direction": "maximize" if args.greater_is_better else "minimize",
            "sampler": seeded_sampler(args.seed),
            "pruner": optuna.pruners.PercentilePruner(KEPT, UNPRUNED_TRIALS),
        }


class OptunaTrainer(SearchTrainer):
    """A trainer whose trials Optuna proposes and prunes."""

    process: str
    total: int

    def suggest(self, trial: "optuna.Trial") -> dict[str, Any]:
        """Values of a trial, by the keys of the search space."""
        return {key: dimension.suggest(trial, key) for key, dimension in self.trials.space.items()}

    def train(self, *args, trial: "optuna.Trial", **kwargs) -> None:
        """Train one trial, and no further one once the study has as many as it shall have."""
        import optuna

        def report(score: float, scorings: int, done: float) -> None:
            trial.report(score, scorings)
            if done >= UNPRUNED and trial.should_prune():
                raise optuna.TrialPruned()

        trial.set_user_attr("process", self.process)
        try:
            self.objective = self.trials.train(str(trial.number), self.hp_space(trial), report)
        except REFUSALS as error:
            trial.set_user_attr("error", named(error))
            raise
        finally:
            if count(trial.study) >= self.total:  # this one is still running, and counted
                trial.study.stop()


def seeded_sampler(seed: int) -> "optuna.samplers.BaseSampler":
    """Optuna's TPE (Bergstra et al., NeurIPS 2011), seeded anew by the number of each trial.

    One process alone repeats its search, and processes that share a study do not propose the same.
    """
    from optuna.samplers import BaseSampler, TPESampler

    class SeededByTrial(BaseSampler):
        def before_trial(self, study, trial) -> None:
            state = np.random.SeedSequence([seed, trial.number]).generate_state(1)
            self._sampler = TPESampler(seed=int(state[0]))

        def infer_relative_search_space(self, study, trial):
            return self._sampler.infer_relative_search_space(study, trial)

        def sample_relative(self, study, trial, search_space):
            return self._sampler.sample_relative(study, trial, search_space)

        def sample_independent(self, study, trial, param_name, param_distribution):
            return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    return SeededByTrial()


def without_trace_of_ctrl_c(record: logging.LogRecord) -> bool:
    """A filter of what Optuna logs: for a trial that Ctrl-C has ended, nobody looks for the line."""
    if record.exc_info and record.exc_info[0] is KeyboardInterrupt:
        record.exc_info = None
    return True


def count(study: "optuna.Study") -> int:
    """Trials that are finished or on their way; those that failed are made again."""
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)))


def complete_trials(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Trials that were trained to their end."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def outcome(study: "optuna.Study", trials: Trials) -> Outcome:
    """All trials of a study, and how much each hyperparameter mattered."""
    rows = [
        TrialRow(
            name=str(trial.number),
            state={"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(trial.state.name, "running"),
            score=trial.value if trial.state.name == "COMPLETE" else None,
            values={key: trials.space[key].decode(value) for key, value in trial.params.items()},
            scorings=len(trial.intermediate_values),
            seconds=trial.duration.total_seconds() if trial.duration else None,
            error=trial.user_attrs.get("error"),
        )
        for trial in study.trials
    ]
    return Outcome(rows, importance(study))


def importance(study: "optuna.Study") -> dict[str, float] | None:
    """Share of the scores' variance that each hyperparameter explains, by fANOVA (Hutter et al., ICML 2014).

    None for too few complete trials. PED-ANOVA, Optuna's default, compares the best tenth of the trials with all, and
    a tenth of some dozens is too few.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = complete_trials(study)
    scores = {trial.value for trial in complete if math.isfinite(trial.value)}
    if len(complete) < TRIALS_FOR_IMPORTANCE or len(scores) < 2:
        return None
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))

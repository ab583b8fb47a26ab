"""Search with Optuna: study, storage, and the check that a resumed study has the same settings."""

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout

from ..corpus.arguments import CorpusArguments
from ..files import check_place, make_folder
from ..run_folder import BEFORE, VOLATILE
from ..validation import UserError, short_repr
from .report import SearchResult, TrialRow
from .trials import REFUSALS, UNPRUNED, SearchTrainer, Trials, named

if TYPE_CHECKING:
    import optuna


TRIALS_FOR_IMPORTANCE = 8  # complete ones; with fewer, a forest has little to split
KEPT = 75.0  # percent of the trials; a median of complete trials would end most, and scores of 100 clips are noisy
BEAT, SILENCE = 20, 120  # seconds between two heartbeats of a trial, and until another machine takes it for dead
SETTINGS = "settings "  # prefix of the attributes of a study that contain them
MOST_NAMED = 5  # differences in an error
FIRST = ("model", "recipe", "data", "protocol", "fold", "task")  # named first: other differences follow from them


@dataclass(frozen=True)
class Study:
    """An Optuna study of a search.

    Args:
        name: name of the study.
        storage: URL of a database, or a file `NAME.journal`.
        total: number of trials.
        trials: settings and data of its trials.
    """

    name: str
    storage: str
    total: int
    trials: Trials

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Return the settings that must be the same in all processes.

        Not among them are the searched ones, those of the machine, and the place of the clips.
        """
        run, args, space = self.trials.template.run, self.trials.template.args, self.trials.space
        places = {*VOLATILE, *(f.name for f in fields(CorpusArguments))}
        settings = {name: value for name, value in {**asdict(run), **args.to_dict()}.items() if name not in places}
        for key in space:
            name, _, field = key.partition(".")
            own = settings.pop(name)
            if field:
                settings[name] = {other: value for other, value in (own or {}).items() if other != field}
        settings |= {"data": run.data, "clips": self.trials.prepared.digest, "fold": self.trials.fold.name}
        settings |= {f"space of {key}": str(dimension) for key, dimension in space.items()}
        return json.loads(json.dumps(settings))  # as a storage returns them

    def open(self) -> "optuna.Study":
        """Return the study of Optuna, created where it does not exist.

        Raises:
            UserError: for a storage that cannot be used, and a study of other settings.
        """
        import optuna

        study = optuna.create_study(**self._options)
        check_same_study(study, self.settings)
        return study

    def train(self, study: "optuna.Study", source: Path) -> None:
        """Train the missing trials of the study; a trial that cannot be trained counts as failed.

        Args:
            study: the study, as returned by `open`.
            source: file of the search space.

        Raises:
            UserError: for values that runs refuse, and where another process has just created the study with other
            settings.
        """
        with heartbeat(self.trials.folder / ".processes") as process:
            fail_dead_trials(study, process.parent)
            missing = self.total - count(study)
            if missing <= 0:
                return
            self.trials.check(source)
            remember(study, self.settings)
            trainer, space = self.trials.trainer(OptunaTrainer), self.trials.space.items()
            trainer.process, trainer.total = process.name, self.total
            logging.getLogger("optuna.study._optimize").addFilter(without_trace_of_ctrl_c)
            try:
                trainer.hyperparameter_search(
                    hp_space=lambda trial: {key: dimension.suggest(trial, key) for key, dimension in space},
                    n_trials=missing,
                    backend="optuna",
                    gc_after_trial=True,  # Trainers are in cycles; the library clears complete trials only
                    catch=REFUSALS,  # other values may go together, or need less memory
                    **self._options,
                )
            except ValueError:
                if complete_trials(study):  # otherwise the library raises it, since there is no best trial
                    raise

    @cached_property
    def _options(self) -> dict[str, Any]:
        import optuna

        args = self.trials.template.args
        return {
            "study_name": self.name,
            "storage": open_storage(self.storage),
            "load_if_exists": True,
            "direction": "maximize" if args.greater_is_better else "minimize",
            "sampler": seeded_sampler(args.seed),
            "pruner": optuna.pruners.PercentilePruner(KEPT),  # the first 5 trials are trained to their end
        }


class OptunaTrainer(SearchTrainer):
    """Trainer of the trials that Optuna proposes and prunes."""

    process: str
    total: int

    def train(self, *args, trial: "optuna.Trial", **kwargs) -> None:
        """Train one trial, and stop the study once it has all its trials."""
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
            if count(trial.study) >= self.total:  # the running trial is counted
                trial.study.stop()


def seeded_sampler(seed: int) -> "optuna.samplers.BaseSampler":
    """Return Optuna's TPE (Bergstra et al., NeurIPS 2011), seeded by the number of each trial.

    A search in one process can be repeated, and processes that share a study do not propose the same values.
    """
    from optuna.samplers import TPESampler

    class SeededByTrial(TPESampler):
        def before_trial(self, study, trial) -> None:
            state = np.random.SeedSequence([seed, trial.number]).generate_state(1)
            super().__init__(seed=int(state[0]))  # a new sampler, without a state of earlier trials
            super().before_trial(study, trial)

    return SeededByTrial()


def without_trace_of_ctrl_c(record: logging.LogRecord) -> bool:
    """Remove the traceback that Optuna logs for a trial that Ctrl-C has ended."""
    if record.exc_info and record.exc_info[0] is KeyboardInterrupt:
        record.exc_info = None
    return True


def count(study: "optuna.Study") -> int:
    """Return the number of trials that are finished or running; failed ones are trained again."""
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)))


def complete_trials(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Return the trials that were trained to their end."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def search_result(study: "optuna.Study", trials: Trials) -> SearchResult:
    """Return all trials of a study, and the importance of each hyperparameter."""
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
    return SearchResult(rows, importance(study))


def importance(study: "optuna.Study") -> dict[str, float] | None:
    """Return the share of the scores' variance that each hyperparameter explains; None for too few complete trials.

    By fANOVA (Hutter et al., ICML 2014). PED-ANOVA, Optuna's default, compares the best tenth of the trials with all,
    and a tenth of some dozens is too few.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = complete_trials(study)
    scores = {trial.value for trial in complete if math.isfinite(trial.value)}
    if len(complete) < TRIALS_FOR_IMPORTANCE or len(scores) < 2:
        return None
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def open_storage(storage: str) -> "optuna.storages.BaseStorage":
    """Open a file `NAME.journal`, or a database.

    Raises:
        UserError: where it cannot be opened.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if storage.endswith(".journal"):
            check_place(Path(storage), "--storage")
            return JournalStorage(JournalFileBackend(storage))
        if storage.startswith("sqlite:///"):
            file = Path(storage.removeprefix("sqlite:///"))
            check_place(file, "--storage")  # where no lock can be created, FileLock would wait forever
            with FileLock(file.with_name(f".{file.name}.lock")):  # two processes would both create its tables
                return _open_database(storage, {"timeout": SILENCE})  # for another writer; the default is 5 s
        return _open_database(storage, {})
    # a journal is JSON
    except (SQLAlchemyError, ImportError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        kind = storage.split(":")[0]  # the whole may hold a password
        raise UserError(
            "expected --storage such as sqlite:///runs/search.db, a database's URL or a file NAME.journal, found one "
            f"of {kind!r} that cannot be opened ({type(error).__name__}); check the address and the database's driver."
        ) from error


def _open_database(url: str, connect_args: dict[str, Any]) -> "optuna.storages.BaseStorage":
    import optuna

    options = {"connect_args": connect_args}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of the heartbeat
        return optuna.storages.RDBStorage(url, options, heartbeat_interval=BEAT, grace_period=SILENCE)


@contextmanager
def heartbeat(folder: Path) -> Iterator[Path]:
    """Hold a lock in a folder while this process runs; trials refer to it."""
    make_folder(folder)
    file = folder / f"{uuid4().hex}.lock"
    try:
        with FileLock(file):
            yield file
    finally:
        file.unlink(missing_ok=True)


def fail_dead_trials(study: "optuna.Study", processes: Path) -> None:
    """Mark trials as failed that killed processes have left running.

    Those of this output folder are recognised by their lock, at once; those of other machines by their heartbeat,
    which a journal does not have.
    """
    import optuna
    from optuna.trial import TrialState

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        lock = processes / trial.user_attrs.get("process", "none")
        if lock.is_file() and _is_free(lock):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            lock.unlink(missing_ok=True)


def _is_free(file: Path) -> bool:
    try:
        with FileLock(file, timeout=0):
            return True
    except Timeout:
        return False


def check_same_study(study: "optuna.Study", settings: dict[str, Any]) -> None:
    """Check that a study is of the same search.

    Raises:
        UserError: with the settings that differ.
    """
    remembered = _remembered(study)
    if study.trials and not remembered:
        raise UserError(f"study {study.study_name!r} was not made by recipes/search.py; give another --study.")
    for stored in remembered:
        before, now = BEFORE | stored, BEFORE | settings
        names = sorted(before.keys() | now.keys(), key=lambda name: (name not in FIRST, name))
        differing = [
            f"{name} (was {short_repr(before.get(name))}, is {short_repr(now.get(name))})"
            for name in names
            if before.get(name) != now.get(name)
        ]
        if differing:
            more = f" and {len(differing) - MOST_NAMED} more" if len(differing) > MOST_NAMED else ""
            raise UserError(
                f"study {study.study_name!r} is another search, which differs in {', '.join(differing[:MOST_NAMED])}"
                f"{more}; repeat its settings to continue it, or give another --study."
            )


def remember(study: "optuna.Study", settings: dict[str, Any]) -> None:
    """Store the settings in a study without settings, and compare them with those of other processes.

    A storage has no lock for that. Of processes that begin at once, each writes its settings before it reads those of
    all, so that at least one raises the error where they differ.

    Raises:
        UserError: as `check_same_study`.
    """
    own = f"{SETTINGS}{uuid4().hex}"
    first = not _remembered(study)
    if first:
        study.set_user_attr(own, settings)
    try:
        check_same_study(study, settings)
    except UserError:
        if first:
            study.set_user_attr(own, None)
        raise


def _remembered(study: "optuna.Study") -> list[dict[str, Any]]:
    return [settings for name, settings in study.user_attrs.items() if name.startswith(SETTINGS) and settings]

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
from ..validation import UserError
from .report import SearchResult, TrialRow
from .trials import REFUSALS, UNPRUNED, SearchTrainer, Trials, named

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
        check_same_study(study, self.settings)
        return study

    def train(self, study: "optuna.Study", source: Path) -> None:
        """Train what is missing of the study; a trial that cannot be trained counts as failed.

        Args:
            study: as `open` gives it.
            source: file of the search space.

        Raises:
            ValueError: for values that runs refuse, and where another process has just begun the study otherwise.
        """
        with heartbeat(self.trials.folder / ".processes") as process:
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


def search_result(study: "optuna.Study", trials: Trials) -> SearchResult:
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
    return SearchResult(rows, importance(study))


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


BEAT, SILENCE = 20, 120  # seconds between two signs of life of a trial, and until another machine holds it for dead


def open_storage(storage: str) -> "optuna.storages.BaseStorage":
    """A file `NAME.journal`, or a database.

    Raises:
        ValueError: where it cannot be opened.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if storage.endswith(".journal"):
            return _open_journal(Path(storage))
        if storage.startswith("sqlite:///"):
            return _open_sqlite(storage, Path(storage.removeprefix("sqlite:///")))
        return _open_database(storage)
    # of a journal's own, too, which is JSON
    except (SQLAlchemyError, ImportError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        kind = storage.split(":")[0]  # the whole may hold a password
        raise UserError(
            "expected --storage such as sqlite:///runs/search.db, a database's URL or a file NAME.journal, found one "
            f"of {kind!r} that cannot be opened ({type(error).__name__}); check the address and the database's driver."
        ) from error


def _open_journal(file: Path) -> "optuna.storages.BaseStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    check_place(file, "--storage")
    return JournalStorage(JournalFileBackend(str(file)))


def _open_sqlite(url: str, file: Path) -> "optuna.storages.BaseStorage":
    check_place(file, "--storage")  # where no lock can be made, FileLock would try for ever
    with FileLock(file.with_name(f".{file.name}.lock")):  # two at once would both create its tables
        return _open_database(url, engine_kwargs={"connect_args": {"timeout": SILENCE}})  # else 5 s for another writer


def _open_database(url: str, **options) -> "optuna.storages.BaseStorage":
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of the heartbeat
        return optuna.storages.RDBStorage(url, heartbeat_interval=BEAT, grace_period=SILENCE, **options)


@contextmanager
def heartbeat(folder: Path) -> Iterator[Path]:
    """A lock in a folder that this process holds as long as it lives; trials name it."""
    make_folder(folder)
    file = folder / f"{uuid4().hex}.lock"
    try:
        with FileLock(file):
            yield file
    finally:
        file.unlink(missing_ok=True)


def fail_dead_trials(study: "optuna.Study", processes: Path) -> None:
    """Give up trials that killed processes have left running.

    Of this output folder, they are known by their lock, at once; of other machines, by their heartbeat, which a
    journal has not.
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


SETTINGS = "settings "  # before the names under which a study keeps them
MOST_NAMED = 5  # differences that a refusal names, those first from which others follow
FIRST = ("model", "recipe", "data", "protocol", "fold", "task")


def study_settings(trials: Trials) -> dict[str, Any]:
    """Everything but where the processes run and find the clips, and what the trials choose anyway."""
    run, args = trials.candidates.run, trials.candidates.args
    places = {*VOLATILE, *(f.name for f in fields(CorpusArguments))}
    settings = {name: value for name, value in {**asdict(run), **args.to_dict()}.items() if name not in places}
    for key in trials.space:
        name, _, field = key.partition(".")
        chosen = settings.pop(name)
        if field:
            settings[name] = {own: value for own, value in (chosen or {}).items() if own != field}
    settings |= {"data": run.data, "clips": trials.prepared.digest, "fold": trials.fold.name}
    settings |= {f"space of {key}": str(dimension) for key, dimension in trials.space.items()}
    return json.loads(json.dumps(settings))  # as a storage gives them back


def check_same_study(study: "optuna.Study", settings: dict[str, Any]) -> None:
    """Refuse a study whose trials answer another question.

    Raises:
        ValueError: naming what differs.
    """
    remembered = _remembered(study)
    if study.trials and not remembered:
        raise UserError(f"study {study.study_name!r} was not made by recipes/search.py; give another --study.")
    for before in remembered:
        if differing := _differences(BEFORE | before, BEFORE | settings):
            more = f" and {len(differing) - MOST_NAMED} more" if len(differing) > MOST_NAMED else ""
            raise UserError(
                f"study {study.study_name!r} is another search, which differs in {', '.join(differing[:MOST_NAMED])}"
                f"{more}; repeat its settings to continue it, or give another --study."
            )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names = sorted(before.keys() | now.keys(), key=lambda name: (name not in FIRST, name))
    return [
        f"{name} (was {before.get(name)!r}, is {now.get(name)!r})"
        for name in names
        if before.get(name) != now.get(name)
    ]


def remember(study: "optuna.Study", settings: dict[str, Any]) -> None:
    """Keep the settings in a study that has none yet; compare them with those that it has got since it was opened.

    A storage has no lock for that. Of processes that begin at once, each writes its own before it reads those of all,
    so that where they differ, one at least refuses.

    Raises:
        ValueError: as `check_same_study`.
    """
    own = f"{SETTINGS}{uuid4().hex}"
    begins = not _remembered(study)
    if begins:
        study.set_user_attr(own, settings)
    try:
        check_same_study(study, settings)
    except UserError:
        if begins:
            study.set_user_attr(own, None)
        raise


def _remembered(study: "optuna.Study") -> list[dict[str, Any]]:
    return [settings for name, settings in study.user_attrs.items() if name.startswith(SETTINGS) and settings]

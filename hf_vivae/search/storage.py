"""Where a study is kept, and which of its trials are still being trained."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from filelock import FileLock, Timeout

from ..disk import check_place, make_folder
from ..validation import UserError

if TYPE_CHECKING:
    import optuna

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
def sign_of_life(folder: Path) -> Iterator[Path]:
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

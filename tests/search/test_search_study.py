"""Studies: what is pruned, what mattered, and how processes share and continue them; Ray as another engine."""

import json
import math
import multiprocessing
import os
import signal
import sqlite3

import optuna
import pytest
from searches import RECIPES, command, results, rows

from hf_vivae.search import trials
from hf_vivae.search.optuna_backend import fail_dead_trials, importance, open_storage, seeded_sampler
from hf_vivae.search.search import search
from hf_vivae.validation import UserError

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def argv(tiny_vivae, tmp_path):
    return command(tiny_vivae, tmp_path / "out")


def test_trials_differ_though_processes_have_one_seed():
    def first(numbers):
        study = optuna.create_study(sampler=seeded_sampler(42))
        asked = [study.ask().suggest_float("a", 0, 1) for _ in range(max(numbers) + 1)]
        return [asked[number] for number in numbers]

    assert first([0, 1, 2]) == first([0, 1, 2])
    assert len(set(first([0, 1, 2]))) == 3
    study = optuna.create_study(sampler=seeded_sampler(42))
    trial = study.ask()
    assert trial.suggest_float("a", 0, 1) != trial.suggest_float("b", 0, 1)


@pytest.mark.parametrize(("done", "state"), [(0.25, "pruned"), (0.24, "complete")])
def test_a_trial_is_pruned_below_the_worst_quarter_of_those_before(argv, tmp_path, monkeypatch, done, state):
    scores = iter([0.1, 0.2, 0.3, 0.4, 0.5, 0.25, 0.15])  # the quartiles of those before the last two: 0.2, 0.2125

    def train(self, name, values, report):
        score = next(scores)
        report(score, 1, done)
        return score

    monkeypatch.setattr(trials.Trials, "train", train)
    search([*argv, "--trials", "7"], RECIPES)
    assert [row["state"] for row in rows(tmp_path / "out")] == ["complete"] * 6 + [state]
    assert rows(tmp_path / "out")[-1]["score"] == ("" if state == "pruned" else "0.15")


def test_a_study_that_optuna_knows_otherwise_is_left_alone(argv, tmp_path):
    storage = f"sqlite:///{tmp_path / 'other.db'}"
    optuna.create_study(storage=storage, study_name="mine", direction="maximize").add_trial(
        optuna.trial.create_trial(value=0.5)
    )
    with pytest.raises(ValueError, match=r"study 'mine' was not made by recipes/search.py; give another --study"):
        search([*argv, "--storage", storage, "--study", "mine"], RECIPES)


def test_importance_is_that_of_what_moves_the_score():
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))

    def ask(score):
        trial = study.ask()
        moves, idle = trial.suggest_float("moves", 0, 1), trial.suggest_float("idle", 0, 1)
        study.tell(trial, score(moves) + 0 * idle)

    for _ in range(7):
        ask(lambda moves: moves)
    assert importance(study) is None
    for _ in range(13):
        ask(lambda moves: moves)
    ask(lambda moves: -math.inf)  # a trial whose every loss was no number
    shares = importance(study)
    assert shares["moves"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)


def in_another_process(argv, patched, at_end=lambda: None):
    """A search in a forked process, whose trials are trained by `patched(train, trials, name, values, report)`."""

    def work():
        train = trials.Trials.train
        trials.Trials.train = lambda *args: patched(train, *args)
        try:
            search(argv, RECIPES)
        finally:
            at_end()

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # of trials that no process trains
def test_a_trial_of_another_machine_is_given_up_without_its_heartbeat(tmp_path):
    file = tmp_path / "shared.db"
    study = optuna.create_study(storage=open_storage(f"sqlite:///{file}"))
    silent, alive = (trial._trial_id for trial in (study.ask(), study.ask()))
    for trial in (silent, alive):
        study._storage.record_heartbeat(trial)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = '2000-01-01' WHERE trial_id = ?", [silent])
    fail_dead_trials(study, tmp_path / ".processes")
    assert [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING"]


def test_a_killed_search_goes_on(argv, tmp_path):
    begun = multiprocessing.get_context("fork").Event()

    def stuck(train, shared, name, values, report):
        def wait(*reported):
            report(*reported)
            begun.set()
            signal.pause()

        return train(shared, name, values, wait if name == "1" else report)

    process = in_another_process(argv, stuck)
    while not begun.wait(0.1):
        assert process.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    search(argv, RECIPES)
    assert [row["state"] for row in rows(tmp_path / "out")] == ["complete", "failed", "complete", "complete"]


@pytest.mark.parametrize(
    "storage", ["{}/shared.journal", pytest.param("sqlite:///{}/shared.db", marks=pytest.mark.slow)]
)
def test_two_processes_share_one_study(argv, tmp_path, storage):
    both = multiprocessing.get_context("fork").Barrier(2)
    argv = [*argv, "--storage", storage.format(tmp_path), "--trials", "4"]

    def together(train, shared, name, values, report):
        if name in ("0", "1"):
            both.wait()  # so that each has one
        return train(shared, name, values, report)

    processes = [in_another_process(argv, together, both.abort) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    found = rows(tmp_path / "out")
    assert {row["state"] for row in found} == {"complete"}
    assert 4 <= len(found) <= 5  # two may begin a last one at the same moment
    assert len({row["learning_rate"] for row in found}) == len(found)
    assert not list((tmp_path / "out" / ".processes").iterdir())


@pytest.mark.slow
def test_ray_searches_on_one_machine(argv, tmp_path):
    report = search([*argv, "--backend", "ray", "--trials", "2"], RECIPES)
    found = rows(report.folder)
    assert len(found) == 2
    assert {row["state"] for row in found} <= {"complete", "pruned"}  # the worse of two may end early
    for row in (row for row in found if row["state"] == "complete"):
        history = (report.folder / "trials" / row["name"] / "history.jsonl").read_text().splitlines()
        scores = [entry["eval_uar"] for entry in map(json.loads, history) if "eval_uar" in entry]
        assert float(row["score"]) == max(scores)
        assert int(row["scorings"]) == len(scores) == 2
    assert results(report.folder)["best"]["score"] == max(float(row["score"]) for row in found if row["score"])
    assert report.recipe.is_file()
    with pytest.raises(ValueError, match="contains a search with Ray, which cannot be continued; give another"):
        search([*argv, "--backend", "ray"], RECIPES)


@pytest.mark.parametrize("content", [b"\xff\xfe bad\n", b"no json\nnone\n"])
def test_a_journal_that_is_none_is_refused(content, tmp_path):
    (tmp_path / "x.journal").write_bytes(content)
    with pytest.raises(UserError, match=r"^expected --storage such as .* that cannot be opened \("):
        open_storage(str(tmp_path / "x.journal"))

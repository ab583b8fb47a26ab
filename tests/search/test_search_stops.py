"""Searches that do not go as planned: trials that fail, Ctrl-C, and processes that begin one study differently."""

import logging
import shlex
import shutil
import subprocess
import sys
from functools import partial

import optuna
import pytest
from runner import flags
from searches import RECIPES, command, results, rows

from hf_vivae.cli_parser import run_script
from hf_vivae.search import optuna_backend as question
from hf_vivae.search import trials
from hf_vivae.search.report import BestRun
from hf_vivae.search.search import parse_search, search
from hf_vivae.training.recipes import parse_run

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def argv(tiny_vivae, tmp_path):
    return command(tiny_vivae, tmp_path / "out")


@pytest.fixture
def train(monkeypatch):
    """Sets what the trials of a search do in place of being trained, by their number: a score, or an error."""

    def patch(*planned):
        def train(self, name, values, report):
            if isinstance(planned[int(name)], BaseException):
                raise planned[int(name)]
            report(planned[int(name)], 1, 1.0)
            return planned[int(name)]

        monkeypatch.setattr(trials.Trials, "train", train)

    return patch


def test_a_trial_that_fails_is_named_with_its_reason_and_the_search_goes_on(argv, tmp_path, train):
    train(0.5, ValueError("16 clips are too many;\n use fewer."), ImportError("install it"), 0.25, 0.75)
    report = search(argv, RECIPES)
    assert results(tmp_path / "out")["trials"] == {"complete": 1, "failed": 2}
    assert [row["error"] for row in rows(tmp_path / "out")] == [
        "",
        "ValueError: 16 clips are too many; use fewer.",
        "ImportError: install it",
    ]
    assert "failed      trial 1: ValueError: 16 clips are too many; use fewer.\n" in report.text
    assert search(argv, RECIPES).best.score == 0.75  # one of the two that are missing


def test_a_search_whose_trials_all_fail_names_an_error(argv, tmp_path, train):
    train(*[RuntimeError("shapes do not fit")] * 3)
    with pytest.raises(ValueError, match=r"found none of 3 \(trial 0: RuntimeError: shapes do not fit\); change the"):
        search(argv, RECIPES)
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_what_an_interrupted_search_has_found_is_written_down(argv, tmp_path, train, error, caplog, monkeypatch):
    train(0.25, 0.5, error, 0.125)
    monkeypatch.setattr(logging.getLogger("optuna"), "handlers", [caplog.handler])
    with pytest.raises(type(error)) as caught:
        search(argv, RECIPES)
    assert results(tmp_path / "out")["trials"] == {"complete": 2, "failed": 1}
    assert "Results until then:\nsearched    3 trials (2 complete, 1 failed)" in caught.value.__notes__[0]
    assert not list((tmp_path / "out" / ".processes").iterdir())
    traces = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert traces == ([] if isinstance(error, KeyboardInterrupt) else [error])
    search(argv, RECIPES)
    assert results(tmp_path / "out")["trials"] == {"complete": 3, "failed": 1}


def ctrl_c(argv):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("main", "status", "message"),
    [
        (ctrl_c, 130, "interrupted\n"),
        (partial(parse_search, recipes=RECIPES), 1, "error: expected --trials of 1 or more, found 0; "),
    ],
)
def test_a_script_ends_with_the_results_and_without_a_traceback(monkeypatch, capsys, main, status, message):
    def noted(argv):
        try:
            main(argv)
        except BaseException as error:
            error.add_note("Results until then:\nnothing")
            raise

    monkeypatch.setattr("sys.argv", [str(RECIPES / "search.py"), "--trials", "0"])
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(SystemExit) as end:
        run_script(noted)
    assert end.value.code == status
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.endswith("\nResults until then:\nnothing\n")
    assert "Traceback" not in printed


def test_a_search_that_is_interrupted_in_its_first_trial_just_ends(argv, tmp_path, train):
    train(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        search(argv, RECIPES)
    assert not (tmp_path / "out" / "results.json").exists()


def test_the_lines_below_a_report_train_on_the_clips_of_the_search(argv, tmp_path, train, monkeypatch):
    train(0.5)
    recipes = tmp_path / "my recipes"
    shutil.copytree(RECIPES, recipes)
    monkeypatch.chdir(tmp_path)
    argv = [*argv, "--task", "intensity", "--seed", "7", "--output_dir", "some where", "--trials", "1", "--folds", "1"]
    text = search(argv, recipes).text
    *lines, last = text.partition("Use it:\n")[2].splitlines()
    subprocess.run("\n".join(lines), shell=True, check=True)
    searched, _ = parse_run(argv[: argv.index("--space")], RECIPES)
    run, args = parse_run(shlex.split(last)[2:], recipes)
    for name in ("model", "data", "data_dir", "allow_partial", "protocol"):
        assert getattr(run, name) == getattr(searched, name)
    assert (run.task, run.recipe, args.seed) == ("intensity", "found", 7)
    assert run.folds == [1]  # the test clips of others have trained or scored the trials
    assert (tmp_path / shlex.split(last)[1]).samefile(recipes / "train.py")  # from the folder of the other lines
    assert args.num_train_epochs == 2  # of the search's command line
    assert "task intensity, protocol leave-one-speaker-out" in text


def test_a_model_without_recipes_is_given_what_was_found_as_flags(tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPES.parent)
    argv = ["--model", "some/where", "--data", "folder", "--data_dir", "my clips", "--learning_rate", "3e-4"]
    argv += ["--augment", '{"gain_db": 6}', "--select_on", "none"]
    run, args = parse_run(argv, RECIPES)
    command = BestRun(run, args, {"warmup_steps": "0 to 0.3"}, None).command(tmp_path / "recipe.yaml", RECIPES)
    assert command.startswith("python recipes/train.py --model=some/where --data=folder ")
    assert "--warmup_steps=0" in command  # searched, although it is the default
    assert parse_run(shlex.split(command)[2:], RECIPES) == (run, args)


def test_a_password_of_an_address_is_not_in_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPES.parent)
    run, args = parse_run(["--model", "some/where", "--data_url", "https://anna:hunter2@host.org/a.zip?k=2"], RECIPES)
    command = BestRun(run, args, {}, None).command(tmp_path / "recipe.yaml", RECIPES)
    assert "--data_url=https://host.org/a.zip" in shlex.split(command)


def test_training_clips_that_no_trial_could_have_are_refused_before_the_first(argv, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("augment.mel_masks: {low: 0, high: 2}\n")
    with pytest.raises(ValueError, match=r"bad.yaml lets augment.mel_masks be 2, which is refused: .*"):
        search([*argv, "--space", str(file)], RECIPES)
    assert not (tmp_path / "out" / "trials").exists()


def test_a_name_that_the_library_does_not_know_is_refused_before_any_trial(tiny_vivae, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("model_config.hidden_act: {choices: [gelu, nosuch]}\n")
    argv = [*flags(tiny_vivae, tmp_path / "out", "wav2vec2"), "--space", str(file)]
    with pytest.raises(
        ValueError, match=r"lets model_config.hidden_act be 'nosuch', which is refused: .*KeyError: 'nosuch'"
    ):
        search(argv, RECIPES)


def test_a_study_that_two_begin_differently_is_refused_to_the_second():
    study = optuna.create_study()
    question.remember(study, {"epochs": 3})
    question.remember(study, {"epochs": 3})
    with pytest.raises(ValueError, match=r"differs in epochs \(was 3, is 4\); repeat"):
        question.remember(study, {"epochs": 4})  # which was opened before the first had written
    question.check_same_study(study, {"epochs": 3})


def test_of_two_that_begin_at_the_same_moment_one_at_least_is_refused(monkeypatch):
    study = optuna.create_study()
    write = optuna.Study.set_user_attr

    def both_write(self, name, value):
        write(self, name, value)
        write(self, f"{question.SETTINGS}of the other", {"epochs": 3})

    monkeypatch.setattr(optuna.Study, "set_user_attr", both_write)
    with pytest.raises(ValueError, match=r"differs in epochs \(was 3, is 4\)"):
        question.remember(study, {"epochs": 4})
    question.check_same_study(study, {"epochs": 3})  # the other goes on


def test_a_refusal_names_first_what_others_follow_from_and_not_all():
    study = optuna.create_study()
    question.remember(study, {"model": "mlp", **{f"a{number}": 1 for number in range(9)}})
    with pytest.raises(
        ValueError, match=r"in model \(was 'mlp', is 'vit'\), a0 .*, a3 \(was 1, is 2\) and 5 more; rep"
    ):
        question.check_same_study(study, {"model": "vit", **{f"a{number}": 2 for number in range(9)}})

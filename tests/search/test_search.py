"""Searches of a tiny model: what they see, what they keep, and what they refuse."""

import gc
import json
import logging
import math
import os
import shutil
from types import SimpleNamespace
from weakref import ref

import pytest
import yaml
from searches import RECIPES, SPACE, command, histories, losses, results, rows
from tiny import CONFIGS

from hf_vivae.search import search as arguments
from hf_vivae.search import trials
from hf_vivae.search.search import search
from hf_vivae.training.recipes import parse_run
from hf_vivae.training.run import train


@pytest.fixture
def argv(tiny_vivae, tmp_path):
    return command(tiny_vivae, tmp_path / "out")


@pytest.fixture(scope="module")
def searched(tiny_vivae, tmp_path_factory):
    """A search of 3 trials, and the trainer and features of each."""
    output, seen = tmp_path_factory.mktemp("search") / "out", []

    def spy(run, args, prepared, parts, setup, *more, **kwargs):
        trainer = build_trainer(run, args, prepared, parts, setup, *more, **kwargs)
        seen.append((trainer, setup.features, prepared.folds[0], dict(setup.model.config.to_dict())))
        return trainer

    build_trainer = trials.build_trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "build_trainer", spy)
        report = search(command(tiny_vivae, output), RECIPES)
    return report, seen


def test_no_trainer_of_a_search_is_given_a_test_clip(searched):
    _, seen = searched
    assert len(seen) == 4  # that of the library, and one of each trial
    for trainer, features, fold, _ in seen:
        clips = [clip.numpy().tobytes() for clip in features["input_values"][:]]
        tested = {clips[row] for row in fold.test}
        given = [dataset["input_values"][:] for dataset in (trainer.train_dataset, trainer.eval_dataset)]
        held = {clip.numpy().tobytes() for part in given for clip in part}
        assert held == {clips[row] for row in (*fold.train, *fold.validation)}
        assert tested
        assert not tested & held
        assert trainer._test_dataset is None


def test_a_trial_has_the_network_and_the_batches_that_were_suggested(searched):
    report, seen = searched
    for (trainer, _, _, config), row in zip(seen[1:], rows(report.folder), strict=True):
        assert str(config["hidden_sizes"]) == row["model_config.hidden_sizes"]
        assert trainer.args.per_device_train_batch_size == int(row["per_device_train_batch_size"])
        assert trainer.args.learning_rate == float(row["learning_rate"])
        assert trainer.optimizer.defaults["lr"] == float(row["learning_rate"])
    assert any(config["hidden_sizes"] != [16, 8] for *_, config in seen[1:])  # which is that of the command line


def test_the_weights_of_a_trial_that_fails_are_gone_before_the_next(argv, monkeypatch):
    build_trainer, models, alive = trials.build_trainer, [], []

    def spy(run, args, prepared, parts, setup, *more, **kwargs):
        alive.append(sum(model() is not None for model in models))
        models.append(ref(setup.model))
        return build_trainer(run, args, prepared, parts, setup, *more, **kwargs)

    def fail(trainer, folder):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(trials, "build_trainer", spy)
    monkeypatch.setattr(trials, "fit_model", fail)
    # pytest keeps what is logged, and with it the frames of each error
    monkeypatch.setattr(logging.getLogger("optuna.study._optimize"), "disabled", True)
    gc.disable()  # which else may come by
    try:
        with pytest.raises(ValueError, match="found none of 2"):
            search([*argv, "--trials", "2"], RECIPES)
    finally:
        gc.enable()
    assert alive == [0, 0, 0]  # before the trainer of the library, and before that of each trial


def test_the_score_of_a_trial_is_that_of_its_best_epoch(searched):
    folder = searched[0].folder
    best = [max(entry["eval_uar"] for entry in history if "eval_uar" in entry) for history in histories(folder)]
    assert [float(row["score"]) for row in rows(folder)] == best
    assert results(folder)["best"]["score"] == max(best)


def test_a_search_leaves_a_table_pictures_and_no_weights(searched):
    folder = searched[0].folder
    assert {"trials.csv", "results.json", "history.png", "values.png", "mlp.yaml", "study.db"} <= set(
        os.listdir(folder)
    )
    assert not [*folder.rglob("*.safetensors"), *folder.rglob("checkpoint-*")]
    found = results(folder)
    assert found["trials"] == {"complete": 3}
    assert found["score"] == "validation UAR"
    assert (found["data"], found["protocol"], found["fold"]) == ("vivae", "leave-one-speaker-out", "S01")
    assert found["space"]["learning_rate"] == {"low": 1e-4, "high": 1e-1, "log": True}
    assert f"{found['best']['score']:.4f}" in searched[0].text


def test_the_winners_recipe_repeats_its_validation_score(searched, tiny_vivae, tmp_path):
    report, found = searched[0], results(searched[0].folder)["best"]
    text = report.recipe.read_text()
    assert text.startswith("# Found by recipes/search.py from recipe tuned in 3 trials (3 complete) on\n# vivae clips")
    assert text.count("# searched: ") == 4
    assert "0.0001 to 0.1, log" in text
    recipe = yaml.safe_load(text)
    assert recipe["model_config"]["hidden_sizes"] == found["values"]["model_config.hidden_sizes"]
    assert not recipe.keys() & {"data", "data_dir", "protocol", "folds", "seed", "output_dir", "model"}
    recipes = report.folder.parent  # its folder is the name of the recipe
    argv = ["--model", "mlp", "--recipe", report.folder.name, "--data_dir", str(tiny_vivae), "--allow_partial"]
    argv += ["--protocol", "leave-one-speaker-out", "--folds", "0", "--output_dir", str(tmp_path / "run")]
    parsed, args = parse_run(argv, recipes)
    assert args.learning_rate == found["values"]["learning_rate"]
    train(parsed, args)
    history = next((tmp_path / "run").glob("*/history.jsonl")).read_text().splitlines()
    trial = histories(report.folder)[int(found["trial"])]
    assert losses(map(json.loads, history)) == losses(trial)
    scores = json.loads(next((tmp_path / "run").glob("*/results.json")).read_text())["validation"]
    assert scores["uar"] == found["score"]


def test_a_search_repeats_itself_and_goes_on(searched, argv, tmp_path):
    def same(row):
        return {key: value for key, value in row.items() if key != "seconds"}

    first = search(argv, RECIPES)
    before = [same(row) for row in rows(searched[0].folder)]
    assert [same(row) for row in rows(first.folder)] == before
    search([*argv, "--trials", "4"], RECIPES)
    assert [same(row) for row in rows(first.folder)][:3] == before
    assert results(first.folder)["trials"] == {"complete": 4}


def test_a_finished_search_trains_nothing_and_writes_its_report_again(searched, argv, tmp_path, monkeypatch):
    # what trials choose anyway is not compared
    argv = [*argv, "--learning_rate", "0.5", "--model_config", json.dumps({**CONFIGS["mlp"], "hidden_sizes": [7]})]
    shutil.copytree(searched[0].folder, tmp_path / "out")
    (tmp_path / "out" / "results.json").unlink()
    monkeypatch.setattr(trials, "build_trainer", None)
    search(argv, RECIPES)
    assert results(tmp_path / "out") == results(searched[0].folder)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (["--protocol", "random-80-20"], r"differs in .*protocol .was 'leave-one-speaker-out', is 'random-80-20'."),
        (["--num_train_epochs", "3"], r"differs in num_train_epochs \(was 2.0, is 3.0\); repeat its settings"),
        (["--folds", "1"], r"differs in fold \(was 'S01', is 'S02'\)"),
        (["--space", "other"], r"differs in space of learning_rate \(was '0.0001 to 0.1, log', is '0.01 to 0.1'\)"),
        (
            ["--model", "logistic-regression", "--model_config", "{}"],
            r"differs in .*model \(was 'mlp', is 'logistic-reg",
        ),
    ],
)
def test_a_study_of_another_search_is_refused_by_name(searched, argv, tmp_path, changed, sentence):
    if changed == ["--space", "other"]:
        other = tmp_path / "other.yaml"
        other.write_text(SPACE.replace("low: 1e-4, high: 1e-1, log: true", "low: 0.01, high: 0.1"))
        changed = ["--space", str(other)]
    if "logistic-regression" in changed:
        other = tmp_path / "other.yaml"
        other.write_text("normalization: {choices: [none, mean_std]}")
        changed = [*changed, "--space", str(other)]
    storage = ["--storage", f"sqlite:///{searched[0].folder / 'study.db'}"]
    name = ["--study", "vivae/tuned/mlp-leave-one-speaker-out-emotion-seed42"]
    with pytest.raises(ValueError, match=sentence):
        search([*argv, *storage, *name, *changed], RECIPES)


def test_a_configuration_that_the_model_refuses_is_refused_before_any_trial(argv, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("learning_rate: {low: 0.1, high: 0.2}\nmodel_config.hidden_dropout: {low: 0.0, high: 1.5}\n")
    with pytest.raises(ValueError, match=r"bad.yaml lets model_config.hidden_dropout be 1.5, which is refused: .*"):
        search([*argv, "--space", str(file)], RECIPES)
    file.write_text("model_config.hidden_dropuot: {low: 0.0, high: 0.5}\n")
    with pytest.raises(ValueError, match=r"which is refused: .*hidden_dropuot.*did you mean"):
        search([*argv, "--space", str(file)], RECIPES)
    assert not (tmp_path / "out" / "trials").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--select_on", "test"], "and never the test clips, found --select_on test; leave it out"),
        (["--watch_test", "true"], "and never the test clips, found --watch_test"),
        (["--trials", "0"], "expected --trials of 1 or more, found 0"),
        (["--backend", "ray", "--storage", "sqlite:///x.db"], "--storage is for Optuna, found --backend ray"),
        (["--resources_per_trial", '{"cpu": 1}'], "--resources_per_trial is for --backend ray, found --backend opt"),
        (["--storage", "nothing"], "found one of 'nothing' that cannot be opened"),
        (["--storage", "nosuch://user:secret@host/db"], "found one of 'nosuch' that cannot be opened"),
        (["--storage", "sqlite:////proc/x.db"], r"a folder to write to as --storage, found /proc \("),
        (["--storage", "/proc/x.journal"], r"a folder to write to as --storage, found /proc \("),
        (["--folds", "9"], "expected --folds between 0 and 3, found 9"),
        (["--folds", "0", "2"], "expected one number as --folds of a search, found 0 2; give the fold whose valid"),
        (["--learning_rat", "3"], r"unknown argument '--learning_rat' .did you mean --learning_rate"),
    ],
)
def test_what_a_search_has_no_use_for_is_refused(argv, more, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        search([*argv, *more], RECIPES)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("backend", "extra"), [("optuna", "search"), ("ray", "ray")])
def test_a_missing_engine_is_named_with_the_command_that_installs_it(argv, monkeypatch, backend, extra):
    monkeypatch.setattr(arguments, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=rf"needs {backend}, which is not installed; run `pip install 'hf_vivae\[{extra}"
    ):
        search([*argv, "--backend", backend], RECIPES)


@pytest.mark.parametrize(("best", "kept"), [(True, [0.25, 0.25, 0.25]), (False, [0.25, 0.125, -math.inf])])
def test_a_score_that_is_not_a_number_wins_nothing(argv, best, kept):
    _, args = parse_run(argv[: argv.index("--space")], RECIPES)
    reports = []
    score = trials.KeptScore(args, best, lambda *report: reports.append(report))
    for epoch, found in enumerate((math.nan, 0.25, 0.125, math.nan), start=1):
        score.on_evaluate(None, SimpleNamespace(global_step=5 * epoch, max_steps=20), None, {"eval_uar": found})
    assert reports == list(zip([-math.inf, *kept], [1, 2, 3, 4], [0.25, 0.5, 0.75, 1.0], strict=True))


def test_where_no_epoch_is_selected_the_last_one_is_scored(argv, tmp_path):
    report = search([*argv, "--select_on", "none", "--trials", "1", "--num_train_epochs", "3"], RECIPES)
    scores = [entry["eval_uar"] for entry in histories(report.folder)[0] if "eval_uar" in entry]
    assert len(scores) == 3
    assert report.best.score == scores[-1]
    recipe = yaml.safe_load(report.recipe.read_text())
    assert recipe["select_on"] == "none"  # the winner's run trains on the validation clips, too
    assert not recipe.keys() & {"do_eval", "eval_strategy", "load_best_model_at_end"}

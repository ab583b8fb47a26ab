"""Search spaces: read, refused with the line to correct, and turned into what Optuna and Ray choose out of."""

import json
import shutil

import optuna
import pytest
from encoders import write_encoder
from hypothesis import given
from hypothesis import strategies as st
from runner import ROOT

from hf_vivae.checkpoints.load import load_probe
from hf_vivae.models import MODELS
from hf_vivae.models.backbones import BACKBONES, recipe_file
from hf_vivae.search.search import parse_search, search
from hf_vivae.search.space import Choices, Range, read_space
from hf_vivae.search.trials import RunTemplate, reason
from hf_vivae.training.recipes import parse_run
from hf_vivae.validation import UserError

RECIPES = ROOT / "recipes"


def space(tmp_path, text):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return read_space(file)


def template(*argv):
    argv = ["--data", "synthetic", "--recipe", "tuned", *argv]
    return RunTemplate(argv, RECIPES, {}, *parse_run(argv, RECIPES))


def test_a_line_is_a_range_or_choices(tmp_path):
    read = space(
        tmp_path,
        "learning_rate: {low: 1e-6, high: 1E-3, log: true}\n"
        "num_train_epochs: {low: 2, high: 9}\n"
        "model_config.patch_size: {choices: [[32, 30], [16, 69]]}\n"
        "bf16: {choices: [true, false]}\n",
    )
    assert read == {
        "learning_rate": Range(1e-6, 1e-3, log=True),
        "num_train_epochs": Range(2, 9),
        "model_config.patch_size": Choices(([32, 30], [16, 69])),
        "bf16": Choices((True, False)),
    }


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a: 3", "expected a in .* to be written as .*, found 3; correct it"),
        ("a: {lo: 1, high: 2}", r"unknown key 'lo' \(did you mean low\?\); correct or remove it"),
        ("a: {low: 1}", "to have either low and high or choices, found low; correct it"),
        ("a: {low: 1, high: 2, choices: [1, 2]}", "either low and high or choices"),
        ("a: {low: one, high: 2}", "expected numbers as low and high of a in .*, found 'one'; list others as choices"),
        ("a: {low: true, high: 2}", "expected numbers .* found True"),
        ("a: {low: 0, high: .inf}", "expected numbers .* found inf"),
        ("a: {low: 2, high: 1}", "expected low below high of a in .*, found 2 and 1; swap or change them"),
        ("a: {low: 0, high: 1, log: true}", "expected low above 0 of a in .*, which is log, found 0; raise it"),
        (
            "a: {low: 0, high: 1}",
            "a in .* goes from 0 to 1, and whole ends .*; write 0.0 and 1.0 for all numbers betw",
        ),
        (
            "a: {low: 1, high: 99999999999999999999999}",
            r"whole numbers up to 2\*\*53 .* of a .*, found 99999999999999999999999;",
        ),
        ("a: {1: 2}", "unknown key 1"),
        ("a: {low: 1, high: 2, log: 10}", "expected true or false as log of a in .*, found 10"),
        ("a: {choices: [1]}", r"expected a in .* to list two choices at least, found \[1\]"),
        ("a: {choices: [1, 0, 2, 0]}", "expected a in .* to list different choices, found 0 twice; remove one"),
        ("a: {low: 1, high: 2}\na: {low: 1, high: 3}", "is not valid YAML .*'a' occurs twice.*line 1"),
        ("a: {low: 1, high: 2, low: 3}", "is not valid YAML .*'low' occurs twice"),
        ("a: {choices: [null, 1]}", "has the choice null, which stands for the default; write"),
        ("a: [", "is not valid YAML"),
        ("{}", "to contain lines such as .*, found none; add some"),
        ("# nothing", "expected `key: value` lines in .*, found NoneType; correct it"),
    ],
)
def test_a_line_without_a_range_is_refused(tmp_path, line, sentence):
    with pytest.raises(ValueError, match=sentence):
        space(tmp_path, line)


def test_a_space_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "space.yaml").write_bytes(b"a: \xff")
    with pytest.raises(UserError, match=r"^expected text in UTF-8, found none in .*space\.yaml .*; correct it"):
        read_space(tmp_path / "space.yaml")


@given(low=st.floats(1e-9, 1e3), factor=st.floats(1.01, 1e6), log=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_optuna_stays_in_a_range(low, factor, log, seed):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    dimension = Range(low, low * factor, log)
    assert low <= dimension.suggest(study.ask(), "a") <= low * factor


def test_optuna_and_ray_choose_whole_numbers_where_both_ends_are_whole():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    dimension = Range(1, 3)
    assert {dimension.suggest(study.ask(), "a") for _ in range(30)} == {1, 2, 3}
    assert {dimension.for_ray().sample() for _ in range(50)} == {1, 2, 3}


def test_lists_come_back_as_lists_from_optuna_and_ray():
    choices = Choices(([32, 30], [16, 69], "none"))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    suggested = [choices.suggest(study.ask(), "a") for _ in range(30)]
    assert all(value in suggested for value in choices.choices)
    assert all(choices.decode(choices.for_ray().sample()) in choices.choices for _ in range(10))


def test_values_become_flags_over_recipe_and_command_line():
    base = template("--model", "mlp", "--model_config", '{"hidden_dropout": 0.5}', "--weight_decay", "0.3")
    run, args = base.with_values({"learning_rate": 0.25, "model_config.hidden_sizes": [7], "normalization": "none"})
    assert run.model_config == {"hidden_sizes": [7], "hidden_dropout": 0.5}
    assert (args.learning_rate, args.weight_decay, run.normalization) == (0.25, 0.3, "none")
    assert args.metric_for_best_model == "loss"  # of the recipe


def test_a_share_of_warm_up_stays_a_share():
    # the library would make a whole number of it where the recipe's value is whole
    _, args = template("--model", "mlp", "--warmup_steps", "0").with_values({"warmup_steps": 0.25})
    assert args.warmup_steps == 0.25


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("learning_rat: {low: 1, high: 3}", r"unknown key 'learning_rat' \(did you mean learning_rate\?\)"),
        (
            "learning_rate: {low: -1.0, high: 1}",
            r"lets learning_rate be -1.0, which is refused: expected --learning_rate",
        ),
        (
            "normalization: {choices: [none, men_std]}",
            "lets normalization be 'men_std', which is refused: expected one of 'none', 'mean_std' as norm",
        ),
        (
            "num_train_epochs: {low: 0, high: 3}",
            "lets num_train_epochs be 0, which is refused: expected --num_train_e",
        ),
        ("seed: {low: 0, high: 9}", "has the key 'seed', which all trials have in common; give it as a flag"),
        ("select_on: {choices: [test, validation]}", "has the key 'select_on', which all trials have in common"),
        ("output_dir: {choices: [a, b]}", "has the key 'output_dir', which all trials have in common"),
        ("model_name_or_path: {choices: [a, b]}", "has the key 'model_name_or_path', which all trials have in common"),
        ("learning_rate.x: {low: 1, high: 3}", "has the key 'learning_rate.x', but learning_rate has no fields"),
        (
            "model_config.hidden_dropout: {low: 0.0, high: 0.5}\nmodel_config: {choices: [{}, {hidden_sizes: [8]}]}",
            "has both 'model_config' and 'model_config.hidden_dropout', which is a part of it; remove one of them",
        ),
    ],
)
def test_a_space_outside_a_flags_range_is_refused_in_the_flags_words(tmp_path, line, sentence):
    with pytest.raises(ValueError, match=sentence):
        template("--model", "mlp").check(space(tmp_path, line), tmp_path / "space.yaml")


@pytest.mark.parametrize("model", [*MODELS, "whisper-base", "encoder:some/where", "some/where", "probe:some/where"])
def test_each_model_has_a_space_that_fits_where_a_search_starts(model):
    file = recipe_file(RECIPES / "search", model)
    _, template = parse_search(["--model", model, "--data", "synthetic"], RECIPES)
    template.check(read_space(file), file)


def test_each_registered_model_has_a_space_and_none_is_searched_with_another_kinds(monkeypatch, tmp_path):
    assert all(recipe_file(RECIPES / "search", model).is_file() for model in (*MODELS, *BACKBONES))
    monkeypatch.setitem(MODELS, "cnn", MODELS["mlp"])
    recipes = shutil.copytree(RECIPES, tmp_path / "recipes")
    (recipes / "tuned" / "cnn.yaml").write_text("{}")
    with pytest.raises(UserError, match=r"expected a search space in .*search/cnn\.yaml, found no file; write it, or"):
        search(["--model", "cnn"], recipes)


@pytest.mark.parametrize(("kind", "depth"), [("whisper", 4), ("ast", 12), ("w2v-bert", 24)])
def test_the_space_of_probes_holds_for_encoders_of_any_depth(tmp_path, kind, depth):
    file = write_encoder(tmp_path, kind) / "config.json"
    config = json.loads(file.read_text())
    name = "encoder_layers" if kind == "whisper" else "num_hidden_layers"  # 4 are those of Whisper-tiny
    file.write_text(json.dumps({**config, name: depth}))
    for key, dimension in read_space(RECIPES / "search" / "probe.yaml").items():
        for value in dimension.edges:
            field = key.removeprefix("model_config.")
            settings = {"masked_mean": kind != "ast", field: value}
            model, _ = load_probe(tmp_path, {0: "a", 1: "b"}, settings, 2.0, from_scratch=True)
            assert (model.config.encoder.num_hidden_layers, getattr(model.config, field)) == (depth, value)


def test_the_space_of_a_model_is_its_own_or_that_of_its_kind():
    def space_of(model):
        return recipe_file(RECIPES / "search", model)

    assert space_of("wav2vec2").name == "wav2vec2.yaml"
    assert space_of("vit-base").name == "vit-base.yaml"
    assert space_of("vit-8-23").name == "vit.yaml"
    assert space_of("openai/whisper-base").name == "encoder.yaml"
    assert space_of("probe:openai/whisper-base").name == "probe.yaml"


@pytest.mark.parametrize(
    ("argv", "recipe"),
    [
        (["--model", "mlp"], "tuned"),
        (["--model", "whisper-base"], "tuned"),
        (["--model=mlp", "--recipe=paper"], "paper"),
        (["--model", "vit-32-30", "--recipe", "quick"], "quick"),
        (["--model", "mlp", "--as_coded", "full-scale"], "paper"),
        (["--model", "some/where"], "none"),
        (["--model", "probe:some/where"], "none"),
    ],
)
def test_a_search_starts_from_what_is_tuned_where_no_recipe_is_chosen(argv, recipe):
    assert parse_search(argv, RECIPES)[1].run.recipe == recipe


def test_a_reason_of_bearable_length_is_one_line():
    message = reason(ValueError("invalid choice\n  " + "one, two " * 1000))
    assert message.startswith("invalid choice one, two")
    assert message.endswith(" ...")
    assert len(message) <= 400

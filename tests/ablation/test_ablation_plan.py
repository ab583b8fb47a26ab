"""Plans of ablations: which settings each ingredient stands for, and what is refused before anything is trained."""

import json
from pathlib import Path

import pytest
import yaml
from ablations import INGREDIENTS, RECIPES, recipes
from hypothesis import given
from hypothesis import strategies as st

from hf_vivae.ablation.plan import (
    SPECTROGRAM_VITS,
    WHOLE,
    plan_ablation,
    plan_variants,
    read_ingredients,
)
from hf_vivae.models.backbones import recipe_file

TUNED_VIT = yaml.safe_load((RECIPES / "tuned" / "vit-32-30.yaml").read_text())
# the models of each file; encoders of waveforms share one, transformers on spectrograms another
VITS = ["vit-32-30", "vit-16-69", "vit-8-23", "vit-32-69"]
MODELS = {**dict.fromkeys(VITS, "vit"), "whisper-base": "whisper-base", "hubert-base": "encoder"}


def test_each_file_has_a_model():
    assert {file.stem for file in (RECIPES / "ablation").glob("*.yaml")} == set(MODELS.values())
    assert sorted(SPECTROGRAM_VITS) == sorted(VITS)


@pytest.mark.parametrize("model", MODELS)
def test_each_ingredient_that_comes_with_the_repository_changes_the_tuned_recipe(model):
    plan = plan_ablation(["--model", model], RECIPES)
    assert plan.idle == (["with patch 32-69"] if model == "vit-32-69" else [])
    assert [variant.name for variant in plan.variants] == [
        WHOLE, *(row for row in plan.ingredients.changes if row not in plan.idle)
    ]  # fmt: skip
    assert {variant.arguments.recipe for variant in plan.variants} == {"tuned"}
    assert {row.split()[0] for row in plan.ingredients.changes} == {"without", "with"}


@pytest.mark.parametrize("model", MODELS)
def test_each_line_of_a_tuned_recipe_is_taken_away_or_kept_for_a_reason(model):
    lines = keys(yaml.safe_load(recipe_file(RECIPES / "tuned", model).read_text()))
    found = read_ingredients(RECIPES, model)
    without = [keys(settings) for row, settings in found.changes.items() if row.startswith("without ")]
    assert lines - set().union(*without) == found.kept.keys()


def keys(settings: dict) -> set[str]:
    """Arguments, and fields of the model's configuration."""
    config = settings.get("model_config", {})
    return {*(settings.keys() - {"model_config"}), *(f"model_config.{field}" for field in config)}


def test_null_and_an_empty_list_take_lines_of_recipe_and_command_line_out():
    given = ["--model", "whisper-base", "--recipe", "tuned", "--lora_rank", "4", "--lora_targets", "q_proj"]
    changes = {"without it": {"head_learning_rate": None, "select_on": None, "augment": None, "lora_targets": []}}
    changes["without smoothing"] = {"label_smoothing_factor": None, "weight_decay": 0.5}
    given += ["--weight_decay", "1"]
    variants = plan_variants(given, {}, changes, [1], Path("out"), RECIPES)
    assert [
        (
            one.training.head_learning_rate,
            one.arguments.select_on,
            one.training.eval_strategy,
            one.arguments.lora_targets,
        )
        for one in variants
    ] == [(1e-3, "none", "no", ["q_proj"]), (None, "validation", "epoch", []), (1e-3, "none", "no", ["q_proj"])]
    assert [one.arguments.augment.get("time_masks") for one in variants] == [2, None, 2]
    assert variants[1].arguments.augment == {}
    assert [one.training.label_smoothing_factor for one in variants] == [0.1, 0.1, 0.0]
    assert [one.training.weight_decay for one in variants] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("name", ["trim_db", "greater_is_better", "lora_targets", "warmup_steps"])
def test_null_for_what_the_recipe_does_not_have_is_no_row(name):
    given = ["--model", "vit-32-30", "--recipe", "tuned", "--warmup_steps", "0"]
    assert [one.name for one in plan_variants(given, {}, {"without it": {name: None}}, [1], Path("out"), RECIPES)] == [
        WHOLE
    ]


def test_rows_that_change_nothing_are_not_trained(tmp_path):
    content = INGREDIENTS.replace("weight decay: {weight_decay: 0}", "weight decay: {weight_decay: 0.5}")
    plan = plan_ablation(["--model", "mlp", "--weight_decay", "0.5", "--seeds", "1", "2"], recipes(tmp_path, content))
    assert plan.idle == ["without weight decay"]
    assert [(one.name, one.training.seed) for one in plan.variants] == [
        (name, seed) for name in (WHOLE, "without normalization", "with a wider layer") for seed in (1, 2)
    ]


def test_recipes_but_tuned_can_be_taken_apart():
    plan = plan_ablation(["--model", "vit-32-30", "--recipe", "quick"], RECIPES)
    assert {variant.arguments.recipe for variant in plan.variants} == {"quick"}
    assert {"without label smoothing", "without weight decay"} <= set(plan.idle)
    assert "without normalization" not in plan.idle


def test_help_describes_the_script_and_lists_the_models(capsys):
    with pytest.raises(SystemExit):
        plan_ablation(["--help"], RECIPES)
    page = " ".join(capsys.readouterr().out.split())
    assert "the recipe without each of its ingredients and with each addition" in page
    assert all(model in page for model in MODELS)


def test_settings_win_over_flags_and_each_seed_has_a_run():
    given = ["--model", "vit-32-30", "--recipe", "tuned", "--model_config", '{"hidden_size": 96}', "--weight_decay=1"]
    changes = {"without decay": {"weight_decay": 0.0}, "with heads": {"model_config": {"num_attention_heads": 2}}}
    variants = plan_variants(given, {}, changes, [1, 2], Path("out"), RECIPES)
    assert [(one.name, one.training.seed, one.training.weight_decay) for one in variants] == [
        (WHOLE, 1, 1.0), (WHOLE, 2, 1.0), ("without decay", 1, 0.0), ("without decay", 2, 0.0), ("with heads", 1, 1.0),
        ("with heads", 2, 1.0),
    ]  # fmt: skip
    configs = [one.arguments.model_config for one in variants[::2]]
    recipe = TUNED_VIT["model_config"] | {"hidden_size": 96}
    assert configs == [recipe, recipe, {**recipe, "num_attention_heads": 2}]
    assert [str(one.folder) for one in variants[::2]] == [
        "out/runs/whole-recipe/seed1", "out/runs/without-decay/seed1", "out/runs/with-heads/seed1",
    ]  # fmt: skip
    assert all(str(one.folder) == one.training.output_dir for one in variants)


def test_the_default_folder_tells_what_is_ablated():
    plan = plan_ablation(["--model", "vit-32-30", "--recipe", "tuned", "--data", "synthetic", "--seeds", "3"], RECIPES)
    assert str(plan.output) == "runs/synthetic/ablation/tuned-vit-32-30-random-80-20-emotion"


def test_an_encoder_has_the_ingredients_of_all_encoders_unless_it_has_its_own():
    shared = read_ingredients(RECIPES, "hubert-base")
    for model in ("whisper-tiny", "encoder:openai/whisper-base", "encoder:some/folder"):
        assert read_ingredients(RECIPES, model) == shared
    assert read_ingredients(RECIPES, "whisper-base") != shared


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--model", "openai/whisper-base"], r"expected a named model or encoder:<id or folder>, which have recipes, "
         r"found --model openai/whisper-base \(did you mean whisper-base\?\); give one of these, such as "
         r"encoder:openai/whisper-base\.$"),
        (["--model", "probe:hubert-base"], r"found --model probe:hubert-base .*, such as encoder:hubert-base\.$"),
        ([], "expected --model, found none; give one of "),
        (["--model", "vit-base"], r"expected the ingredients of vit-base in .*/vit-base\.yaml, found no such file; "
         r"write it, or give one of vit-32-30, vit-16-69, vit-8-23, vit-32-69 or an encoder as --model\.$"),
        (["--model", "mlp", "--seeds", "1", "2", "1"], r"expected each of --seeds once, found 1 2 1; a seed gives"),
        (["--model", "mlp", "--config=run.json"], "changes a recipe, found --config, which repeats a run; give"),
    ],
)  # fmt: skip
def test_what_has_no_ingredients_is_refused(argv, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan_ablation(argv, RECIPES)


@pytest.mark.parametrize(
    ("content", "more", "sentence"),
    [
        (INGREDIENTS, ["--weight_decay", "0", "--ingredients", "weight decay"], r"expected ingredients that change "
         r"the recipe as it is trained, found that the settings of 'without weight decay' change nothing in "
         r"it; name others with --ingredients\.$"),
        (INGREDIENTS, ["--ingredients", "wait decay"], r"--ingredients to be one of normalization, weight decay, a "
         r"wider layer, found 'wait decay' \(did you mean weight decay\?\)\.$"),
        ("without: {decay: {weight_decai: 0}}", [], r"^unknown key 'weight_decai' \(did you mean weight_decay\?\); "
         r"correct or remove it \(the settings of 'without decay'\)\.$"),
        ("without: {decay: {weight_decay: much}}", [], r"^expected float as weight_decay, found 'much'; .* \(the"),
        ("without: {decay: {weight_decai: null}}", [], r"^unknown key 'weight_decai' \(did you mean weight_decay\?"),
        ("without: {layer: {model_config: null}}", [], r"expected fields of the model's configuration as model_config "
         r"in .*mlp\.yaml, found None in 'without layer'; give each field its value\.$"),
        ("without: {empty: {}}", [], r"the settings of 'without empty' change nothing in it;"),
        ("with: {another split: {num_groups: 3}}", [], r"expected ingredients in .*mlp\.yaml that leave clips, folds "
         r"and seeds as they are, found num_groups in 'with another split'; remove it\.$"),
        ("minus: {decay: {weight_decay: 0}}", [], r"expected .*mlp\.yaml to contain 'without' or 'with', and below "
         r"them ingredients with their settings, and reasons below 'kept', found \"{'minus': .*\"?; correct it\.$"),
        ("without: {decay: 0}", [], r"and below them ingredients with their settings, and reasons below 'kept', fo"),
        ("kept: {weight_decay: 3}", [], r"and reasons below 'kept', found \"{'kept': "),
        ("without", [], r"expected `key: value` lines in .*mlp\.yaml, found str; correct it\.$"),
        ("with: {a b: {warmup_steps: 2}, a-b: {weight_decay: 1}}", [], r"expected ingredients in .*mlp\.yaml with "
         r"different folders, found with-a-b for 'with a b' and 'with a-b'; rename one of them\.$"),
        ("without: [", [], r"mlp\.yaml is not valid YAML \(.*\); correct it\.$"),
    ],
)  # fmt: skip
def test_what_is_no_ingredient_is_refused(content, more, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        plan_ablation(["--model", "mlp", *more], recipes(tmp_path, content))


values = st.one_of(st.booleans(), st.floats(0, 1), st.integers(1, 9), st.sampled_from(["a", "1", "true"]), st.none())
config = st.dictionaries(st.sampled_from(["hidden_size", "dropout", "pooling"]), values, max_size=3)


@given(config, config)
def test_model_configs_are_merged_field_by_field(flag, settings):
    given = ["--model", "vit-32-30", "--recipe", "tuned", "--model_config", json.dumps(flag)]
    merged = {**TUNED_VIT["model_config"], **flag, **settings}
    changes = {"with it": {"model_config": settings, "weight_decay": 0.5}}
    assert plan_variants(given, {}, changes, [1], Path("out"), RECIPES)[1].arguments.model_config == merged

"""Plans of ablations: which settings each ingredient stands for, and what is refused before anything is trained."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from runner import ROOT

from hf_vivae.ablation_plan import default_folder, plan_ablation, plan_variants
from hf_vivae.evaluation.ablation_tables import WHOLE
from hf_vivae.ingredients import read_ingredients
from hf_vivae.parsing import parse_run

RECIPES = ROOT / "recipes"
INGREDIENTS = """
without:
  normalization: {normalization: none}
  weight decay: {weight_decay: 0}
with:
  a wider layer: {model_config: {hidden_sizes: [24, 8]}}
"""


def recipes(folder: Path, content: str, name: str = "mlp") -> Path:
    """The recipes, with ingredients for a model."""
    shutil.copytree(RECIPES, folder / "recipes")
    (folder / "recipes" / "ablation" / f"{name}.yaml").write_text(content)
    return folder / "recipes"


# a model for each file; encoders of waveforms share one
MODELS = {"vit-32-30": "vit-32-30", "whisper-base": "whisper-base", "encoder": "hubert-base"}
FILES = {file.stem for file in (RECIPES / "ablation").glob("*.yaml")}


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_ingredient_that_comes_with_the_repository_changes_the_tuned_recipe(name):
    plan = plan_ablation(["--model", MODELS[name]], RECIPES)
    assert [variant.name for variant in plan.variants] == [WHOLE, *plan.ingredients.changes]
    assert {variant.arguments.recipe for variant in plan.variants} == {"tuned"}
    assert {row.split()[0] for row in plan.ingredients.changes} == {"without", "with"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_line_of_a_tuned_recipe_is_taken_away_or_kept_for_a_reason(name):
    lines = keys(yaml.safe_load((RECIPES / "tuned" / f"{name}.yaml").read_text()))
    found = read_ingredients(RECIPES, MODELS[name])
    without = [keys(settings) for row, settings in found.changes.items() if row.startswith("without ")]
    assert lines - set().union(*without) == found.kept.keys()


def keys(settings: dict) -> set[str]:
    """Arguments, and fields of the model's configuration."""
    config = settings.get("model_config", {})
    return {*(settings.keys() - {"model_config"}), *(f"model_config.{field}" for field in config)}


def test_what_is_absent_by_default_is_taken_away_with_null():
    given = ["--model", "mlp", "--max_steps", "9", "--run_name", "one", "--data_seed", "5"]
    changes = {"without a name": {"run_name": None, "max_steps": 3}}
    variants = plan_variants(given, changes, [1], Path("out"), RECIPES)
    assert [(one.training.run_name, one.training.max_steps) for one in variants] == [("one", 9), (None, 3)]


def test_settings_win_over_flags_and_each_seed_has_a_run():
    given = ["--model", "vit-32-30", "--recipe", "tuned", "--model_config", '{"hidden_size": 96}', "--weight_decay=1"]
    changes = {"without decay": {"weight_decay": 0.0}, "with heads": {"model_config": {"num_attention_heads": 2}}}
    variants = plan_variants(given, changes, [1, 2], Path("out"), RECIPES)
    assert [(one.name, one.training.seed, one.training.weight_decay) for one in variants] == [
        (WHOLE, 1, 1.0), (WHOLE, 2, 1.0), ("without decay", 1, 0.0), ("without decay", 2, 0.0), ("with heads", 1, 1.0),
        ("with heads", 2, 1.0),
    ]  # fmt: skip
    configs = [one.arguments.model_config for one in variants[::2]]
    recipe = {"patch_size": [32, 30], "hidden_size": 96}
    assert configs == [recipe, recipe, {**recipe, "num_attention_heads": 2}]
    assert [str(one.folder) for one in variants[::2]] == [
        "out/runs/whole-recipe/seed1", "out/runs/without-decay/seed1", "out/runs/with-heads/seed1",
    ]  # fmt: skip
    assert all(str(one.folder) == one.training.output_dir for one in variants)


def test_the_default_folder_tells_what_is_ablated():
    run, _ = parse_run(["--model", "vit-32-30", "--recipe", "tuned", "--data", "synthetic", "--seed", "3"], RECIPES)
    assert str(default_folder(run)) == "runs/synthetic/ablation/tuned-vit-32-30-random-80-20-emotion"


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
        (["--model", "vit-8-23"], r"expected the ingredients of vit-8-23 in .*/vit-8-23\.yaml, found no such file"),
        (["--model", "mlp", "--config=run.json"], "takes a recipe apart, found --config, which repeats a run; give"),
    ],
)  # fmt: skip
def test_what_has_no_ingredients_is_refused(argv, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan_ablation(argv, RECIPES)


@pytest.mark.parametrize(
    ("content", "more", "sentence"),
    [
        (INGREDIENTS, ["--weight_decay", "0"], r"expected ingredients that change the recipe as it is trained, found "
         r"that the settings of 'without weight decay' change nothing in it; name others with --ingredients\.$"),
        (INGREDIENTS, ["--ingredients", "wait decay"], r"--ingredients to be one of normalization, weight decay, a "
         r"wider layer, found 'wait decay' \(did you mean weight decay\?\)\.$"),
        ("without: {decay: {weight_decai: 0}}", [], r"unknown argument '--weight_decai' \(did you mean --weight_decay"
         r"\?\); see --help for all of them \(the settings of 'without decay'\)\.$"),
        ("without: {decay: {weight_decay: much}}", [], r"invalid float value: 'much'; .* \(the settings of 'without"),
        ("without: {decay: {weight_decay: null}}", [], r"expected null only for arguments that are absent by default, "
         r"found weight_decay in 'without decay'; give it a value\.$"),
        ("without: {empty: {}}", [], r"the settings of 'without empty' change nothing in it;"),
        ("with: {another split: {num_groups: 3}}", [], r"expected ingredients in .*mlp\.yaml that leave clips, folds "
         r"and seeds as they are, found num_groups in 'with another split'; remove it\.$"),
        ("minus: {decay: {weight_decay: 0}}", [], r"expected .*mlp\.yaml to hold 'without' or 'with', and below them "
         r"ingredients with their settings, and reasons below 'kept', found \"{'minus': .*\"?; mend it\.$"),
        ("without: {decay: 0}", [], r"and below them ingredients with their settings, and reasons below 'kept', fo"),
        ("kept: {weight_decay: 3}", [], r"and reasons below 'kept', found \"{'kept': "),
        ("without", [], r"and reasons below 'kept', found 'without'; mend it\.$"),
        ("with: {a b: {warmup_steps: 2}, a-b: {weight_decay: 1}}", [], r"expected ingredients in .*mlp\.yaml whose "
         r"folders have names of their own, found with-a-b for 'with a b' and 'with a-b'; rename one of them\.$"),
        ("without: [", [], r"mlp\.yaml is not valid YAML \(.*\); mend it\.$"),
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
    merged = {"patch_size": [32, 30], **flag, **settings}
    changes = {"with it": {"model_config": settings, "weight_decay": 0.5}}
    assert plan_variants(given, changes, [1], Path("out"), RECIPES)[1].arguments.model_config == merged

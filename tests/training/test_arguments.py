"""Configuration in one hop: defaults, recipe, command line; and what is misspelt."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from hf_vivae.models import MODELS, build_config
from hf_vivae.models.encoder import EncoderConfig
from hf_vivae.models.probe import ProbeConfig
from hf_vivae.training.arguments import DataArguments, ModelArguments, RunArguments, VivaeTrainingArguments
from hf_vivae.training.recipes import GROUPS, NO_RECIPES, parse_run
from hf_vivae.validation import UserError

FLAGS = {field.name for field in fields(VivaeTrainingArguments)}
CHECKPOINTING = next(name for name in ("activation_checkpointing", "gradient_checkpointing") if name in FLAGS)
RECIPES = Path(__file__).parents[2] / "recipes"


def parse(*argv: str):
    return parse_run(list(argv), RECIPES)


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_the_defaults():
    _, args = parse("--model", "mlp", "--num_train_epochs", "7")
    assert args.num_train_epochs == 7
    assert (args.learning_rate, args.weight_decay, args.adam_l2) == (2e-5, 1e-6, True)
    assert VivaeTrainingArguments(output_dir="unused").learning_rate == 5e-5


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_papers_recipe_and_it_fits_the_model(name):
    run, args = parse("--model", name)
    assert (run.recipe, run.data, run.protocol) == ("paper", "vivae", "random-80-20")
    build_config(name, **run.model_config)
    assert args.metric_for_best_model == "accuracy"


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("vit-") and name != "vit-base"])
def test_the_name_of_a_vit_is_its_patch(name):
    run, _ = parse("--model", name)
    assert run.model_config["patch_size"] == [int(part) for part in name.split("-")[1:]]


def test_a_recipe_is_named_after_its_model():
    assert {path.stem for path in RECIPES.glob("paper/*")} == set(MODELS)
    assert {path.stem for path in RECIPES.glob("tuned/*")} >= {*MODELS, "encoder"}
    for path in (path for path in RECIPES.glob("*/*.yaml") if path.parent.name not in ("as_coded", *NO_RECIPES)):
        kind = path.stem if path.stem in ("probe", "encoder") else None
        run, _ = parse("--model", f"{kind}:some/encoder" if kind else path.stem, "--recipe", path.parent.name)
        if path.stem in MODELS:
            build_config(path.stem, **run.model_config)
        else:
            (ProbeConfig if kind == "probe" else EncoderConfig)(**run.model_config)


def test_an_encoder_without_a_recipe_of_its_own_shares_one():
    run, args = parse("--model", "wavlm-large")
    assert (run.recipe, args.head_learning_rate) == ("tuned", 1e-3)
    again, _ = parse("--model", "encoder:some/encoder")
    assert (again.recipe, again.augment) == (run.recipe, run.augment)


def test_a_folder_is_split_by_speakers_by_default():
    assert parse("--model", "mlp", "--data", "folder")[0].protocol == "speaker-k-fold"
    assert parse("--model", "mlp", "--data", "folder", "--protocol", "random-80-20")[0].protocol == "random-80-20"


def test_the_name_of_a_run_folder_describes_the_run():
    _, args = parse("--model", "some/where/else", "--data", "synthetic", "--seed", "3")
    assert args.output_dir == "runs/synthetic/none/else-random-80-20-emotion-seed3"
    _, args = parse("--model", "probe:some/where/else", "--recipe", "arch")
    assert args.output_dir == "runs/vivae/arch/probe-else-leave-one-speaker-out-emotion-seed42"
    _, args = parse("--model", "mlp", "--protocol", "speaker-k-fold", "--num_groups", "3")
    assert args.output_dir == "runs/vivae/paper/mlp-speaker-k-fold-of-3-emotion-seed42"


def test_a_models_configuration_is_given_as_json_over_the_recipes():
    run, _ = parse("--model", "mlp", "--model_config", '{"hidden_sizes": [4]}')
    assert run.model_config == {"num_samples": 44100, "hidden_sizes": [4], "hidden_dropout": 0.25}


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--model", "mlp", "--learning_rat", "1"], r"argument '--learning_rat' \(did you mean --learning_rate\?\)"),
        (["--model", "mlp", "--learning-rat=1"], r"argument '--learning-rat' \(did you mean --learning_rate\?\)"),
        (["--data", "synthetic"], "expected --model, found none; give one of logistic-regression, mlp"),
        (["--model", "mlp", "--num_groups", "3"], "expected --num_groups only with a protocol of speaker-k-fold"),
        (["--model", "probe:"], "expected --model, found 'probe:' without an encoder; give one of logistic"),
        (
            ["--model", "mlp", "--recipe", "papper"],
            r"out of arch, as_coded, paper, quick, tuned, found 'papper' \(did you mean paper\?\)",
        ),
        (["--model", "org/other", "--recipe", "paper"], r"recipe 'paper' has no org/other.yaml; leave --recipe out"),
        (["--model", "mlp", "--model_config", "{"], r"expected JSON in --model_config, found '\{'"),
        (["--model", "mlp", "--model_config", "[" * 9999], r"expected JSON in --model_config, .*\(maximum recursion"),
        (["--model", "mlp", "--model_config", '{"a": NaN}'], r"expected JSON in --model_config, .*\(NaN is not a"),
        (["--model", "mlp", "--model_config", "[1]"], "expected a JSON object in --model_config, found list"),
        (
            ["--model", "vit-base", "--from_scratch", "--model_name_or_path", "x"],
            "--from_scratch and --model_name_or_path exclude each other",
        ),
        (["--model", "mlp", "--normalization", "meanstd"], "argument --normalization: invalid choice: 'meanstd'"),
        (["--model", "mlp", "--num_train_epochs", "0"], "expected --num_train_epochs above 0, found 0"),
        (["--model", "mlp", "--learning_rate", "nan"], "expected --learning_rate above 0, found nan"),
        (["--model", "mlp", "--max_seconds", "2"], "--max_seconds is for encoders of the library, found --model mlp"),
        (["--model", "a/b", "--max_seconds", "0"], "expected --max_seconds above 0, found 0"),
        (["--model", "mlp", "--optim", "sgd"], "--adam_l2 and --optim sgd exclude each other; add --adam_l2 false"),
        (["--model", "mlp", "--lr_scheduler_type", "cosine"], "--lr_decay_epochs replaces --lr_scheduler_type"),
        (["--model", "mlp", "--lr_decay_epochs", "-1"], "expected --lr_decay_epochs of 0 or more, found -1"),
        (["--model", "mlp", "--lr_decay_steps", "50"], "--lr_decay_epochs and --lr_decay_steps exclude each other"),
        (
            ["--model", "wav2vec2", "--label_smoothing_factor", "0.1"],
            "--label_smoothing_factor is for cross entropy, found --loss ctc; leave out one of the two.",
        ),
        (
            ["--model", "mlp", "--as_coded", "redrawn-splitt"],
            r"expected --as_coded out of .*, found 'redrawn-splitt' \(did you mean redrawn-split\?\); correct it.",
        ),
        (
            ["--model", "mlp", "--as_coded", "no-resampling"],
            "the deviation no-resampling concerns wav2vec2, found --model mlp; leave it out.",
        ),
        (
            ["--model", "mlp", "--recipe", "tuned", "--as_coded", "redrawn-split"],
            "the deviations of recipes/as_coded change the recipe paper of .*, found --recipe tuned and --model mlp;",
        ),
        (["--model", "mlp", "--config", "x", "--as_coded", "one-split"], "and deviations; leave out --as_coded"),
        (["--model", "mlp", "--metric_for_best_model", "uarr"], r"found 'uarr' \(did you mean uar\?\)"),
        (["--model", "mlp", "--protocol", "random-80"], r"found 'random-80' \(did you mean random-80-20\?\)"),
        (["--model", "mlp", "--resume_from_checkpoint", "x"], "a run resumes by itself, found --resume_from"),
        (["--model", "mlp", "--model_config", '{"num_labels": 3}'], "are those of --task, found num_labels"),
        (["--model", "mlp", "--config", "x", "--recipe", "paper"], "--config repeats a run with its recipe"),
        (["--config", "absent.json"], "expected the run.json of a run, found no file absent.json"),
        (
            ["--model", "wav2vec2", "--augment", '{"mixup": 0.2}'],
            "--loss ctc takes one label for each clip, found mixup in --augment; leave out one of the two.",
        ),
        (["--model", "mlp", "--augment", '{"probability": 1}'], "found probability alone; add one of gain_db, noise"),
        *(
            (
                ["--model", "probe:a/b", f"--{flag}", value],
                f"expected only arguments of a probe, found --{flag};",
            )
            for flag, value in (
                ("optim", "sgd"),
                ("lr_scheduler_type", "cosine"),
                (CHECKPOINTING, "true"),
                ("per_device_train_batch_size", "4"),
                ("gradient_accumulation_steps", "2"),
            )
        ),
        *(
            (
                ["--model", model, "--select_on", "none", f"--{flag}", value],
                f"no clips that are scored while training, found --{flag}; leave it out, or add --sel",
            )
            for model in ("mlp", "whisper-base")
            for flag, value in (
                ("eval_strategy", "epoch"),
                ("load_best_model_at_end", "true"),
                ("do_eval", "true"),
                ("eval_on_start", "true"),
                ("watch_test", "true"),
                ("early_stopping_patience", "2"),
            )
        ),
        (["--model", "probe:a/b", "--select_on", "none"], "no clips that select the regularisation of a probe or of"),
    ],
)  # fmt: skip
def test_what_is_misspelt_or_missing_is_named(argv, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse(*argv)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lerning_rate: 1e-5", r"^unknown key 'lerning_rate' in mine/mlp.yaml \(did you mean learning_rate\?\); corr"),
        ("- 1", "expected `key: value` lines in .*, found list"),
        ("a: [", "is not valid YAML"),
        ("normalization: meanstd", "^expected one of 'none', 'mean_std' as normalization in mine/mlp.yaml, found 'm"),
        ("seed: 1.5", "^expected int as seed in mine/mlp.yaml, found 1.5; correct it.$"),
        ("seed: true", "^expected int as seed in mine/mlp.yaml, found True; correct it.$"),
        ("learning_rate: true", "^expected float as learning_rate in mine/mlp.yaml, found True; correct it.$"),
        ("learning_rate: 1e-5x", "^expected float as learning_rate in mine/mlp.yaml, found '1e-5x'; correct it.$"),
        ("adam_l2: [true]", r"^expected bool as adam_l2 in mine/mlp.yaml, found \[True\]; correct it.$"),
        ("folds: [a]", r"^expected int as folds in mine/mlp.yaml, found \['a'\]; correct it.$"),
        ("model_config: 3", "^expected dict or str as model_config in mine/mlp.yaml, found 3; correct it.$"),
    ],
)
def test_a_misspelt_recipe_is_named(text, sentence, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mlp.yaml").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        parse_run(["--model", "mlp", "--recipe", "mine"], tmp_path)


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mlp.yaml").write_text("learning_rate: 5e-4")  # YAML 1.1 wants 5.0e-4
    _, args = parse_run(["--model", "mlp", "--recipe", "mine"], tmp_path)
    assert args.learning_rate == 5e-4


def test_overrides_win_over_recipe_and_command_line():
    argv = ["--model", "wav2vec2", "--learning_rate", "1", "--folds", "0", "--model_config", '{"hidden_size": 96}']
    run, args = parse_run(argv, RECIPES)
    assert (args.learning_rate, args.loss, run.folds) == (1.0, "ctc", [0])
    overrides = {"model": "mlp", "learning_rate": None, "folds": None, "max_grad_norm": None, "adam_l2": False}
    overrides |= {"model_config": {"hidden_sizes": [4], "hidden_size": 3}, "lr_decay_epochs": 0}
    run, args = parse_run(argv, RECIPES, overrides)
    assert (run.model, run.recipe, run.folds) == ("mlp", "paper", None)
    assert run.model_config == {"num_samples": 44100, "hidden_sizes": [4], "hidden_dropout": 0.25, "hidden_size": 3}
    default = VivaeTrainingArguments(output_dir="unused")
    assert (args.learning_rate, args.max_grad_norm) == (default.learning_rate, default.max_grad_norm)
    assert (args.weight_decay, args.adam_l2, args.num_train_epochs) == (1e-6, False, 100)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"lerning_rate": 1.0}, r"^unknown key 'lerning_rate' \(did you mean learning_rate\?\); corr"),
        ({"seed": "7"}, "^expected int as seed, found '7'; correct it.$"),
        ({"select_on": "none", "eval_on_start": True}, "no clips that are scored while training, found --eval_on"),
        ({"select_on": "none", "eval_strategy": "epoch"}, "no clips that are scored while training, found --eval_str"),
    ],
)
def test_overrides_that_do_not_fit_are_refused(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_run(["--model", "mlp"], RECIPES, overrides)


def test_a_list_in_a_record_is_the_same_list(tmp_path):
    record = {"run": {"model": "mlp"}, "training": {"report_to": ["none"], "include_for_metrics": ["loss", "inputs"]}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    _, args = parse("--config", str(tmp_path / "run.json"))
    assert (args.report_to, args.include_for_metrics) == ([], ["loss", "inputs"])


def test_each_group_of_arguments_can_be_taken_alone():
    assert DataArguments(data="folder", data_dir="x").protocol == "speaker-k-fold"
    assert ModelArguments(model="vit-32-30").augment == {}
    with pytest.raises(UserError, match="expected --task to be one of"):
        DataArguments(task="mood")
    with pytest.raises(UserError, match="expected --freeze none"):
        ModelArguments(model="whisper-base", freeze="some")
    with pytest.raises(UserError, match="expected --trim_db"):
        RunArguments(model="mlp", trim_margin=0.1)


def test_help_is_short_in_groups_and_complete_on_demand(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    short = capsys.readouterr().out
    assert len(short.splitlines()) <= 100
    assert max(map(len, short.splitlines())) <= 100
    assert re.findall(r"^(\S.*):$", short, re.MULTILINE) == [group.title for group in GROUPS]
    with pytest.raises(SystemExit):
        parse("--help_all")
    complete = capsys.readouterr().out
    assert all(f"--{name}" in complete for name in FLAGS)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.title)
def test_the_example_of_a_group_is_a_run(group):
    assert any(f"--{name} " in group.example for name in group.names)
    parse(*group.example.split())


def test_a_run_is_repeated_from_its_record(tmp_path):
    run, args = parse("--model", "vit-16-69", "--data", "synthetic", "--seed", "5", "--folds", "0")
    record = {"run": vars(run), "training": args.to_dict()}
    (tmp_path / "run.json").write_text(json.dumps(record))
    again, args_again = parse("--config", str(tmp_path / "run.json"), "--output_dir", str(tmp_path / "again"))
    assert again == run
    assert args_again.to_dict() | {"output_dir": ""} == args.to_dict() | {"output_dir": ""}
    assert parse("--config", str(tmp_path / "run.json"), "--seed", "6")[1].seed == 6


def test_without_clips_that_select_nothing_is_evaluated_and_the_flags_for_it_are_taken():
    explicit = ["--eval_strategy", "no", "--load_best_model_at_end", "false", "--do_eval", "false"]
    for argv in (["--select_on", "none"], ["--select_on", "none", *explicit]):
        _, args = parse("--model", "mlp", *argv)
        assert (args.do_eval, args.eval_strategy, args.load_best_model_at_end) == (False, "no", False)


@pytest.mark.parametrize(("before", "now"), [("none", "validation"), ("validation", "none")])
def test_a_run_is_repeated_with_other_clips_that_select(before, now, tmp_path):
    run, args = parse("--model", "mlp", "--select_on", before)
    (tmp_path / "run.json").write_text(json.dumps({"run": vars(run), "training": args.to_dict()}))
    again, args_again = parse("--config", str(tmp_path / "run.json"), "--select_on", now)
    expected, args_expected = parse("--model", "mlp", "--select_on", now)
    assert again == expected
    assert args_again.to_dict() == args_expected.to_dict()


class TestConsentToExecuteCode:
    def test_is_not_taken_from_a_run_json(self, tmp_path):
        file = tmp_path / "run.json"
        file.write_text(json.dumps({"run": {"model": "evil", "trust_remote_code": True}, "training": {}}))
        with pytest.raises(UserError, match=r"expected consent .* on the command line, found it in .*run\.json"):
            parse("--config", str(file))
        assert parse("--config", str(file), "--trust_remote_code")[0].trust_remote_code
        assert not parse("--config", str(file), "--trust_remote_code", "false")[0].trust_remote_code

    def test_is_not_smuggled_in_as_another_arguments_value(self, tmp_path):
        file = tmp_path / "run.json"
        smuggled = {"lora_targets": ["q_proj", "--trust_remote_code"], "lora_rank": 4}
        file.write_text(json.dumps({"run": {"model": "encoder:evil", **smuggled}, "training": {}}))
        run, _ = parse("--config", str(file))
        assert run.lora_targets == ["q_proj", "--trust_remote_code"]
        assert not run.trust_remote_code

    def test_is_not_taken_from_a_recipe(self, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "mlp.yaml").write_text("trust_remote_code: true\n")
        with pytest.raises(UserError, match=r"found it in mine/mlp\.yaml"):
            parse_run(["--model", "mlp", "--recipe", "mine"], tmp_path)


def test_every_own_argument_is_explained():
    fields = RunArguments.__dataclass_fields__.values()
    assert [f.name for f in fields if not f.metadata.get("help")] == []

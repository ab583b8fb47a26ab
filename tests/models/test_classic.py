"""Classic features: functionals of openSMILE, the linear model of them, and its run, checkpoint and card."""

import json
import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_publications import publish
from runner import ROOT, flags, run
from tiny import clips
from transformers import pipeline

import hf_vivae
from hf_vivae.features.cache import decode_batch
from hf_vivae.hub.model_card import render_card
from hf_vivae.models import CLASSIC, MODELS, build_feature_extractor, build_model, features_opensmile
from hf_vivae.models.backbones import recipe_file
from hf_vivae.models.features_opensmile import OpenSmileFeatureExtractor
from hf_vivae.models.functionals import FunctionalsConfig, FunctionalsForAudioClassification
from hf_vivae.reproduction.plan import StudyArguments
from hf_vivae.run_folder import read_predictions
from hf_vivae.search.search import parse_search
from hf_vivae.search.space import read_space
from hf_vivae.training.linear import STRENGTHS_OF_FUNCTIONALS
from hf_vivae.training.recipes import parse_run
from hf_vivae.validation import UserError
from hf_vivae_cli.doctor import check_packages

RATE, RECIPES = 16000, ROOT / "recipes"
REAL = Path(__file__).parents[3] / "shared" / "real"
needs_opensmile = pytest.mark.skipif(
    find_spec("opensmile") is None, reason="opensmile (extra classic) is not installed"
)
WITHOUT_OPENSMILE = r", found none; pip install 'hf_vivae\[classic\]' \(its licence permits no commercial use\)\.$"


def functionals(sounds, name: str = "egemaps") -> np.ndarray:
    return build_feature_extractor(name)(sounds, sampling_rate=RATE)["input_values"]


def classic_flags(corpus: Path, output: Path, *more: str) -> list[str]:
    argv = flags(corpus, output, "mlp")
    argv[argv.index("mlp")] = "egemaps"
    for flag in ("--model_config", "--num_train_epochs", "--learning_rate", "--per_device_train_batch_size"):
        place = argv.index(flag)
        del argv[place : place + 2]
    return [*argv, *more]


@needs_opensmile
@pytest.mark.parametrize(("name", "count"), [("egemaps", 88), ("compare16", 6373)])
def test_functionals_are_those_of_opensmile_and_fit_the_model(name, count):
    import opensmile

    sounds = clips(RATE)
    extractor = build_feature_extractor(name)
    smile = opensmile.Smile(opensmile.FeatureSet[extractor.feature_set], opensmile.FeatureLevel.Functionals)
    expected = np.concatenate([smile.process_signal(sound, RATE).to_numpy() for sound in sounds])
    batch = extractor(sounds, sampling_rate=RATE, return_tensors="pt")
    assert batch["input_values"].shape == (3, count)
    np.testing.assert_array_equal(batch["input_values"], expected)
    np.testing.assert_array_equal(functionals(sounds[1], name), expected[1:2])
    assert build_model(name)(**batch).logits.shape == (3, 6)


@needs_opensmile
def test_samples_above_full_scale_are_clipped_and_do_not_wrap_around():
    tone = np.sin(np.arange(RATE) / 9).astype(np.float32)
    np.testing.assert_array_equal(functionals(3 * tone), functionals((3 * tone).clip(-1, 1 - 2**-15)))


@needs_opensmile
def test_functionals_of_silence_and_of_the_shortest_clips_are_finite():
    sound = clips(RATE)[0]
    short = [np.zeros(RATE, np.float32), sound[:1], sound[:400], sound[:959]]
    assert np.isfinite(functionals(short)).all()
    assert np.isfinite(functionals(short, "compare16")).all()
    np.testing.assert_array_equal(functionals(sound[:400]), functionals(np.pad(sound[:400], 280)))


@needs_opensmile
def test_silence_is_trimmed_first():
    sound = clips(RATE)[0]
    extractor = OpenSmileFeatureExtractor(trim_db=40, trim_margin=0)
    padded = np.pad(sound, RATE // 2)
    np.testing.assert_array_equal(
        extractor(padded, sampling_rate=RATE)["input_values"], functionals(extractor.trim(padded))
    )
    assert len(extractor.trim(padded)) < len(sound) + RATE // 10


def test_impossible_features_are_a_sentence():
    with pytest.raises(ValueError, match=r"^expected feature_set out of eGeMAPSv02, ComParE_2016, found 'eGeMAPS'"):
        OpenSmileFeatureExtractor("eGeMAPS")
    with pytest.raises(ValueError, match=r"^OpenSmileFeatureExtractor expects audio at 16000 Hz, found 44100 Hz; "):
        OpenSmileFeatureExtractor()(clips(RATE), sampling_rate=44100)
    with pytest.raises(ValueError, match=r"^expected inverse_regularization above 0, found 0; leave it out"):
        FunctionalsConfig(inverse_regularization=0)


def test_functionals_are_standardised():
    model = FunctionalsForAudioClassification(FunctionalsConfig(num_features=2, num_labels=2))
    model.mean.copy_(torch.tensor([100.0, 1.0]))
    model.std.copy_(torch.tensor([10.0, 0.5]))
    model.classifier.weight.data = torch.eye(2)
    model.classifier.bias.data.zero_()
    assert model(torch.tensor([[120.0, 0.5]])).logits.tolist() == [[2.0, -1.0]]


def test_without_opensmile_a_training_ends_before_clips_are_read(monkeypatch):
    monkeypatch.setattr("hf_vivae.models.find_spec", lambda name: None)
    with pytest.raises(UserError, match="^expected opensmile, which --model egemaps needs" + WITHOUT_OPENSMILE):
        parse_run(["--model", "egemaps", "--data_dir", "absent"], RECIPES)


def test_without_opensmile_a_checkpoint_is_refused_and_code_of_the_hub_names_the_package(tmp_path, monkeypatch):
    build_model("egemaps").save_pretrained(tmp_path)
    build_feature_extractor("egemaps").save_pretrained(tmp_path)
    monkeypatch.setattr("hf_vivae.models.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=f"^expected opensmile, which the checkpoint {tmp_path} needs" + WITHOUT_OPENSMILE
    ):
        hf_vivae.load_classifier(tmp_path)
    monkeypatch.setitem(sys.modules, "opensmile", None)
    features_opensmile._load_smile.cache_clear()
    extractor = build_feature_extractor("egemaps")
    with pytest.raises(ValueError, match=r"^expected the package opensmile, .* pip install opensmile \(its licence"):
        extractor(clips(RATE), sampling_rate=RATE)


def test_the_doctor_names_the_extra_and_the_command_that_needs_it(monkeypatch):
    def absent(name):
        raise PackageNotFoundError

    monkeypatch.setattr("hf_vivae_cli.doctor.requires", lambda name: ["opensmile>=2.6; extra == 'classic'"])
    monkeypatch.setattr("hf_vivae_cli.doctor.version", absent)
    (finding,) = check_packages()
    assert finding.value == "not installed, which hf-vivae train --model egemaps needs: hf_vivae[classic]"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--num_train_epochs", "7"], "^expected only arguments of a model that scikit-learn solves, found --num_tr"),
        (["--normalization", "mean_std"], "^expected only arguments of a model .*, found --normalization; "),
        (["--augment", '{"mixup": 0.2}'], "^expected only arguments of a model .*, found --augment; "),
        (["--from_scratch"], "^expected only arguments of a model .*, found --from_scratch; "),
        (["--model_name_or_path", "a/b"], "^expected only arguments of a model .*, found --model_name_or_path; "),
        (["--lora_rank", "8"], "with --lora_rank, found --model egemaps; leave out --lora_rank"),
        (["--max_seconds", "3"], "^--max_seconds is for encoders of the library, found --model egemaps; leave it out"),
        (["--scale", "full_scale"], "^--scale is for this package's extractors of waveforms and .* --model egemaps"),
        (["--select_on", "none"], "^--select_on none leaves no clips that select .* classic features, .* egemaps"),
        (["--recipe", "paper"], r"^expected the recipe .*paper/classic\.yaml, found none; choose another"),
        (["--as_coded", "one-split"], "^the deviations of recipes/as_coded .* --model egemaps; leave out --as_coded"),
    ],
)  # fmt: skip
def test_arguments_without_effect_on_classic_features_are_refused(monkeypatch, argv, sentence):
    monkeypatch.setattr("hf_vivae.training.argument_checks.check_opensmile", lambda model: None)
    with pytest.raises(UserError, match=sentence):
        parse_run(["--model", "egemaps", *argv], RECIPES)


def test_classic_models_are_none_of_the_paper_and_their_misspelt_names_are_corrected():
    assert not CLASSIC.keys() & MODELS.keys()
    with pytest.raises(UserError, match=r"^expected --models to be one of logistic-regression, .*'egemaps'"):
        StudyArguments(models=["egemaps"])
    with pytest.raises(UserError, match=r"'egemap' \(did you mean egemaps\?\)"):
        build_model("egemap")


def test_readme_names_the_classic_models_with_their_parameters():
    readme = (ROOT / "README.md").read_text()
    for name in CLASSIC:
        assert f"`{name}`" in readme
        assert f"{build_model(name).num_parameters():,}" in readme


@needs_opensmile
@pytest.mark.parametrize("name", CLASSIC)
def test_the_space_of_a_search_fits(name):
    file = recipe_file(RECIPES / "search", name)
    _, template = parse_search(["--model", name, "--data", "synthetic"], RECIPES)
    template.check(read_space(file), file)


@pytest.fixture(scope="module")
def trained(tiny_vivae, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classic") / "run"
    run(classic_flags(tiny_vivae, folder))
    return folder / "S01"


@needs_opensmile
def test_the_strength_is_selected_on_validation_clips_and_the_weights_are_those_of_scikit_learn(trained, tiny_vivae):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    history = [json.loads(line) for line in (trained / "history.jsonl").read_text().splitlines()]
    assert [entry["inverse_regularization"] for entry in history] == list(STRENGTHS_OF_FUNCTIONALS)
    strength = min(history, key=lambda entry: entry["eval_loss"])["inverse_regularization"]
    selection = json.loads((trained / "results.json").read_text())["selection"]
    assert selection == {"on": "validation", "metric": "loss", "inverse_regularization": strength, "refit": True}
    rows = hf_vivae.corpus.read_vivae(tiny_vivae, allow_partial=True).dataset
    features, labels = functionals(decode_batch(rows[:], RATE)), np.array(rows["emotion"])
    tested = np.array(rows["speaker"]) == "S01"
    solver = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    expected = solver.fit(features[~tested], labels[~tested]).decision_function(features[tested])
    predictions = {row["file"]: row["logits"] for row in read_predictions(trained) if row["split"] == "test"}
    logits = np.array([predictions[file] for file in np.array(rows["file"])[tested]])
    np.testing.assert_allclose(logits, expected, atol=2e-3)


@needs_opensmile
def test_the_checkpoint_gives_the_predictions_of_its_run(trained, tiny_vivae):
    rows = [row for row in read_predictions(trained) if row["split"] == "test"][:3]
    classify = pipeline("audio-classification", str(trained), top_k=None)
    for row in rows:
        file = tiny_vivae / "full_set" / row["file"]
        samples, rate = hf_vivae.audio.load(str(file), RATE)
        probabilities = torch.tensor(row["logits"]).softmax(-1).tolist()
        expected = dict(zip(hf_vivae.EMOTIONS, probabilities, strict=True))
        for scores in (
            classify({"array": samples, "sampling_rate": rate}),
            hf_vivae.load_classifier(trained)(str(file)),
        ):
            assert {score["label"]: score["score"] for score in scores} == pytest.approx(expected, abs=1e-5)


@needs_opensmile
def test_the_checkpoint_has_its_code(trained):
    assert {"functionals.py", "features_opensmile.py"} <= {path.name for path in trained.glob("*.py")}
    config, extractor = (
        json.loads((trained / f"{name}.json").read_text()) for name in ("config", "preprocessor_config")
    )
    assert config["auto_map"]["AutoModelForAudioClassification"] == "functionals.FunctionalsForAudioClassification"
    assert extractor["auto_map"]["AutoFeatureExtractor"] == "features_opensmile.OpenSmileFeatureExtractor"
    assert extractor["feature_set"] == "eGeMAPSv02"


@pytest.mark.parametrize(("name", "text"), [("egemaps", "parameter set eGeMAPSv02"), ("compare16", "ComParE")])
def test_the_card_states_that_opensmile_permits_no_commercial_use(tmp_path, name, text):
    card = render_card(ROOT / "model_cards", "someone/classic", publish(tmp_path, name, "folder", count=36))
    assert text in card
    assert "soundfile opensmile` (openSMILE computes the features; its licence permits no commercial use)" in card
    assert "**No commercial use**: the features are computed by the package opensmile" in card
    assert "With the package hf_vivae[classic] installed" in card
    other = render_card(ROOT / "model_cards", "someone/mlp", publish(tmp_path / "mlp", "mlp", "folder", count=36))
    assert "opensmile" not in other


@pytest.mark.slow
@pytest.mark.real
@needs_opensmile
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the recordings of {REAL} are absent")
def test_egemaps_on_real_vocalisations_is_near_its_reference(tmp_path):
    data = REAL / "nonverbal_vocalization" / "dataset"
    argv = ["--model", "egemaps", "--data", "folder", "--data_dir", str(data), "--speaker_pattern", "^([^_]+)_"]
    results = run([*argv, "--protocol", "speaker-k-fold", "--output_dir", str(tmp_path), "--disable_tqdm", "true"])
    assert results["test"]["uar"] > 0.58  # the reference, with C = 1 on another five folds, has 60.0 %

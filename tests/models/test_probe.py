"""Linear probes: averaged frames, selection on validation clips, saved weights, and scores of a reference."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from encoders import ENCODERS, RATE, SECONDS, WAVEFORM, write_encoders
from runner import flags, run
from tiny import clips, model_inputs
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

import hf_vivae
from hf_vivae.checkpoints.load import load_probe
from hf_vivae.evaluation.open_set import evaluate_open_set
from hf_vivae.features.cache import build_embeddings
from hf_vivae.inference.scorer import Scorer
from hf_vivae.models.hidden_states import hidden_states
from hf_vivae.models.probe import ProbeConfig, ProbeForAudioClassification
from hf_vivae.run_folder import read_predictions

REAL = Path(__file__).parents[3] / "shared" / "real"


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, Path]:
    """A folder with random weights for each kind of encoder."""
    return write_encoders(tmp_path_factory.mktemp("encoders"))


def probe(folder: Path, **config):
    return load_probe(folder, {0: "a", 1: "b"}, config, SECONDS)


def embed(model, extractor, sounds) -> torch.Tensor:
    return model.embed(**model_inputs(extractor, sounds, SECONDS))


@pytest.mark.parametrize(
    ("name", "masked"), [*((name, True) for name in ENCODERS if name != "ast"),
                         *((name, False) for name in ENCODERS if name != "w2v-bert")]
)  # fmt: skip
def test_an_embedding_depends_on_its_own_clip_only_and_is_the_same_in_a_pipeline(encoders, name, masked):
    model, extractor = probe(encoders[name], masked_mean=masked)
    sounds = clips(RATE)
    together = embed(model, extractor, sounds)  # (clips, states, width)
    assert together.shape == (3, 3, 16)
    assert together.std() > 0.1
    for sound, embedding in zip(sounds, together, strict=True):
        torch.testing.assert_close(embed(model, extractor, [sound])[0], embedding, atol=1e-5, rtol=1e-4)
        alone = extractor(sound, sampling_rate=RATE, return_tensors="pt")  # as pipeline calls it
        torch.testing.assert_close(model.embed(**alone)[0], embedding, atol=1e-5, rtol=1e-4)


def test_the_distance_is_that_from_the_mean_of_the_training_clips_in_their_deviations(encoders):
    model, extractor = probe(encoders["whisper"])
    sounds = clips(RATE)
    states = embed(model, extractor, sounds)
    usual = model.select_layer(states).mean(dim=0)
    model.mean.copy_(usual)
    model.std.copy_(torch.full_like(usual, 0.5))
    expected = ((model.select_layer(states) - usual) / 0.5).square().mean(dim=1).sqrt()
    for outputs in (model(**model_inputs(extractor, sounds, SECONDS)), model(embeddings=states)):
        torch.testing.assert_close(outputs.distance, expected, atol=1e-4, rtol=1e-3)
    assert (expected > 0).all()


@pytest.mark.parametrize("name", ["group norm", "layer norm", "whisper"])
def test_the_masked_mean_is_that_of_the_frames_of_the_clip(encoders, name):
    model, extractor = probe(encoders[name])
    sound = clips(RATE)[0]
    if name == "whisper":
        sound = np.resize(sound, int(SECONDS * RATE))  # the one length that the library's forward takes
        inputs = extractor(sound, sampling_rate=RATE, return_tensors="pt", return_attention_mask=None)
        states = model.encoder(**inputs, output_hidden_states=True).hidden_states
        frames = states[0].shape[1]
    else:
        inputs = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
        states = model.encoder(torch.as_tensor(inputs)[None], output_hidden_states=True).hidden_states
        frames = states[0].shape[1]
    expected = torch.stack([state[0, :frames].mean(0) for state in states])
    torch.testing.assert_close(embed(model, extractor, [sound])[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_padding_moves_only_the_unmasked_mean(encoders, masked):
    found = []
    for seconds in (SECONDS, 5.0):
        model, extractor = load_probe(encoders["layer norm"], {0: "a", 1: "b"}, {"masked_mean": masked}, seconds)
        found.append(model.embed(**model_inputs(extractor, clips(RATE)[:1], seconds)))
    difference = (found[0] - found[1]).abs().max()
    assert difference < 1e-5 if masked else difference > 0.05


@pytest.mark.parametrize("name", ENCODERS)
def test_embeddings_of_a_corpus_are_those_of_its_clips(encoders, tiny_vivae, name):
    corpus = hf_vivae.corpus.read_vivae(tiny_vivae, allow_partial=True).dataset.select(range(3))
    model, extractor = probe(encoders[name], masked_mean=name != "ast")
    found = build_embeddings(corpus, extractor, model, SECONDS).with_format("torch")["embeddings"][:]
    sounds = [hf_vivae.audio.load(source, RATE)[0] for source in corpus["audio"]]
    torch.testing.assert_close(torch.as_tensor(found), embed(model, extractor, sounds), atol=1e-5, rtol=1e-4)


def test_layers():
    config = ProbeConfig({"model_type": "wav2vec2", **WAVEFORM}, layer=-1, num_labels=2)
    embeddings = torch.arange(12.0).reshape(1, 3, 4)
    model = ProbeForAudioClassification(config)
    assert model.select_layer(embeddings).tolist() == [[8, 9, 10, 11]]
    config.layer = 0
    assert model.select_layer(embeddings).tolist() == [[0, 1, 2, 3]]
    config.layer = None
    assert model.select_layer(embeddings).tolist() == [[4, 5, 6, 7]]
    config.layer = [2, 0]
    assert model.select_layer(embeddings).tolist() == [[8, 9, 10, 11, 0, 1, 2, 3]]


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_mean_and_deviation_are_those_of_the_frames_of_the_clip(encoders, masked):
    settings = {"pooling": "mean_std", "masked_mean": masked, "layer": [0, 2]}
    model, extractor = load_probe(encoders["layer norm"], {0: "a", 1: "b"}, settings, SECONDS)
    inputs = model_inputs(extractor, clips(RATE)[:1], SECONDS)
    states, mask = hidden_states(
        model.encoder, inputs["attention_mask"] if masked else None, input_values=inputs["input_values"]
    )
    frames = torch.stack([state[0, : int(mask.sum()) if masked else None] for state in states])
    expected = torch.cat((frames.mean(dim=1), frames.std(dim=1, correction=0)), dim=1)
    embeddings = model.embed(**inputs)
    torch.testing.assert_close(embeddings[0], expected, atol=1e-5, rtol=1e-4)
    assert model.classifier.in_features == model.select_layer(embeddings).shape[1] == 2 * 2 * 16


@pytest.mark.parametrize(
    ("name", "config", "sentence"),
    [
        ("whisper", {"layer": 3}, "expected a layer from -3 to 2 of whisper, found 3; give one of them"),
        ("whisper", {"layer": "last"}, "expected a layer from -3 to 2 of whisper, found 'last'; give one of them"),
        ("whisper", {"layer": [1, 3]}, r"expected a layer from -3 to 2 of whisper, found \[1, 3\]; give one of them"),
        ("whisper", {"layer": []}, r"expected a layer from -3 to 2 of whisper, found \[\]; give one of them"),
        ("whisper", {"pooling": "max"}, "expected pooling mean or mean_std, found 'max'; give one of them"),
        ("whisper", {"inverse_regularization": -1}, "expected inverse_regularization above 0, found -1; leave it out"),
        ("ast", {}, "expected an encoder whose tokens are frames, found audio-spectrogram-transformer"),
        ("w2v-bert", {"masked_mean": False}, r"expected masked_mean of an encoder .* \(w2v-BERT\), found false"),
        ("whisper", {"layers": 3}, r"a probe has no field 'layers' \(did you mean layer\?\); correct or"),
    ],
)
def test_an_impossible_probe_is_a_sentence(encoders, name, config, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}|.*{sentence}"):
        probe(encoders[name], **config)


def test_weights_that_the_checkpoint_lacks_are_not_made_up(encoders, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(encoders["whisper"] / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if "layers.1.fc1" not in name},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((encoders["whisper"] / name).read_text())
    with pytest.raises(ValueError, match=r"found none of 2 \(first: encoder.layers.1.fc1.bias\)"):
        probe(tmp_path)


@pytest.fixture(scope="module")
def trained(tiny_vivae, encoders, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("probe") / "run"
    run(probe_flags(tiny_vivae, encoders["whisper"], folder))
    return folder / "S01"


def probe_flags(corpus: Path, encoder: Path, output: Path, *more: str) -> list[str]:
    given = flags(corpus, output, "mlp")
    given[given.index("--model") + 1] = f"probe:{encoder}"
    for flag in ("--model_config", "--num_train_epochs", "--learning_rate"):
        place = given.index(flag)
        given = [*given[:place], *given[place + 2 :]]
    return [*given, *more]


def test_a_run_folder_is_that_of_any_model_and_records_the_selection(trained):
    results = json.loads((trained / "results.json").read_text())
    chosen = results["selection"]
    assert (chosen["on"], chosen["metric"]) == ("validation", "loss")
    history = [json.loads(line) for line in (trained / "history.jsonl").read_text().splitlines()]
    best = min(history, key=lambda entry: entry["eval_loss"])
    assert chosen["inverse_regularization"] == best["inverse_regularization"]
    # predicted before the refit on them, and not with the weights of the checkpoint
    assert results["validation"]["loss"] == pytest.approx(best["eval_loss"])
    assert results["test"]["n"] == 12


def test_the_checkpoint_gives_the_predictions_of_its_run(trained, tiny_vivae):
    rows = [row for row in read_predictions(trained) if row["split"] == "test"][:3]
    classify = pipeline("audio-classification", str(trained), top_k=None)
    names = {name: place for place, name in enumerate(hf_vivae.corpus.EMOTIONS)}
    for row in rows:
        sound, rate = hf_vivae.audio.load(str(tiny_vivae / "full_set" / row["file"]))
        scores = {found["label"]: found["score"] for found in classify({"array": sound, "sampling_rate": rate})}
        assert sorted(scores) == sorted(names)
        probabilities = torch.tensor(row["logits"]).softmax(-1).tolist()
        expected = {name: probabilities[place] for name, place in names.items()}
        assert scores == pytest.approx(expected, abs=4e-4)  # pipeline resamples otherwise


def test_the_checkpoint_carries_its_code(trained):
    assert {"probe.py", "features_whisper.py"} <= {path.name for path in trained.glob("*.py")}
    config = json.loads((trained / "config.json").read_text())
    assert config["auto_map"]["AutoModelForAudioClassification"] == "probe.ProbeForAudioClassification"
    extractor = json.loads((trained / "preprocessor_config.json").read_text())
    assert extractor["auto_map"]["AutoFeatureExtractor"] == "features_whisper.MaskedWhisperFeatureExtractor"


def test_embeddings_of_all_layers_are_computed_once(tiny_vivae, encoders, trained, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the encoder ran again")

    monkeypatch.setattr("hf_vivae.models.probe.hidden_states", refuse)
    results = run(probe_flags(tiny_vivae, encoders["whisper"], tmp_path, "--model_config", '{"layer": 1}'))
    assert results["test"]["n"] == 12


def test_a_fixed_strength_is_not_chosen(tiny_vivae, encoders, trained, tmp_path):
    run(probe_flags(tiny_vivae, encoders["whisper"], tmp_path, "--model_config", '{"inverse_regularization": 0.5}'))
    results = json.loads((tmp_path / "S01" / "results.json").read_text())
    assert results["selection"] is None
    assert json.loads((tmp_path / "S01" / "config.json").read_text())["inverse_regularization"] == 0.5


@pytest.mark.parametrize(
    "argv", [["--normalization", "mean_std"], ["--num_train_epochs", "7"], ["--watch_test"], ["--eval_dropout"]]
)
def test_arguments_without_effect_on_a_probe_are_refused(tiny_vivae, encoders, tmp_path, argv):
    with pytest.raises(ValueError, match=f"^expected only arguments of a probe, found {argv[0]};"):
        run(probe_flags(tiny_vivae, encoders["whisper"], tmp_path, *argv))


def test_a_probe_of_another_model_than_an_encoder_is_refused(trained, tiny_vivae, tmp_path):
    with pytest.raises(ValueError, match=r"^expected one of the library's encoders .* found 'vivae_probe' in"):
        run(probe_flags(tiny_vivae, trained, tmp_path))
    argv = probe_flags(tiny_vivae, trained, tmp_path)
    argv[argv.index("--model") + 1] = str(trained)
    with pytest.raises(ValueError, match=r"^expected a checkpoint to train further, found .*, whose encoder is"):
        run(argv)


def test_an_encoder_fine_tuned_by_this_package_is_probed_with_a_mask(encoders, tiny_vivae, tmp_path):
    argv = probe_flags(tiny_vivae, encoders["group norm"], tmp_path, "--num_train_epochs", "1")
    argv[argv.index("--model") + 1] = str(encoders["group norm"])
    run(argv)
    model, extractor = probe(tmp_path / "S01")
    assert type(extractor).__name__ == "Wav2Vec2FeatureExtractor"
    sounds = clips(RATE)
    torch.testing.assert_close(
        embed(model, extractor, sounds)[0], embed(model, extractor, sounds[:1])[0], atol=1e-5, rtol=1e-4
    )


def test_a_probe_rejects_by_its_distance_from_the_training_clips(tiny_vivae, encoders, tmp_path):
    run(probe_flags(tiny_vivae, encoders["whisper"], tmp_path / "run", "--reject_rate", "0.2"))
    folder = tmp_path / "run" / "S01"
    open_set = json.loads((folder / "config.json").read_text())["open_set"]
    assert (open_set["score"], open_set["rate"]) == ("distance", 0.2)
    tested = [row for row in read_predictions(folder) if row["split"] == "test"]
    scorer = Scorer(str(folder), device="cpu")
    assert scorer.labels[-1] == "unknown"
    for row, scores in zip(
        tested, scorer.score([tiny_vivae / "full_set" / row["file"] for row in tested]), strict=True
    ):
        assert abs(row["distance"] - open_set["threshold"]) < 1e-3 or (
            (row["distance"] > open_set["threshold"]) == (scores.argmax() == scorer.unknown)
        )
    noise = np.random.default_rng(0).normal(0, 0.1, (4, RATE))
    (tmp_path / "hiss").mkdir()
    for number, samples in enumerate(noise):
        soundfile.write(tmp_path / "hiss" / f"{number}.wav", samples, RATE)
    table = evaluate_open_set([folder], [tmp_path / "hiss"])
    (cells,) = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (cells["rejects by"], cells["unknown clips"]) == ("distance", 4)
    assert cells["known rejected"] == np.mean([row["distance"] > open_set["threshold"] for row in tested])


def test_without_refit_only_the_training_clips_train(tiny_vivae, encoders, trained, tmp_path):
    run(probe_flags(tiny_vivae, encoders["whisper"], tmp_path, "--model_config", '{"refit": false}'))
    alone, both = (
        {row["file"]: row["logits"] for row in read_predictions(folder) if row["split"] == part}
        for folder, part in ((tmp_path / "S01", "validation"), (trained, "validation"))
    )
    assert alone.keys() == both.keys()
    assert all(np.allclose(alone[file], both[file]) for file in alone)  # predicted before they train
    alone, both = (
        np.array([row["logits"] for row in read_predictions(folder) if row["split"] == "test"])
        for folder in (tmp_path / "S01", trained)
    )
    assert np.abs(alone - both).max() > 0.01


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the recordings of {REAL} are absent")
def test_whisper_base_on_real_vocalisations_reaches_its_bars(tmp_path):
    """Reference: C=1, mean of layers, on the same folds: 84.9 / 85.7 (GroupKFold), 87.9 / 88.5; sampling error 1.0."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, recall_score
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    encoder, data = REAL / "models" / "whisper-base-encoder", REAL / "nonverbal_vocalization" / "dataset"
    arguments = ["--model", f"probe:{encoder}", "--data", "folder", "--data_dir", str(data)]
    arguments += ["--speaker_pattern", "^([^_]+)_", "--disable_tqdm", "true"]
    bars = {"speaker-k-fold": (0.839, 0.847), "random-10-fold": (0.869, 0.875)}
    for protocol, (accuracy, uar) in bars.items():
        results = run([*arguments, "--protocol", protocol, "--output_dir", str(tmp_path / protocol)])
        assert results["test"]["n"] == 727
        assert results["test"]["accuracy"] > accuracy
        assert results["test"]["uar"] > uar
    # the reference's own folds and settings, on this package's embeddings
    corpus = hf_vivae.corpus.read_folder(data, "^([^_]+)_")
    seconds = max(corpus.dataset["duration"])
    model, extractor = load_probe(encoder, {0: "a", 1: "b"}, {}, seconds)
    found = build_embeddings(corpus.dataset, extractor, model, seconds).with_format("numpy")["embeddings"][:]
    embeddings, labels = np.asarray(found).mean(1), np.array(corpus.dataset["emotion"])
    predicted = np.empty_like(labels)
    for train, test in GroupKFold(5).split(embeddings, labels, corpus.dataset["speaker"][:]):
        solver = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        predicted[test] = solver.fit(embeddings[train], labels[train]).predict(embeddings[test])
    assert accuracy_score(labels, predicted) > 0.839
    assert recall_score(labels, predicted, average="macro") > 0.847


def test_weights_need_no_network(trained):
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    model = AutoModelForAudioClassification.from_pretrained(trained)
    extractor = AutoFeatureExtractor.from_pretrained(trained)
    inputs = extractor(clips(RATE), sampling_rate=RATE, return_tensors="pt")
    assert model(**inputs).logits.shape == (3, 6)

"""Clips that training cuts are also cut in prediction, with and without this package, and counted in a warning."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from encoders import write_encoder
from runner import encoder_flags, run
from scipy.special import softmax
from transformers import AutoModelForAudioClassification, pipeline
from transformers.pipelines import AudioClassificationPipeline

from hf_vivae import load_classifier
from hf_vivae.audio import load
from hf_vivae.run_folder import read_predictions
from hf_vivae.training.trainer import VivaeTrainer

pytestmark = pytest.mark.usefixtures("no_pictures")

CUT = ["--max_seconds", "0.25"]
FAST = ["--learning_rate", "1e-2", "--max_steps", "3"]


def command(corpus: Path, model: str, output: Path, *more: str) -> list[str]:
    """Return the command line of an encoder, or of a probe, which has no epochs."""
    argv = encoder_flags(corpus, Path(), output, *more, "--model", model)
    if model.startswith("probe:"):
        for flag in ("--num_train_epochs", "--per_device_train_batch_size"):
            place = argv.index(flag)
            del argv[place : place + 2]
    return argv


def scores_of(rows: list[dict], found: list[list[dict]], labels: dict[int, str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of a run's predictions and of a pipeline, `(clips, labels)` each."""
    said = [{item["label"]: item["score"] for item in clip} for clip in found]
    expected = softmax(np.array([row["logits"] for row in rows]), axis=1)
    return expected, np.array([[clip[labels[index]] for index in range(len(labels))] for clip in said])


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [("encoder:", "w2v-bert"), ("encoder:", "whisper"), ("probe:", "layer norm"), ("probe:", "squeezed")],
)
def test_a_plain_pipeline_cuts_longer_clips_as_in_training(prefix, kind, tiny_vivae, tmp_path):
    folder = write_encoder(tmp_path / "library", kind)
    fast = [*FAST, "--head_learning_rate", "1e-2"] if prefix == "encoder:" else []
    run(command(tiny_vivae, f"{prefix}{folder}", tmp_path / "run", *CUT, *fast))
    checkpoint = tmp_path / "run" / "S01"
    rows = [row for row in read_predictions(checkpoint) if row["split"] == "test"]
    sounds = [load(tiny_vivae / "full_set" / row["file"], 16000)[0] for row in rows]
    assert min(map(len, sounds)) > 0.25 * 16000
    plain = pipeline("audio-classification", str(checkpoint), top_k=None)
    assert type(plain) is AudioClassificationPipeline
    ours = load_classifier(checkpoint)
    files = [tiny_vivae / "full_set" / row["file"] for row in rows]
    for found in (plain(sounds, batch_size=4), [plain(sound) for sound in sounds], ours(files, batch_size=5)):
        expected, scores = scores_of(rows, found, plain.model.config.id2label)
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    plain.feature_extractor.num_samples = 16000
    uncut = scores_of(rows, plain(sounds), plain.model.config.id2label)[1]
    assert np.abs(uncut - expected).max() > 1e-4, "without a cut, the scores differ"


@pytest.mark.parametrize("kind", ["w2v-bert", "whisper"])
def test_a_checkpoint_without_code_keeps_the_cut_for_this_package(kind, tiny_vivae, tmp_path):
    folder = write_encoder(tmp_path / "library", kind)
    run(command(tiny_vivae, str(folder), tmp_path / "run", *CUT, *FAST))
    saved = json.loads((tmp_path / "run" / "S01" / "preprocessor_config.json").read_text())
    assert saved["num_samples"] == 4000
    assert "auto_map" not in saved
    rows = [row for row in read_predictions(tmp_path / "run" / "S01") if row["split"] == "test"]
    found = load_classifier(tmp_path / "run" / "S01")([tiny_vivae / "full_set" / row["file"] for row in rows])
    labels = AutoModelForAudioClassification.from_pretrained(tmp_path / "run" / "S01").config.id2label
    expected, scores = scores_of(rows, found, labels)
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_whisper_takes_longer_clips_than_those_of_its_training(tiny_vivae, tmp_path):
    folder = write_encoder(tmp_path / "library", "whisper")
    run(encoder_flags(tiny_vivae, folder, tmp_path / "run", "--max_steps", "1", "--head_learning_rate", "0.1"))
    classify = pipeline("audio-classification", str(tmp_path / "run" / "S01"), top_k=None)
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * 16000).astype(np.float32)
    quieter_end = np.concatenate([sound[: 4 * 16000], 0.1 * sound[4 * 16000 :]])
    assert classify(sound) != classify(quieter_end), "trained on clips of 1.2 s"


@pytest.mark.parametrize(
    ("prefix", "kind", "given", "most"),
    [
        ("encoder:", "ast", "11", "10.24"),
        ("", "ast", "11", "10.24"),
        ("encoder:", "whisper", "31", "30"),
        ("probe:", "whisper", "31", "30"),
        ("", "whisper", "31", "30"),
    ],
)
def test_more_seconds_than_a_model_takes_are_refused(kind, given, most, prefix, tiny_vivae, tmp_path):
    folder = write_encoder(tmp_path / "library", kind)
    sentence = f"^expected --max_seconds of {most} at most, the window of .*, found {given}; leave it out\\."
    with pytest.raises(ValueError, match=sentence):
        run(command(tiny_vivae, f"{prefix}{folder}", tmp_path / "run", "--max_seconds", given))


def test_clips_longer_than_a_model_takes_are_counted(tiny_vivae, tmp_path, caplog):
    folder = write_encoder(tmp_path / "library", "ast")
    settings = folder / "preprocessor_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"max_length": 77}))
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_length": 77}))
    seconds = [soundfile.info(file).duration for file in (tiny_vivae / "full_set").iterdir()]
    longer = sum(one > 0.77 for one in seconds)
    assert 0 < longer < len(seconds)
    argv = encoder_flags(tiny_vivae, folder, tmp_path / "run", "--max_steps", "1", "--from_scratch")
    with caplog.at_level(logging.WARNING):
        run(argv)
    assert [record.getMessage() for record in caplog.records if "at most" in record.getMessage()] == [
        f"encoder:library takes 0.77 s of a clip at most, and {longer} clips are longer."
    ]


def test_clips_are_batched_by_their_length_after_trimming(tiny_vivae, tmp_path, monkeypatch):
    folder, seen, before = write_encoder(tmp_path / "library", "layer norm"), {}, VivaeTrainer.__init__
    monkeypatch.setattr(
        VivaeTrainer, "__init__", lambda self, *args, **kwargs: (seen.update(kwargs), before(self, *args, **kwargs))[1]
    )
    corpus = tmp_path / "silent"
    (corpus / "full_set").mkdir(parents=True)
    for number, file in enumerate(sorted((tiny_vivae / "full_set").iterdir())):
        samples, rate = soundfile.read(file)
        soundfile.write(corpus / "full_set" / file.name, np.pad(samples, (0, number % 7 * rate)), rate)
    more = ["--max_steps", "1", "--trim_db", "40", "--max_seconds", "1", "--augment", "{}"]
    run(encoder_flags(corpus, folder, tmp_path / "run", *more))
    lengths = [len(clip["input_values"]) for clip in seen["train_dataset"]]
    assert seen["train_lengths"] == lengths
    assert max(lengths) == 16000 > min(lengths)
    held = [len(clip["input_values"]) for clip in seen["eval_dataset"]]
    assert held == sorted(held)

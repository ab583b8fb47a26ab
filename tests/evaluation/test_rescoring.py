"""A checkpoint's predictions of clips that it was not trained on."""

import io
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from runner import ROOT, flags, run, script
from transformers import Wav2Vec2FeatureExtractor
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_vivae import audio
from hf_vivae.corpus import read_folder, read_vivae
from hf_vivae.evaluation.rescore import UNKNOWN, predict_clips, score_checkpoint
from hf_vivae.files import read_json
from hf_vivae.run_folder import read_predictions, write_predictions


@pytest.fixture(scope="module")
def fold(tiny_vivae, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(flags(tiny_vivae, folder, "mlp", "--normalization", "mean_std"))
    return folder / "S01"


@pytest.fixture(scope="module")
def corpus(tiny_vivae):
    return read_vivae(tiny_vivae, allow_partial=True)


def by_file(rows) -> dict[str, list[float]]:
    return {row["file"]: row["logits"] for row in rows if row["split"] == "test"}


def test_on_its_own_corpus_only_what_it_has_not_learnt_from_is_scored(fold, corpus, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        folder = score_checkpoint(str(fold), fold, corpus, "emotion", tmp_path)
    assert "36 clips that trained or selected" in caplog.text
    found, expected = by_file(read_predictions(folder)), by_file(read_predictions(fold))
    assert found.keys() == expected.keys()
    for file, logits in found.items():
        np.testing.assert_allclose(logits, expected[file], atol=1e-5)
    rows = read_predictions(folder)
    assert {row["speaker"] for row in rows} == {"S01"}
    assert all(row["duration"] > 0 and row["intensity"] for row in rows)
    record, results = read_json(folder / "run.json"), read_json(folder / "results.json")
    assert (record["run"]["protocol"], record["run"]["model"]) == ("other-clips", "mlp")
    assert results["habits"] == []


def test_logits_are_in_the_order_of_the_corpus_then_other_labels(fold, tiny_vivae, tmp_path):
    for path in (tiny_vivae / "full_set").glob("S01_*"):
        emotion = path.name.split("_")[1]
        if emotion in ("surprise", "anger"):
            target = tmp_path / "clips" / emotion / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    folder = score_checkpoint(str(fold), fold, read_folder(tmp_path / "clips"), "emotion", tmp_path)
    rows, results = read_predictions(folder), read_json(folder / "results.json")
    assert results["labels"] == ["anger", "surprise", "achievement", "fear", "pain", "pleasure"]
    assert {(row["label"], row["file"].split("_")[1]) for row in rows} == {(0, "anger"), (1, "surprise")}
    expected = by_file(read_predictions(fold))
    for row in rows:
        logits = expected[Path(row["file"]).name]
        np.testing.assert_allclose(row["logits"], [logits[place] for place in (1, 5, 0, 2, 3, 4)], atol=1e-5)


def test_what_it_has_learnt_from_is_known_by_its_sound_and_not_by_its_name(fold, tiny_vivae, tmp_path):
    """A clip that trained under another name is left out; one that has only the name of such a clip is not."""
    renamed, others = tmp_path / "renamed", tmp_path / "others"
    for number, path in enumerate(sorted((tiny_vivae / "full_set").glob("S0[14]_*"))):
        emotion = path.name.split("_")[1]
        for root, sound in ((renamed, path.read_bytes()), (others, other_sound(path))):
            target = root / emotion / (path.name if root is others else f"clip {number}.wav")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(sound)
    found = read_predictions(score_checkpoint(str(fold), fold, read_folder(renamed), "emotion", tmp_path))
    tested = {row["digest"] for row in read_predictions(fold) if row["split"] == "test"}
    assert {row["digest"] for row in found} == tested
    assert len(read_predictions(score_checkpoint(str(fold), fold, read_folder(others), "emotion", tmp_path))) == 24


def other_sound(path: Path) -> bytes:
    samples, rate = soundfile.read(path)
    file = io.BytesIO()
    soundfile.write(file, samples[::-1], rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def test_clips_that_selected_are_left_out_too(tiny_vivae, corpus, tmp_path):
    run(flags(tiny_vivae, tmp_path / "run", "mlp", "--select_on", "test", "--num_train_epochs", "1"))
    with pytest.raises(ValueError, match="found that all 48 trained or selected it; give another --data"):
        score_checkpoint(str(tmp_path / "run" / "S01"), tmp_path / "run" / "S01", corpus, "emotion", tmp_path)


def test_a_checkpoint_without_its_run_is_marked(fold, corpus, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copy(fold / name, bare / name)
    folder = score_checkpoint(str(bare), bare, corpus, "emotion", tmp_path)
    assert read_json(folder / "results.json")["habits"] == [UNKNOWN]
    assert len(read_predictions(folder)) == 48


def without_digests(folder: Path) -> None:
    write_predictions(folder, [{**row, "digest": None} for row in read_predictions(folder)])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda folder: (folder / "predictions.parquet").unlink(),
            "expected predictions.parquet next to run.json in ",
        ),
        (without_digests, "expected a digest of each clip in .*predictions.parquet, found clips without one; copy"),
        (
            lambda folder: (folder / "run.json").write_text('{"run": "a"}'),
            "expected the record of a training in .*run",
        ),
        (lambda folder: (folder / "run.json").write_text('{"run":'), "expected JSON in .*run.json, found a damaged"),
    ],
)
def test_a_run_without_its_training_clips_is_refused(spoil, sentence, fold, corpus, tmp_path):
    copy = shutil.copytree(fold, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(ValueError, match=rf"^{sentence}.*score a copy without run.json, whose scores are marked\.$"):
        score_checkpoint(str(copy), copy, corpus, "emotion", tmp_path)
    assert not list(tmp_path.glob("copy-*"))


def test_a_checkpoint_that_has_changed_is_scored_again(fold, corpus, tmp_path, monkeypatch):
    copy = shutil.copytree(fold, tmp_path / "copy")
    folder = score_checkpoint(str(copy), copy, corpus, "emotion", tmp_path)
    before = by_file(read_predictions(folder))
    settings = read_json(copy / "preprocessor_config.json")
    (copy / "preprocessor_config.json").write_text(json.dumps({**settings, "mean": settings["mean"] + 1}))
    assert score_checkpoint(str(copy), copy, corpus, "emotion", tmp_path) == folder
    after = by_file(read_predictions(folder))
    assert after.keys() == before.keys()
    assert all(after[file] != before[file] for file in after)
    monkeypatch.setattr(
        "hf_vivae.evaluation.rescore.write_json", None
    )  # as if killed, with predictions of another state
    with pytest.raises(TypeError):
        score_checkpoint(str(copy), copy, corpus, "emotion", tmp_path)
    assert not (folder / "results.json").exists()


def test_evaluate_compares_checkpoints_on_other_clips(fold, tiny_vivae, tmp_path, capsys):
    corpus = ["--data", "vivae", "--data_dir", str(tiny_vivae), "--allow_partial"]
    script(ROOT / "recipes" / "evaluate.py").main([str(fold), *corpus, "--output_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "48 vivae clips, emotion, other-clips (one fold)" in printed
    assert "majority" in printed
    results = json.loads((tmp_path / "results.json").read_text())
    (system,) = results["groups"][0]["systems"]
    original = read_json(fold / "results.json")["test"]
    assert system["scores"]["accuracy"]["value"] == pytest.approx(original["accuracy"])


@pytest.mark.parametrize("flags", [[], ["--cross"]])
def test_clips_are_decoded_once_to_check_and_to_score_them(flags, fold, tiny_vivae, tmp_path, monkeypatch, undrawn):
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "cache"))
    names, load = [], audio.load
    monkeypatch.setattr(
        audio, "load", lambda source, rate=None, name=None: names.append(name) or load(source, rate, name)
    )
    shutil.copytree(fold, tmp_path / "bare", ignore=shutil.ignore_patterns("run.json"))  # else its clips are left out
    corpus = ["--data", "vivae", "--data_dir", str(tiny_vivae), "--allow_partial"]
    argv = [*flags, str(tmp_path / "bare"), *corpus, "--output_dir", str(tmp_path / "out")]
    script(ROOT / "recipes" / "evaluate.py").main(argv)
    assert sorted(names) == sorted(path.name for path in (tiny_vivae / "full_set").iterdir())


def test_evaluate_compares_a_checkpoint_with_predictions_of_another_program(fold, tiny_vivae, tmp_path, undrawn):
    rows = [row for row in read_predictions(fold) if row["split"] == "test"]
    names = read_json(fold / "results.json")["labels"]
    columns = ["file", "label", *(f"p_{name}" for name in names)]
    right = [[row["file"], names[row["label"]], *(int(row["label"] == label) for label in range(6))] for row in rows]
    file = tmp_path / "theirs.csv"
    file.write_text("".join(",".join(map(str, line)) + "\n" for line in (columns, *right)))
    corpus = ["--data", "vivae", "--data_dir", str(tiny_vivae), "--allow_partial"]
    output = tmp_path / "out"
    script(ROOT / "recipes" / "evaluate.py").main([str(fold), str(file), *corpus, "--output_dir", str(output)])
    (group,) = json.loads((output / "results.json").read_text())["groups"]
    assert (group["protocol"], len(group["systems"]), len(group["comparisons"])) == ("other-clips", 2, 1)
    assert group["systems"][0]["scores"]["accuracy"]["value"] == 1


def test_evaluate_takes_a_checkpoint_without_its_run(fold, tiny_vivae, tmp_path, capsys):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copy(fold / name, bare / name)
    corpus = ["--data", "vivae", "--data_dir", str(tiny_vivae), "--allow_partial"]
    script(ROOT / "recipes" / "evaluate.py").main(
        [str(bare), str(fold), *corpus, "--output_dir", str(tmp_path / "out")]
    )
    printed = capsys.readouterr().out
    assert "bare *" in printed
    assert f"* {UNKNOWN}: bare" in printed
    (refused,) = json.loads((tmp_path / "out" / "results.json").read_text())["groups"][0]["not_compared"]
    assert "36" in refused
    assert "compare runs of one protocol, seed and corpus" in refused


def test_a_clip_of_more_than_thirty_seconds_is_taken_whole_where_its_training_cut_none(tmp_path):
    rate, seconds = 8000, 31
    for label, length in (("long", seconds), ("short", 1)):
        (tmp_path / label).mkdir()
        soundfile.write(tmp_path / label / "a.wav", np.full(length * rate, 0.1), rate)
    clips = read_folder(tmp_path).dataset
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=rate, return_attention_mask=True)
    assert predict_clips(LengthModel(), extractor, clips).max() == seconds * rate


class LengthModel(torch.nn.Module):
    """Model whose logit is the number of samples of a clip."""

    device = torch.device("cpu")

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=attention_mask.sum(1, keepdim=True).float())


def test_what_only_scoring_needs_is_refused_without_it(fold, tmp_path):
    with pytest.raises(
        ValueError, match=r"^expected --data together with --data_dir, --task, found none; run folders contain"
    ):
        script(ROOT / "recipes" / "evaluate.py").main(
            [str(fold), "--data_dir", "x", "--task", "valence", "--output_dir", str(tmp_path)]
        )


def test_checkpoints_that_cannot_be_scored_are_refused(fold, corpus, tmp_path):
    with pytest.raises(ValueError, match=r"expected labels of .* \(achievement, .*\), found low, moderate"):
        score_checkpoint(str(fold), fold, corpus, "intensity", tmp_path)
    copy = shutil.copytree(fold, tmp_path / "copy")
    (copy / "config.json").unlink()
    with pytest.raises(ValueError, match=r"expected a checkpoint with config.json, found none"):
        score_checkpoint(str(copy), copy, corpus, "emotion", tmp_path)

"""One run from arguments to run folder, and the promises it keeps."""

import json
import logging
import math
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from runner import TRAIN, flags, run, script
from safetensors.torch import load_file
from tiny import CONFIGS
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from hf_vivae import audio
from hf_vivae.files import claim
from hf_vivae.metrics import ClassificationScores
from hf_vivae.models import MODELS
from hf_vivae.run_folder import environment

pytestmark = pytest.mark.usefixtures("no_pictures")

EMOTIONS = ["achievement", "anger", "fear", "pain", "pleasure", "surprise"]


@pytest.fixture(scope="module")
def finished(tiny_vivae, tmp_path_factory):
    """A run folder of one fold, and what the run returned."""
    output = tmp_path_factory.mktemp("finished")
    return output / "S01", run(flags(tiny_vivae, output, "vit-32-30", "--normalization", "mean_std"))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_through_the_recipe_and_loads_again(name, tiny_vivae, tmp_path, capsys):
    script(TRAIN).main(flags(tiny_vivae, tmp_path, name, "--num_train_epochs", "1"))
    printed = capsys.readouterr().out
    assert f"{name} on vivae clips, leave-one-speaker-out, emotion" in printed
    folder = tmp_path / "S01"
    model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    for row in [row for row in rows if row["split"] == "test"][:4]:
        clip, rate = audio.load(tiny_vivae / "full_set" / row["file"], extractor.sampling_rate)
        with torch.no_grad():
            logits = model(**extractor(clip, sampling_rate=rate, return_tensors="pt")).logits[0]
        np.testing.assert_allclose(logits, row["logits"], atol=1e-4)
        assert EMOTIONS[row["label"]] == row["file"].split("_")[1]


def test_the_run_folder_is_complete(finished):
    folder, _ = finished
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.json", "model.safetensors", "preprocessor_config.json", "predictions.parquet", "history.jsonl",
        "run.json", "results.json", "loss.png", "accuracy.png",
    }  # fmt: skip
    names.remove(".lock")
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl")) or name.startswith(".")]


def test_results_describe_the_run_and_are_the_scores_of_the_predictions(finished):
    folder, _ = finished
    results = json.loads((folder / "results.json").read_text())
    description = {key: results[key] for key in ("model", "data", "protocol", "task", "seed", "fold", "labels")}
    assert description == {
        "model": "vit-32-30", "data": "vivae", "protocol": "leave-one-speaker-out", "task": "emotion", "seed": 42,
        "fold": "S01", "labels": EMOTIONS,
    }  # fmt: skip
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    for part, speakers in (("test", {"S01"}), ("validation", {"S02"}), ("train", {"S03", "S04"})):
        chosen = [row for row in rows if row["split"] == part]
        assert {row["file"][:3] for row in chosen} == speakers
        logits, labels = np.array([row["logits"] for row in chosen]), np.array([row["label"] for row in chosen])
        assert results[part]["n"] == len(chosen) == 12 * len(speakers)
        assert results[part]["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean())
        assert set(results[part]["auc"]) == set(EMOTIONS)


def test_the_record_repeats_the_run_and_names_what_was_missing(finished, tiny_vivae, tmp_path):
    folder, _ = finished
    record = json.loads((folder / "run.json").read_text())
    assert record["finished"] is True
    assert record["corpus"]["clips"] == 48
    assert len(record["corpus"]["problems"]) == 1085 - 48
    assert {"torch", "transformers"} <= record["environment"]["versions"].keys()
    assert record["from_folder"] is False
    assert record["seconds"] > 0 < record["peak_memory_mb"]
    again = run(["--config", str(folder / "run.json"), "--output_dir", str(tmp_path)])
    assert again["test"] == run(["--config", str(folder / "run.json"), "--output_dir", str(folder.parent)])["test"]
    one, other = (path / "model.safetensors" for path in (folder, tmp_path / "S01"))
    assert one.read_bytes() == other.read_bytes(), "same seed, same machine, same bits"


def test_history_holds_validation_and_never_test(finished):
    folder, _ = finished
    entries = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    validated = [entry for entry in entries if "eval_uar" in entry]
    assert [entry["epoch"] for entry in validated] == [1, 2]
    assert {entry["eval_n"] for entry in validated} == {12}
    trained = [entry for entry in entries if "loss" in entry]
    assert all(0 <= entry["accuracy"] <= 1 for entry in trained)
    assert not any(key.startswith("test") for entry in entries for key in entry)
    best = max(validated, key=lambda entry: entry["eval_accuracy"])
    fold = json.loads((folder / "results.json").read_text())
    assert fold["selection"] == {"on": "validation", "metric": "accuracy", "epoch": best["epoch"]}
    assert fold["validation"]["accuracy"] == pytest.approx(best["eval_accuracy"])


def test_normalisation_is_measured_on_training_clips_alone(finished, tiny_vivae):
    folder, _ = finished
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    record = json.loads((folder / "run.json").read_text())
    clips = [audio.load(tiny_vivae / "full_set" / name)[0] for name in record["fold"]["train"]]
    assert extractor.peak == pytest.approx(max(np.abs(clip).max() for clip in clips))
    features = extractor.extract(clips)
    assert (extractor.mean, extractor.std) == pytest.approx((features.mean(), features.std()), rel=1e-4)


@pytest.mark.parametrize("start", ["model", "model_name_or_path"])
def test_what_a_parent_has_fitted_to_its_clips_does_not_outlive_it(start, finished, tiny_vivae, tmp_path):
    parent = shutil.copytree(finished[0], tmp_path / "parent")
    config = json.loads((parent / "config.json").read_text())
    (parent / "config.json").write_text(json.dumps(config | {"calibration_temperature": 3.7}))
    argv = flags(tiny_vivae, tmp_path / "child", "vit-32-30", "--select_on", "none", "--num_train_epochs", "1")
    if start == "model":
        argv[1] = str(parent)
        argv += ["--model_config", "{}"]
    run(argv if start == "model" else [*argv, "--model_name_or_path", str(parent)])
    child = tmp_path / "child" / "S01"
    assert "calibration_temperature" not in json.loads((child / "config.json").read_text())
    extractor = AutoFeatureExtractor.from_pretrained(child)
    assert (extractor.mean, extractor.std) == (0, 1), "the parent's clips were normalised, and these are not"


def test_a_finished_run_is_not_trained_again(finished, tiny_vivae, caplog):
    folder, results = finished
    before = (folder / "model.safetensors").stat().st_mtime_ns
    with caplog.at_level(logging.WARNING):
        again = run(flags(tiny_vivae, folder.parent, "vit-32-30", "--normalization", "mean_std"))
    assert again["test"] == results["test"]
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert "is finished and not trained again" in caplog.text


def test_a_folder_of_another_run_is_refused(finished, tiny_vivae):
    folder, _ = finished
    argv = flags(tiny_vivae, folder.parent, "vit-32-30", "--normalization", "mean_std", "--learning_rate", "1e-4")
    with pytest.raises(
        ValueError, match=r"holds another run, which differs in learning_rate \(was 0.001, is 0.0001\)"
    ):
        run(argv)


def test_mixed_precision_scores_what_it_saves(tiny_vivae, tmp_path):
    run(flags(tiny_vivae, tmp_path, "vit-32-30", "--num_train_epochs", "1", "--bf16", "--normalization", "mean_std"))
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "S01").eval()
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "S01")
    row = pq.read_table(tmp_path / "S01" / "predictions.parquet").to_pylist()[0]
    clip, rate = audio.load(tiny_vivae / "full_set" / row["file"])
    with torch.no_grad():
        logits = model(**extractor(clip, sampling_rate=rate, return_tensors="pt")).logits[0]
    np.testing.assert_allclose(logits, row["logits"], atol=1e-4)


@pytest.fixture
def interrupted(tiny_vivae, tmp_path):
    """The command of an MLP's run that was cut off after its first epoch, and its fold's folder."""
    argv = flags(tiny_vivae, tmp_path, "mlp", "--num_train_epochs", "2")
    run(argv)
    for name in ("results.json", "model.safetensors"):
        (tmp_path / "S01" / name).unlink()
    (tmp_path / "results.json").unlink()
    return argv, tmp_path / "S01"


def test_a_half_written_checkpoint_is_not_resumed(interrupted, caplog):
    argv, folder = interrupted
    broken = folder / "checkpoint-99"
    broken.mkdir()
    (broken / "trainer_state.json").write_text('{"epoch": 1')
    with caplog.at_level(logging.WARNING):
        run(argv)
    assert "checkpoint-99 has no whole rng_state*.pth and is removed" in caplog.text
    assert not broken.exists()


def test_checkpoints_that_no_run_has_made_are_left_alone(interrupted):
    argv, folder = interrupted
    (folder / "run.json").unlink()
    before = sorted(folder.iterdir())
    with pytest.raises(ValueError, match=r"^expected the run\.json of this run in .*, found only checkpoints"):
        run(argv)
    assert sorted(folder.iterdir()) == before


def test_a_run_is_not_continued_on_clips_that_it_is_tested_on(tiny_vivae, interrupted):
    """Swap two speakers' names: the same files and labels, but what has trained would now be tested."""
    argv, _ = interrupted
    names = {path.name: path.name for path in (tiny_vivae / "full_set").iterdir()}
    folder = interrupted[1].parent / "renamed" / "full_set"
    folder.mkdir(parents=True)
    for name in names:
        other = name.replace("S01", "S0x").replace("S03", "S01").replace("S0x", "S03")
        shutil.copy(tiny_vivae / "full_set" / name, folder / other)
    argv[argv.index("--data_dir") + 1] = str(folder.parent)
    with pytest.raises(ValueError, match=r"which differs in .*digest \(was"):
        run(argv)


def test_the_other_protocol_of_a_folder_is_refused(finished, tiny_vivae):
    folder, _ = finished
    argv = flags(tiny_vivae, folder.parent, "vit-32-30", "--normalization", "mean_std", "--protocol", "random-80-20")
    with pytest.raises(ValueError, match=r"differs in protocol \(was 'leave-one-speaker-out', is"):
        run(argv)


def test_more_folds_of_a_run_join_those_that_are_there(interrupted):
    argv, _ = interrupted
    run(argv)
    argv[argv.index("--folds") + 1] = "1"
    assert list(run(argv)["folds"]) == ["S01", "S02"]


def test_folds_may_be_trained_side_by_side_into_one_folder(tiny_vivae, tmp_path):
    argv = flags(tiny_vivae, tmp_path / "whole", "mlp")
    place = argv.index("--folds") + 1
    whole = run([*argv[:place], "0", "2", *argv[place + 1 :]])
    argv[place] = "2"
    parts = tmp_path / "parts"
    with claim(parts / "S01"):  # another process is at it
        assert list(run([*argv, "--output_dir", str(parts)])["folds"]) == ["S03"]
        both = [*argv[:place], "0", "2", *argv[place + 1 :]]
        assert list(run([*both, "--output_dir", str(parts)])["folds"]) == ["S03"]  # S01 is left to the other
        argv[place] = "0"
        with pytest.raises(ValueError, match=r"another process is training in .*S01; wait for its end"):
            run([*argv, "--output_dir", str(parts)])
    assert run([*argv, "--output_dir", str(parts)]) == whole
    first, second = ((folder / "results.json").read_text() for folder in (parts, tmp_path / "whole"))
    assert json.loads(first) == json.loads(second)


def test_folds_of_other_settings_are_not_joined(tiny_vivae, tmp_path):
    argv = flags(tiny_vivae, tmp_path, "mlp")
    run(argv)
    argv[argv.index("--folds") + 1] = "1"
    with pytest.raises(ValueError, match=r"differs in learning_rate \(was 0.001, is 0.002\)"):
        run([*argv, "--learning_rate", "2e-3"])


def test_two_at_once_in_one_folder_are_one_too_many(tiny_vivae, tmp_path):
    argv, file = flags(tiny_vivae, tmp_path, "mlp"), tmp_path / "file"
    file.touch()
    with (
        claim(tmp_path / "S01"),
        pytest.raises(ValueError, match=r"another process is training in .*; wait for its end"),
    ):
        run(argv)
    with pytest.raises(ValueError, match=r"a folder to write to as --output_dir, found .*\(a file\); give another"):
        run([*argv, "--output_dir", str(file)])


def test_weights_of_another_network_are_refused(finished, tiny_vivae, tmp_path):
    folder, _ = finished
    argv = flags(tiny_vivae, tmp_path, "vit-16-69", "--model_name_or_path", str(folder))
    with pytest.raises(ValueError, match=r"2 weights of .* do not fit .*\(first: embeddings.positions\)"):
        run(argv)


def test_silent_training_clips_are_refused(tiny_vivae, tmp_path):
    for number, path in enumerate((tiny_vivae / "full_set").iterdir()):
        target = tmp_path / "clips" / path.name.split("_")[1] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, np.zeros(8000 + number), 16000)  # no two are copies
    argv = ["--model", "mlp", "--data", "folder", "--data_dir", str(tmp_path / "clips"), "--speaker_pattern", "(S..)",
            "--output_dir", str(tmp_path / "out")]  # fmt: skip
    with pytest.raises(ValueError, match="expected sound in the training clips, found nothing but zeros"):
        run(argv)


def test_secrets_are_not_written_down(monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["train.py", "--hub_token", "hf_secret", "--hub_token=hf_secret", "--model", "mlp"]
    )
    command = environment()["command"]
    assert command == ["train.py", "--hub_token", "<hidden>", "--hub_token=<hidden>", "--model", "mlp"]


def test_all_folds_are_pooled(tiny_vivae, tmp_path):
    argv = flags(tiny_vivae, tmp_path, "mlp", "--num_train_epochs", "1")
    at = argv.index("--folds")
    results = run(argv[:at] + argv[at + 2 :])
    assert results == json.loads((tmp_path / "results.json").read_text()) | {"test": results["test"]}
    assert list(results["folds"]) == ["S01", "S02", "S03", "S04"]
    assert results["test"]["n"] == 48
    by_fold = [fold["test"]["accuracy"] for fold in results["folds"].values()]
    assert results["test"]["accuracy"] == pytest.approx(np.mean(by_fold))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "logistic-regression"])
def test_eight_at_once_train_as_two_four_times(name, tiny_vivae, tmp_path):
    """24 clips of 10 a step: the last step is short, where a mean over batches would differ."""
    weights = []
    for batch, times in ((10, 1), (5, 2), (2, 5)):
        output = tmp_path / str(batch)
        run(
            flags(tiny_vivae, output, name, "--num_train_epochs", "1", "--optim", "sgd", "--adam_l2", "false",
                  "--per_device_train_batch_size", str(batch), "--gradient_accumulation_steps", str(times))
        )  # fmt: skip
        weights.append(load_file(output / "S01" / "model.safetensors"))
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("task", ["valence", "emotion"])
def test_logistic_regression_is_scikit_learns(task, tiny_vivae, tmp_path):
    from sklearn.linear_model import LogisticRegression

    run(flags(tiny_vivae, tmp_path, "logistic-regression", "--task", task))
    rows = pq.read_table(tmp_path / "S01" / "predictions.parquet").to_pylist()
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "S01")
    inputs = np.concatenate([extractor.extract([audio.load(tiny_vivae / "full_set" / r["file"])[0]]) for r in rows])
    train = np.array([row["split"] == "train" for row in rows])
    labels = np.array([row["label"] for row in rows])
    oracle = LogisticRegression(max_iter=100).fit(inputs[train], labels[train])
    ours = torch.tensor([row["logits"] for row in rows]).softmax(-1)
    np.testing.assert_allclose(ours, oracle.predict_proba(inputs), atol=1e-4)


def test_a_task_of_24_labels_trains(tiny_vivae, tmp_path):
    results = run(flags(tiny_vivae, tmp_path, "mlp", "--task", "emotion_intensity", "--num_train_epochs", "1"))
    fold = json.loads((tmp_path / "S01" / "results.json").read_text())
    assert len(fold["labels"]) == 24
    assert fold["test"]["auc"]["anger_low"] is None
    assert any("its AUC is undefined" in note for note in results["test"]["notes"])


def test_bad_clips_stop_the_run_by_name_or_are_left_out_and_listed(tiny_vivae, tmp_path):
    folder = tmp_path / "clips"
    for path in sorted((tiny_vivae / "full_set").iterdir()):
        target = folder / path.name.split("_")[1] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (folder / "anger" / "S01_nothing.wav").touch()
    samples = np.full(4000, np.nan, dtype=np.float32)
    soundfile.write(folder / "fear" / "S02_nan.wav", samples, 16000, subtype="FLOAT")
    argv = [
        "--model", "mlp", "--data", "folder", "--data_dir", str(folder), "--speaker_pattern", "^(S[0-9]+)_",
        "--model_config", json.dumps(CONFIGS["mlp"]), "--folds", "0", "--num_train_epochs", "1",
        "--output_dir", str(tmp_path / "out"), "--disable_tqdm", "true",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"(?s)S01_nothing.wav.*S02_nan.wav"):
        run(argv)
    run([*argv, "--on_bad_audio", "skip"])
    record = json.loads(next((tmp_path / "out").glob("*/run.json")).read_text())
    problems = " ".join(record["corpus"]["problems"])
    assert "S01_nothing.wav" in problems
    assert "S02_nan.wav" in problems
    assert record["corpus"]["clips"] == 48


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--eval_strategy", "no"], "requires the save and eval strategy to match"),
        (["--folds", "9"], "expected --folds between 0 and 3, found 9"),
        (["--protocol", "leave-one-speaker"], "did you mean leave-one-speaker-out"),
        (["--task", "emotions"], "did you mean emotion"),
        (["--data", "vivea"], "did you mean vivae"),
        (["--model", "vit-32-3"], r"found 'vit-32-3' \(did you mean vit-32-30\?\); check the spelling"),
        (["--model_config", '{"patch_size": [32, 31]}'], "31 does not divide the 690 frames"),
    ],
)
def test_wrong_values_are_named(more, sentence, tiny_vivae, tmp_path):
    with pytest.raises((ValueError, OSError), match=sentence):
        run(flags(tiny_vivae, tmp_path, "vit-32-30", *more))


def test_a_diverged_model_is_refused():
    logits = np.zeros((3, 2))
    logits[1] = math.nan
    with pytest.raises(ValueError, match="NaN or infinity for 1 of 3 clips"):
        ClassificationScores(["a", "b"]).compute(predictions=logits, references=[0, 1, 0])


def test_a_checkpoint_names_its_own_training_corpus_and_not_that_of_its_parent(tiny_vivae, tmp_path):
    run(flags(tiny_vivae, tmp_path / "parent", "mlp", "--num_train_epochs", "1"))
    parent = tmp_path / "parent" / "S01"
    config = json.loads((parent / "config.json").read_text())
    assert config["training_corpus"] == "vivae"
    (parent / "config.json").write_text(json.dumps({**config, "training_corpus": "synthetic"}))
    argv = flags(tiny_vivae, tmp_path / "child", "mlp", "--num_train_epochs", "1", "--model_name_or_path", str(parent))
    run(argv)
    child = json.loads((tmp_path / "child" / "S01" / "config.json").read_text())
    assert child["training_corpus"] == "vivae"

"""The pipeline for clips of any form: it gives the scores of a run's predictions, and refuses ambiguous input."""

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, DatasetDict, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from runner import flags, run
from scipy.special import softmax
from tiny import CONFIGS

from hf_vivae import MODELS, audio, build_feature_extractor, build_model, load_classifier
from hf_vivae.run_folder import read_predictions

LABELS = {0: "cough", 1: "laugh", 2: "scream"}


def sound(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * rate)).astype(np.float32)


def encode(samples: np.ndarray, rate: int, **form: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **form})
    return file.getvalue()


def as_dict(scores: list[dict]) -> dict[str, float]:
    return {item["label"]: item["score"] for item in scores}


def by_hand(classify, samples: np.ndarray) -> dict[str, float]:
    """Scores of a clip `(samples,)` at the model's rate."""
    extractor = classify.feature_extractor
    inputs = extractor([samples], sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.no_grad():
        logits = classify.model(**inputs).logits[0].numpy()
    return {classify.model.config.id2label[index]: score for index, score in enumerate(softmax(logits))}


@pytest.fixture(scope="module")
def trained(tiny_vivae, tmp_path_factory) -> dict[str, Path]:
    """Run folder of a fold of each model."""
    folders = {}
    for name in MODELS:
        output = tmp_path_factory.mktemp(name)
        more = [] if name == "wav2vec2" else ["--normalization", "mean_std"]
        run(flags(tiny_vivae, output, name, *more, "--learning_rate", "1e-2", "--num_train_epochs", "1"))
        folders[name] = output / "S01"
    return folders


@pytest.fixture(scope="module")
def mel(trained):
    """A classifier that takes 44,100 samples at 44.1 kHz."""
    return load_classifier(trained["vit-32-30"])


@pytest.fixture(scope="module", params=["group", "layer"])
def waveform(request, tmp_path_factory):
    """A wav2vec2 of either norm, far from its first weights, where positions and norms do little; it takes 1 s."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    model = build_model("wav2vec2", **CONFIGS["wav2vec2"], feat_extract_norm=request.param, id2label=LABELS)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.save_pretrained(folder)
    build_feature_extractor("wav2vec2", return_attention_mask=False).save_pretrained(folder)  # as many are published
    return load_classifier(folder)


@pytest.mark.parametrize("name", MODELS)
def test_the_scores_are_those_of_the_runs_predictions(name, trained, tiny_vivae):
    classify = load_classifier(str(trained[name]), device="cpu")
    rows = [row for row in read_predictions(trained[name]) if row["split"] == "test"]
    expected = softmax(np.array([row["logits"] for row in rows]), axis=1)
    assert np.ptp(expected, axis=0).max() > 1e-3, "clips that score alike would prove nothing"
    found = classify([tiny_vivae / "full_set" / row["file"] for row in rows], batch_size=5)
    labels = classify.model.config.id2label
    for scores, row in zip(found, expected, strict=True):
        assert [item["score"] for item in scores] == sorted((item["score"] for item in scores), reverse=True)
        assert as_dict(scores) == pytest.approx({labels[index]: score for index, score in enumerate(row)}, abs=1e-5)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_file_is_decoded_mixed_and_resampled(form, rate, mel, tmp_path):
    path = tmp_path / f"clip.{form.lower()}"
    path.write_bytes(encode(np.stack([sound(0.7, rate), 0.2 * sound(0.7, rate, 1)], axis=1), rate, format=form))
    expected = by_hand(mel, audio.load(path, 44100)[0])
    for clip in (path, str(path), path.read_bytes(), {"bytes": path.read_bytes(), "path": None}):
        assert as_dict(mel(clip)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("rate", [44100, 22050.0, np.int64(48000), torch.tensor(16000)])
def test_an_array_with_its_rate_is_heard_as_its_file(rate, mel):
    channels = np.stack([sound(0.5, int(rate)), sound(0.5, int(rate), 1)], axis=1)  # as soundfile reads them
    expected = as_dict(mel(encode(channels, int(rate), subtype="FLOAT")))
    mono = channels.mean(axis=1)
    wide = np.zeros(2 * len(mono))
    wide[::2] = mono
    decoder = SimpleNamespace(  # torchcodec's
        get_all_samples=lambda: SimpleNamespace(data=torch.tensor(channels.T), sample_rate=int(rate))
    )
    clips = [
        *({"array": array, "sampling_rate": rate} for array in (channels, mono, wide[::2], mono.tolist())),
        {"raw": torch.tensor(mono, requires_grad=True), "sampling_rate": rate},
        {"audio": {"path": "clip.wav", "array": mono, "sampling_rate": rate}, "label": 3},
        decoder,
        {"audio": decoder},
    ]
    for scores in mel(clips):
        assert as_dict(scores) == pytest.approx(expected, abs=1e-5)


def test_rows_of_a_dataset_are_files_whatever_decodes_them(mel, tmp_path):
    paths = [tmp_path / f"{seed}.wav" for seed in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(encode(sound(0.4, 16000, seed), 16000))
    dataset = Dataset.from_dict({"audio": list(map(str, paths)), "label": [0, 1, 2]})
    decoding, plain = (dataset.cast_column("audio", Audio(decode=decode)) for decode in (True, False))
    expected = mel(paths)
    assert mel(plain[0]) == mel(plain[0]["audio"]) == expected[0]
    assert list(mel(row for row in plain)) == mel(plain.to_list()) == expected
    for whole in (dataset, decoding, plain, decoding.to_iterable_dataset(), plain.with_format("torch")):
        assert list(mel(whole)) == expected
    with pytest.raises(ValueError, match=r"^expected a clip, found a DatasetDict of train; give a path"):
        mel(DatasetDict(train=plain))
    with pytest.raises(ValueError, match=r"^expected a clip, found a dict of label; give a path"):
        list(mel(plain.remove_columns("audio")))


@pytest.mark.parametrize("kind", ["loose", "zip", "tar"])
def test_a_folder_that_is_streamed_needs_no_torchcodec(kind, mel, tmp_path):
    clips = tmp_path / "loose"
    clips.mkdir()
    (clips / "0.wav").write_bytes(encode(sound(0.4, 16000), 16000))
    if kind != "loose":
        shutil.make_archive(str(tmp_path / kind / "x"), kind, clips, "0.wav")
    dataset = load_dataset(str(tmp_path / kind), split="train", streaming=True)
    assert list(mel(dataset)) == [mel(clips / "0.wav")]


def test_all_labels_are_given_unless_fewer_are_asked_for(mel):
    clip = {"array": sound(0.3, 44100), "sampling_rate": 44100}
    scores = mel(clip)
    assert sum(item["score"] for item in scores) == pytest.approx(1)
    assert as_dict(scores).keys() == set(mel.model.config.id2label.values())
    assert mel(clip, top_k=2) == scores[:2]
    assert mel([clip], top_k=1) == [scores[:1]]
    assert mel([]) == []


@settings(max_examples=5, deadline=None)
@given(lengths=st.lists(st.integers(500, 20000), min_size=2, max_size=5))
def test_a_score_does_not_depend_on_batch_mates(lengths, waveform):
    clips = [
        {"array": sound(1.25, 16000, seed)[:length], "sampling_rate": 16000} for seed, length in enumerate(lengths)
    ]
    for clip, scores in zip(clips, waveform(clips, batch_size=len(clips)), strict=True):
        assert as_dict(scores) == pytest.approx(by_hand(waveform, clip["array"][:16000]), abs=1e-5)


def test_no_more_is_heard_than_what_the_model_was_trained_on(waveform):
    clip = sound(1.5, 16000)
    assert waveform.feature_extractor.num_samples == 16000
    scores = as_dict(waveform({"array": clip, "sampling_rate": 16000}))
    assert scores == pytest.approx(by_hand(waveform, clip[:16000]), abs=1e-5)
    assert scores != pytest.approx(by_hand(waveform, clip), abs=1e-4)
    clip[:16000] = 0
    with pytest.raises(ValueError, match=r"^<array>: expected sound in its first 1.00 s, .*, found silence; replace"):
        waveform({"array": clip, "sampling_rate": 16000})


NOISE = sound(0.3, 44100)


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        (NOISE, r"^expected the sampling rate with the samples, found a bare array; give .*'sampling_rate': rate"),
        (torch.tensor(NOISE), r"^expected the sampling rate with the samples, found a bare array; give "),
        ((NOISE, 44100), r"^expected a clip, found a tuple; give a path, the bytes of a file"),
        ([0.1, 0.2], r"^expected a clip, found a float; give a path"),
        ({"audio": None}, r"^expected a clip, found a NoneType; give a path"),
        ({"bytes": None, "path": None}, r"^<bytes>: expected bytes or a path in the audio column, found neither; "),
        ({"array": NOISE}, r"^<array>: expected a sampling_rate of 1000 to 768000 Hz with .*, found none; give the"),
        ({"array": NOISE, "sampling_rate": 44.1}, r"^<array>: expected a sampling_rate of .*, found 44.1; give"),
        ({"array": NOISE, "sampling_rate": 11025.5}, r"^<array>: expected a sampling_rate of .*, found 11025.5; give"),
        (
            {"array": NOISE, "sampling_rate": float("nan")},
            r"^<array>: expected a sampling_rate of .*, found nan; give",
        ),
        ({"array": NOISE, "sampling_rate": "44100"}, r"^<array>: expected a sampling_rate of .*, found '44100'; give"),
    ],
)
def test_what_leaves_room_for_guesses_is_refused(clip, sentence, mel):
    with pytest.raises(ValueError, match=sentence):
        mel(clip)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (
            NOISE.reshape(2, -1),
            r"shape \(samples,\) or \(samples, channels\), found shape \(2, 6615\); transpose it or",
        ),
        (NOISE[None, None], r"found shape \(1, 1, 13230\); transpose it or average its channels\.$"),
        ((NOISE * 32767).astype(np.int16), r"floating-point samples, found int16; scale them .* is / 32768\.$"),
        (NOISE * 32767, r"samples whose full scale is 1, found a peak of 163\d\d(\.\d+)?; scale it, by 1 / 32768 if"),
        (
            np.where(np.arange(13230) < 3, np.nan, NOISE),
            r"finite samples, found 3 NaN or infinite samples; replace the",
        ),
        (
            np.where(np.arange(13230) < 2, np.inf, NOISE),
            r"finite samples, found 2 NaN or infinite samples; replace the",
        ),
        (NOISE[:0], r"at least one sample, found 0 samples; replace the clip or leave it out\.$"),
        (NOISE[:1000], r"at least 25 ms of sound, found 22.7 ms; replace"),
        (NOISE / 2**14, r"found silence; replace"),
        (0 * NOISE, r"sound in its first 0.30 s, which the model takes, found silence; replace"),
        (0 * NOISE + 0.25, r"found silence; replace"),
    ],
)
def test_an_array_without_a_certain_answer_is_refused(array, sentence, mel):
    with pytest.raises(ValueError, match=f"^burst.wav: expected .*{sentence}"):
        mel({"path": "clips/burst.wav", "array": array, "sampling_rate": 44100})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"expected sound, found an empty file \(0 bytes\)"),
        (b"no sound at all", r"expected WAV, FLAC, OGG, MP3 .*, found no readable audio"),
        (encode(NOISE, 44100)[:-9000], r"expected the 26460 bytes of sound of its header, found only 17460"),
        (encode(0 * NOISE, 44100, format="MP3"), r"expected sound in its first 0.30 s, .*, found silence"),
        (encode(np.stack([NOISE, -NOISE], axis=1), 44100), r"expected sound .*, found silence"),  # cancelled
        (encode(NOISE * np.nan, 44100, subtype="FLOAT"), r"expected finite samples, found 13230 NaN"),
    ],
)
def test_a_bad_file_is_named_in_a_sentence_for_those_who_write_python(content, sentence, mel, tmp_path):
    path = tmp_path / "burst.wav"
    path.write_bytes(content)
    for clip, name in ((path, "burst.wav"), (content, "<bytes>")):
        with pytest.raises(ValueError, match=rf"^{name}: {sentence}.*; replace the (clip|file).*\.$"):
            mel(clip)
    path.unlink()
    with pytest.raises(
        ValueError, match=r"^burst.wav: expected an audio file, found no file at .*; check the path\.$"
    ):
        mel(path)


def test_scores_that_are_no_numbers_are_not_given(waveform):
    clip = {"array": NOISE, "sampling_rate": 44100}
    bias = waveform.model.classifier.bias
    before = bias.detach().clone()
    bias.data[1] = float("nan")
    with pytest.raises(ValueError, match=r"^expected finite scores of a clip, found NaN or infinite ones; check"):
        waveform(clip)
    bias.data.copy_(before)
    assert len(waveform(clip)) == 3


def test_pickled_weights_are_refused(trained, tmp_path):
    folder = shutil.copytree(trained["mlp"], tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"^expected weights as model.safetensors in .*, found none; convert them"):
        load_classifier(folder)


def test_a_checkpoint_of_ours_needs_no_trust_and_its_copy_of_the_code_is_not_run(trained, tmp_path):
    folder = shutil.copytree(trained["mlp"], tmp_path / "copy")
    assert "auto_map" in json.loads((folder / "config.json").read_text())
    for file in folder.glob("*.py"):
        file.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    clip = {"array": NOISE, "sampling_rate": 44100}
    assert load_classifier(folder)(clip) == load_classifier(trained["mlp"])(clip)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("file", "kind", "auto_class"),
    [
        ("config.json", "model_type", "AutoConfig"),
        ("preprocessor_config.json", "feature_extractor_type", "AutoFeatureExtractor"),
    ],
)
def test_foreign_code_is_refused_and_not_run(file, kind, auto_class, trained, tmp_path):
    folder = shutil.copytree(trained["mlp"], tmp_path / "evil")
    foreign = {kind: "evil", "auto_map": {auto_class: "evil.Evil"}}
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | foreign))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Evil: pass\n")
    sentence = (
        r"^expected a checkpoint whose class is in transformers or hf_vivae, found code of its own in .*; read that"
    )
    with pytest.raises(ValueError, match=sentence):
        load_classifier(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("device", ["meta", torch.device("meta"), "warp"])
def test_a_device_that_gives_no_scores_is_refused(device, trained):
    with pytest.raises(ValueError, match=rf"^expected a device that is here, .*, found '{device}' \(.*\); leave"):
        load_classifier(trained["mlp"], device=device)


def test_a_revision_of_a_folder_is_refused(trained):
    with pytest.raises(ValueError, match=r"^expected a Hub id \(owner/name\) with revision 'v1', found the folder"):
        load_classifier(trained["mlp"], revision="v1")


@pytest.mark.gpu
def test_a_gpu_is_used_where_there_is_one_and_hears_the_same(trained):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    clip = {"array": NOISE, "sampling_rate": 44100}
    for folder in trained.values():
        classify = load_classifier(folder)
        assert classify.device.type == "cuda"
        assert as_dict(classify(clip)) == pytest.approx(as_dict(load_classifier(folder, device="cpu")(clip)), abs=1e-4)

"""A clip is read, hashed and decoded once; one that changes while its corpus is used is refused."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from runner import flags, run

from hf_vivae import audio
from hf_vivae.corpus import decoded, read_folder
from hf_vivae.corpus.schema import clip_digests
from hf_vivae.features import cache
from hf_vivae.features.cache import BATCH, build_features
from hf_vivae.models import build_feature_extractor
from hf_vivae.validation import UserError

RATE = 44100
CLIPS = 2 * BATCH


def write_clip(file: Path, seed: int, samples: int = 600) -> None:
    soundfile.write(file, np.random.default_rng(seed).uniform(-0.5, 0.5, samples), RATE)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Labelled clips `a/00.wav` to `b/63.wav`."""
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "cache"))
    for number in range(CLIPS):
        file = tmp_path / "clips" / ("a" if number < BATCH else "b") / f"{number:02}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_clip(file, number)
    return tmp_path / "clips"


def features_of(dataset) -> np.ndarray:
    extractor = build_feature_extractor("mlp", num_samples=600)
    rows = build_features(dataset, extractor).with_format("numpy")
    return rows[:][extractor.model_input_names[0]]


def replace(file: Path) -> None:
    write_clip(file, 1000)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


CHANGES = [
    (replace, "a changed file"),
    (truncate, "a changed file"),
    (Path.unlink, r"none \(No such file or directory\)"),
]


def refused(found: str):
    start = f"expected clips that do not change while they are used, found {found} in place of b/63.wav"
    remedy = "let the program that writes the clips finish, and load them again"
    return pytest.raises(UserError, match=rf"^{start}, which was checked before; {remedy}\.$")


@pytest.mark.parametrize(("change", "found"), CHANGES)
@pytest.mark.parametrize("hashed", [False, True], ids=["before its digest", "after its digest"])
def test_a_clip_that_changes_before_its_features_are_computed_is_refused(change, found, hashed, folder):
    corpus = read_folder(folder)
    if hashed:
        clip_digests(corpus.dataset)
    change(folder / "b" / "63.wav")
    with refused(found):
        features_of(corpus.dataset)
    assert not list((folder.parent / "cache").rglob("*.arrow"))


@pytest.mark.parametrize(("change", "found"), CHANGES)
def test_a_clip_that_changes_while_features_are_computed_leaves_none_of_them(change, found, folder, monkeypatch):
    dataset, decode, batches = read_folder(folder).dataset, cache.decode_batch, []

    def decode_and_change(*args) -> list:
        clips = decode(*args)
        batches.append(len(clips))
        if len(batches) == 2:  # the first batch of the file, after that of the types
            change(folder / "b" / "63.wav")
        return clips

    with monkeypatch.context() as changing:
        changing.setattr(cache, "decode_batch", decode_and_change)
        with refused(found):
            features_of(dataset)
    assert batches == [1, BATCH]
    assert not list((folder.parent / "cache" / "features").iterdir())
    write_clip(folder / "b" / "63.wav", 63)
    whole = features_of(read_folder(folder).dataset)
    copy = read_folder(shutil.copytree(folder, folder.parent / "copy")).dataset
    shutil.rmtree(folder.parent / "cache")
    np.testing.assert_array_equal(whole, features_of(copy))


def test_a_changed_clip_is_another_one_to_a_corpus_that_is_read_again(folder):
    before = features_of(read_folder(folder).dataset)
    replace(folder / "b" / "63.wav")
    after = features_of(read_folder(folder).dataset)
    np.testing.assert_array_equal(after[:-1], before[:-1])
    assert (after[-1] != before[-1]).any()


def test_kept_samples_belong_to_the_digest_of_the_same_bytes(folder):
    """A clip that is replaced between its check and its features has the features of what was checked."""
    expected = features_of(read_folder(folder).dataset)
    shutil.rmtree(folder.parent / "cache")
    with decoded.decode_once(folder.parent):
        dataset = read_folder(folder).dataset
        clip_digests(dataset)
        replace(folder / "b" / "63.wav")
        np.testing.assert_array_equal(features_of(dataset), expected)


@pytest.mark.parametrize(("kind", "cut"), [("WAV", False), ("FLAC", False), ("MP3", False), ("MP3", True)])
def test_length_and_samples_are_of_one_decoding(kind, cut, monkeypatch):
    """Also of an MP3 whose header does not give the length, here without its first frame."""
    file, mode = io.BytesIO(), {"bitrate_mode": "CONSTANT", "compression_level": 0.3} if kind == "MP3" else {}
    soundfile.write(file, np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE, format=kind, **mode)
    data = file.getvalue()
    data = data[data.index(data[:2], data.index(b"Info")) :] if cut else data
    expected, info = audio.load(data)[0], audio.inspect(data)
    assert (info.samples, info.channels) == (len(expected), 1)
    decoded_samples, read = [], audio.Sound.read

    def count(sound, samples: int) -> np.ndarray:
        piece = read(sound, samples)
        decoded_samples.append(len(piece))
        return piece

    monkeypatch.setattr(audio.Sound, "read", count)
    samples, found = decoded.load_with_info(data, "clip")
    assert found == info
    np.testing.assert_array_equal(samples, expected)
    assert decoded_samples == [len(expected)]


@pytest.mark.parametrize("limit", [2**30, 0], ids=["kept", "above the limit"])
def test_files_are_read_and_hashed_as_often_as_they_are_decoded(limit, tiny_vivae, tmp_path, monkeypatch):
    """Once for a whole cold run; clips above the limit are decoded again for features, but not for their peaks."""
    hashed, decodings, load, sha256 = [], [], audio.load, decoded.hashlib.sha256
    names = sorted(path.name for path in (tiny_vivae / "full_set").iterdir())

    class Hashes:
        @staticmethod
        def sha256(content: bytes = b""):
            hashed.extend([content] if content.startswith(b"RIFF") else [])  # not of names
            return sha256(content)

        @staticmethod
        def file_digest(*_):
            pytest.fail("a file is read for its digest alone")

    def count(source, sampling_rate=None, name=None):
        decodings.append(name)
        return load(source, sampling_rate, name)

    monkeypatch.setattr(decoded, "hashlib", Hashes)
    monkeypatch.setattr(audio, "load", count)
    monkeypatch.setattr(decoded, "MAX_BYTES", limit)
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "cache"))
    argv = flags(tiny_vivae, tmp_path / "run", "mlp", "--num_train_epochs", "1")
    run(argv)
    # the types of the features are those of the first clip, which is computed for them alone
    again = [] if limit else [names[0], *names]
    assert sorted(decodings) == sorted([*names, *again])
    assert len(hashed) == len(decodings)
    decodings.clear()
    hashed.clear()
    run([*argv, "--output_dir", str(tmp_path / "warm")])
    assert sorted(decodings) == names
    assert len(hashed) == len(names)

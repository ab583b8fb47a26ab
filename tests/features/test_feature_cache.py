"""Clips are decoded once; cached features are used again, and damaged ones computed again with a warning."""

import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from runner import flags, run

from hf_vivae import audio
from hf_vivae.corpus import decoded
from hf_vivae.features.cache import BATCH, cached_map, release_pages
from hf_vivae.files import DiskError

ROWS = 3 * BATCH


class Counted:
    """Features of rows by their numbers; `rows` counts those that were computed for the cache."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, batch: dict) -> dict:
        self.rows += len(batch["number"])
        return {"values": [np.full(50, number, dtype=np.float32) for number in batch["number"]]}

    def read(self) -> list[float]:
        dataset = datasets.Dataset.from_dict({"number": list(range(ROWS))})
        kept = cached_map(dataset, self, key=("key",), desc="test").with_format("numpy")
        return [float(values[0]) for values in kept["values"]]


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """Of whole features in the cache."""
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path))
    assert Counted().read() == list(range(ROWS))
    [file] = (tmp_path / "features").iterdir()
    return file


def test_what_is_whole_is_not_computed_again(file, caplog):
    again = Counted()
    assert again.read() == list(range(ROWS))
    assert (again.rows, caplog.messages) == (0, [])


@pytest.mark.parametrize("kind", ["empty", "half", "a batch less", "other bytes", "text"])
def test_what_is_damaged_is_computed_again_with_one_warning_that_names_it(file, caplog, kind):
    whole = file.read_bytes()
    damaged = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "a batch less": whole[: whole.rindex(b"\xff\xff\xff\xff", 0, -8)],  # which Arrow takes for a whole file
        "other bytes": whole.replace(b"float32", b"flaot32"),
        "text": b"hello",
    }[kind]
    file.write_bytes(damaged)
    again = Counted()
    assert again.read() == list(range(ROWS))
    assert again.rows >= ROWS
    [message] = caplog.messages
    assert message.startswith(f"{file} is damaged (")
    assert message.endswith("): it is computed again.")
    assert file.read_bytes() == whole


def test_who_reads_a_file_keeps_it_while_another_is_computed(file):
    """A process that has the damaged file open has the old bytes to its end; a new one has a new file."""
    with file.open("rb") as reading:
        file.write_bytes(file.read_bytes()[:1000])
        Counted().read()
        assert len(reading.read()) == 1000
    assert file.stat().st_size > 1000


@pytest.mark.skipif(sys.platform != "linux", reason="memory of mappings is listed by Linux")
def test_memory_of_features_that_were_read_is_given_back(tmp_path, monkeypatch):
    def resident() -> int:
        blocks = Path("/proc/self/smaps").read_text().split("VmFlags")
        return sum(int(block.split("Rss:")[1].split()[0]) for block in blocks if str(tmp_path) in block)

    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "link"))
    (tmp_path / "place").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "place")
    dataset = datasets.Dataset.from_dict({"number": list(range(ROWS))})
    wide = lambda batch: {"values": [np.full(9000, number, np.float32) for number in batch["number"]]}  # noqa: E731
    kept = cached_map(dataset, wide, key=("key",), desc="test").with_format("numpy")
    before = kept["values"][:]
    assert resident() > 3000  # KiB
    release_pages()
    assert resident() < 300
    assert np.array_equal(kept["values"][:], before)


def test_a_cache_that_cannot_be_made_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "file"))
    message = rf"^expected a folder to write to, found {tmp_path}/file/features \(Not a directory\); free some room or"
    with pytest.raises(DiskError, match=message):
        Counted().read()


@pytest.mark.parametrize(("name", "measures"), [("vit-32-30", True), ("wav2vec2", False)])
def test_a_cold_run_decodes_each_clip_once(name, measures, tiny_vivae, tmp_path, monkeypatch, undrawn):
    """Checks, peaks, features and augmentation take the samples of one decoding."""
    names, descriptions, load, cache = [], [], audio.load, tmp_path / "cache"

    def count(source, sampling_rate=None, name=None):
        names.append(name)
        return load(source, sampling_rate, name)

    def describe(*args, desc, **more):
        descriptions.append(desc)
        return cached_map(*args, desc=desc, **more)

    monkeypatch.setattr(audio, "load", count)
    monkeypatch.setattr("hf_vivae.features.cache.cached_map", describe)
    monkeypatch.setenv("HF_VIVAE_CACHE", str(cache))
    run(flags(tiny_vivae, tmp_path / "run", name, "--num_train_epochs", "1", "--augment", '{"gain_db": 6}'))
    assert sorted(names) == sorted(path.name for path in (tiny_vivae / "full_set").iterdir())
    assert ("Measuring clips" in descriptions) == measures
    assert [path.name for path in cache.iterdir()] == ["features"], "the samples are removed at the end of the run"


def test_samples_above_the_limit_or_with_no_folder_to_write_to_are_decoded_again(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    clips = {tmp_path / name: rng.uniform(-1, 1, 500).astype(np.float32) for name in ("a.wav", "b.wav")}
    for file, samples in clips.items():
        soundfile.write(file, samples, 8000, subtype="FLOAT")
    calls, load = [], audio.load
    monkeypatch.setattr(audio, "load", lambda *args, **more: calls.append(args) or load(*args, **more))
    monkeypatch.setattr(decoded, "MAX_BYTES", 500 * 4)  # of one clip
    for folder, decodings in ((tmp_path / "new", 3), (tmp_path / "a.wav", 4)):
        calls.clear()
        with decoded.decode_once(folder):
            for file, samples in 2 * list(clips.items()):
                found, rate = decoded.load_clip(file)
                assert rate == 8000
                np.testing.assert_array_equal(found, samples)
                found *= 0  # which must not change the samples of the next call
        assert len(calls) == decodings

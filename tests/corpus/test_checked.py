"""Clips that were decoded without a fault are read and hashed by later commands, and not decoded to check them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_vivae import audio
from hf_vivae.corpus import CorpusError, read_folder
from hf_vivae.corpus.schema import clip_digests

RATE = 8000


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Four clips of two labels, `a/0.flac` to `b/3.flac`."""
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        file = tmp_path / "clips" / "aabb"[number] / f"{number}.flac"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, np.random.default_rng(number).uniform(-0.5, 0.5, RATE + number), RATE)
    return tmp_path / "clips"


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    names, load = [], audio.load

    def count(source, sampling_rate=None, name=None):
        names.append(name)
        return load(source, sampling_rate, name)

    monkeypatch.setattr(audio, "load", count)
    return names


def test_a_corpus_is_the_same_without_decoding_it_again(folder, decoded):
    first = read_folder(folder).dataset
    assert decoded == ["a/0.flac", "a/1.flac", "b/2.flac", "b/3.flac"]
    decoded.clear()
    again = read_folder(folder).dataset
    assert decoded == []
    assert again.features == first.features
    assert again[:] == first[:]
    assert clip_digests(again) == clip_digests(first)


def test_other_content_under_a_known_name_is_decoded(folder, decoded):
    read_folder(folder)
    (folder / "a" / "0.flac").write_bytes((folder / "b" / "2.flac").read_bytes())
    soundfile.write(folder / "b" / "2.flac", np.full(500, 0.1), RATE)
    decoded.clear()
    assert read_folder(folder).dataset["duration"][:] == [
        (RATE + 2) / RATE,
        (RATE + 1) / RATE,
        500 / RATE,
        1 + 3 / RATE,
    ]
    assert decoded == ["b/2.flac"]


def test_bad_clips_are_refused_each_time_and_good_ones_decoded_once(folder, decoded):
    file = folder / "b" / "3.flac"
    file.write_bytes(file.read_bytes()[:-2000])
    for names in (["a/0.flac", "a/1.flac", "b/2.flac", "b/3.flac"], ["b/3.flac"]):
        with pytest.raises(CorpusError, match=r"1 bad audio \(b/3.flac: expected .*, found .*damaged"):
            read_folder(folder)
        assert decoded == names
        decoded.clear()


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"x": [1]}', b'{"x": [0, 8000, 1]}', b'{"x": null}'])
def test_a_damaged_list_is_written_again_with_a_warning(damage, folder, decoded, caplog):
    read_folder(folder)
    [file] = (folder.parent / "cache").iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage)
    decoded.clear()
    read_folder(folder)
    assert len(decoded) == 4
    [message] = caplog.messages
    assert message.startswith(f"{file} is damaged (")
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_to_is_a_warning(folder, caplog):
    (folder.parent / "cache").write_bytes(b"")
    assert len(read_folder(folder).dataset) == 4
    [message] = caplog.messages
    assert message.startswith(f"The next command decodes all clips again: {folder.parent / 'cache'}")

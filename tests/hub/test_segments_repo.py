"""Segments of recordings as a dataset repository: cut there, with the samples, folds and features of the corpus."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from dataset_repos import write

from hf_vivae.audio import load
from hf_vivae.corpus import Corpus, read_hub_dataset, read_segments
from hf_vivae.splits import make_folds

RATE = 8000


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    """Segments of four recordings: 16 bits, stereo, floats above full scale, and MP3."""
    rng, root = np.random.default_rng(0), tmp_path / "recordings"
    root.mkdir()
    samples = rng.integers(-(2**15), 2**15, (RATE, 2), np.int16)
    samples[:2] = -(2**15), 2**15 - 1
    soundfile.write(root / "a.wav", samples[:, 0], RATE)
    soundfile.write(root / "b.flac", samples, RATE)
    soundfile.write(root / "c.wav", 1.5 * samples / 2**15, RATE, subtype="FLOAT")
    soundfile.write(root / "d.mp3", 0.1 * samples / 2**15, RATE)
    lines = [f"{file},{times}" for file in "abcd" for times in ("0,0.3,cry", "0.5,0.8,laugh")]
    (root / "all.csv").write_text("\n".join(["file,start,end,label", *lines]))
    return read_segments(root)


def test_segments_are_cut_and_come_back(corpus, tmp_path):
    folder = write(corpus, tmp_path / "repo")
    rows = [row for file in sorted((folder / "data").iterdir()) for row in pq.read_table(file).to_pylist()]
    sounds = {row["file"]: row["audio"] for row in rows}
    assert [sounds[f"{name}#t=0.500,0.800"]["path"] for name in ("a.wav", "d.mp3")] == [
        "a.wav#t=0.500,0.800.wav",
        "d.mp3#t=0.500,0.800.wav",
    ]
    for row in corpus.dataset:
        samples, rate = load(sounds[row["file"]])
        np.testing.assert_array_equal(samples, load(row["audio"])[0])
        assert rate == RATE
    assert len(sounds["a.wav#t=0.000,0.300"]["bytes"]) == 44 + 2 * 2400  # 16 bits
    again = read_hub_dataset(str(folder)).dataset
    for column in ("file", "recording", "speaker", "emotion", "item", "duration"):
        assert again[column][:] == corpus.dataset[column][:]
    folds = [make_folds(dataset, "speaker-k-fold", [0, 1] * 4, 42) for dataset in (again, corpus.dataset)]
    assert folds[0] == folds[1]
    card = (folder / "README.md").read_text()
    assert "| `recording` | string | name of the recording" in card
    assert "byte for byte" not in card

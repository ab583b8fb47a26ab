"""Folders of clips for the tests of the exploration."""

from pathlib import Path

import numpy as np
import soundfile

from hf_vivae.corpus import load_corpus
from hf_vivae.corpus.schema import Corpus
from hf_vivae.exploration import figures

CORPUS_FIGURES = {key for key in figures.FIGURES if key.startswith("figure_")}


def clips_in(root: Path, rates: tuple[int, ...] = (16000,), clips: int = 32, metadata: str | None = None) -> Corpus:
    """Return a corpus of 16 classes; clip k has 100 (k + 1) samples, and the rates are used in turn."""
    for index in range(clips):
        file = root / f"class-{index % 16:02d}" / f"clip_{index}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        wave = 0.5 * np.sin(np.arange(100 * (index + 1)) / 5)
        soundfile.write(file, wave, rates[index % len(rates)])
    if metadata:
        (root / "metadata.csv").write_text(metadata)
    return load_corpus("folder", data_dir=root)

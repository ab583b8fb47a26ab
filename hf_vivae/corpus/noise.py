"""A control for every pipeline: VIVAE's 1085 names over white Gaussian noise.

Sound, level and length of a clip depend on the seed and its name only, so there is nothing to learn about emotion,
speaker or intensity: a score off chance says that clips of the test set were seen before, or scored with their labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .generated import generate_corpus, random_stream, typical_samples
from .manifest import read_manifest

VERSION = "v1"  # of the noise; another one needs another cache folder
STANDARD_DEVIATION = 0.1  # of full scale, -20 dB: ten of them below clipping


def make_noise_corpus(seed: int = 0, cache_dir: str | Path | None = None) -> Path:
    """The folder that holds `full_set/` with all 1085 clips; made on the first call, afterwards found in the cache.

    Args:
        seed: another seed, of at least 0, gives other noise and other lengths.
        cache_dir: by default that of `hf_vivae.corpus.download.cache_folder`.

    Raises:
        ValueError: for a seed below 0.
    """
    names = [row["file_name"] for row in read_manifest()]
    return generate_corpus("noise", VERSION, seed, cache_dir, names, noise_clip)


def noise_clip(name: str, seed: int = 0) -> np.ndarray:
    """The noise of that name, `(samples,)` at 44.1 kHz, of a length drawn from about VIVAE's distribution."""
    rng = random_stream(seed, "noise", name)
    return STANDARD_DEVIATION * rng.standard_normal(typical_samples(rng.random()))

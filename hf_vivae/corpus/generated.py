"""The corpus of white noise, and functions that all generated corpora share: cache, random streams, durations."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import soundfile
from filelock import FileLock
from scipy.special import ndtr, ndtri
from tqdm.auto import tqdm

from ..files import CACHE_REMEDY, cache_folder, disk_errors, make_folder
from ..validation import UserError
from .manifest import LONGEST, SAMPLING_RATE, SHORTEST, read_manifest

NOISE_VERSION = "v1"  # part of the folder name in the cache; a change of the noise needs a new one
NOISE_SD = 0.1  # standard deviation relative to full scale, -20 dB: clipping starts at ten standard deviations
# Durations: a log-normal distribution, truncated at VIVAE's shortest and longest clip, with parameters that result in
# VIVAE's median and mean. VIVAE's standard deviation is not published.
LOG_DURATION_MEAN, LOG_DURATION_SD = np.log(32_918), 0.6375
MIN_RECOGNIZED = 10  # clips; the lengths or samples of fewer may match those of generated clips by chance


def make_noise_corpus(seed: int = 0, cache_dir: str | Path | None = None) -> Path:
    """Return the folder with `full_set/` and its 1085 clips of noise, which are generated on the first call.

    Args:
        seed: seed of the noise and its lengths, at least 0.
        cache_dir: by default that of `hf_vivae.files.cache_folder`.

    Raises:
        UserError: for a seed below 0.
    """
    names = [row["file_name"] for row in read_manifest()]
    return generate_corpus("noise", NOISE_VERSION, seed, cache_dir, names, noise_clip)


def noise_clip(name: str, seed: int = 0) -> np.ndarray:
    """Return the noise for a file name, `(samples,)` at 44.1 kHz, with a random length (see `typical_samples`)."""
    rng = random_stream(seed, "noise", name)
    return NOISE_SD * rng.standard_normal(typical_samples(rng.random()))


def generate_corpus(
    kind: str,
    version: str,
    seed: int,
    cache_dir: str | Path | None,
    names: Collection[str],
    make_clip: Callable[[str, int], np.ndarray],
) -> Path:
    """Return the folder with `full_set/` and all clips of a corpus, which are generated on the first call.

    Args:
        kind: name of the corpus, and of its folder in the cache.
        version: version of `make_clip`, part of the folder's name.
        seed: at least 0.
        cache_dir: by default that of `hf_vivae.files.cache_folder`.
        names: file names of the clips.
        make_clip: function of name and seed that returns `(samples,)` at 44.1 kHz, between -1 and 1.

    Raises:
        UserError: for a seed below 0, and where the clips are not in the cache and cannot be written to it.
    """
    check_seed(seed)
    folder = Path(cache_dir or cache_folder(), kind, f"seed-{seed}-{version}")
    if not folder.exists():
        make_folder(folder.parent, CACHE_REMEDY)
        with disk_errors(folder.parent, CACHE_REMEDY), FileLock(f"{folder}.lock"):
            if not folder.exists():  # another process may have made it while this one waited
                # Only a complete corpus gets its name; the rest of a killed process is deleted by the next one.
                partial = Path(f"{folder}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                try:
                    (partial / "full_set").mkdir(parents=True)
                    for name in tqdm(names, desc=f"{kind} clips", unit="clip"):
                        pcm = np.rint(make_clip(name, seed) * 32767).astype(np.int16)
                        soundfile.write(partial / "full_set" / name, pcm, SAMPLING_RATE, subtype="PCM_16")
                    os.replace(partial, folder)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    return folder


def check_seed(seed: int) -> None:
    """Refuse a seed below 0.

    Raises:
        UserError: for such a seed, with the name of its flag.
    """
    if seed < 0:
        raise UserError(f"expected a seed of at least 0, found {seed}; give another with --synthetic_seed.")


def random_stream(seed: int, *keys: str) -> np.random.Generator:
    """Return a generator that depends on the seed and the keys only, not on earlier draws."""
    digest = hashlib.sha256("/".join(keys).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])


def typical_samples(shares: float | np.ndarray) -> np.ndarray:
    """Return quantiles of the lengths of clips in samples, whose distribution is close to VIVAE's.

    Args:
        shares: shares of the clips that are shorter, each between 0 and 1.
    """
    shortest, longest = ndtr((np.log([SHORTEST, LONGEST]) - LOG_DURATION_MEAN) / LOG_DURATION_SD)
    scores = ndtri(shortest + (longest - shortest) * shares)
    return np.rint(np.exp(LOG_DURATION_MEAN + LOG_DURATION_SD * scores)).astype(int)


def recognize_generated(samples: Sequence[int], deviations: Sequence[float], steps: Sequence[float]) -> str | None:
    """Return the name of the generated corpus, synthetic or noise, that clips with VIVAE's names belong to, or None.

    All seeds of `synthetic` have the same 1085 lengths, and each clip of `noise` is white. So copies and parts of
    these corpora are recognized by their samples alone, in any folder and with any seed.

    Args:
        samples: length of each clip at 44.1 kHz.
        deviations: standard deviation of each clip's samples.
        steps: standard deviation of the differences between each clip's neighbouring samples.
    """
    if len(samples) < MIN_RECOGNIZED:
        return None
    if not Counter(samples) - Counter(typical_samples(np.linspace(0.0, 1.0, len(read_manifest()))).tolist()):
        return "synthetic"
    # for white noise, the ratio of the two is the root of 2; 3 % are 8 standard errors for the shortest clip
    white = min(deviations) > 0 and np.allclose(steps, np.sqrt(2) * np.array(deviations), rtol=0.03, atol=0)
    return "noise" if white else None


def stand_in_core(names: Sequence[str]) -> list[bool]:
    """Return for each clip whether it is in a substitute for VIVAE's core set, with as many clips of as many speakers.

    VIVAE's core set has two clips of each emotion and intensity by ten speakers; these 480 clips were selected by
    listening, and their list is not published with this package. The substitute consists of the first two names of
    each speaker, emotion and intensity of S01 to S10.
    """
    cells: dict[str, list[str]] = {}
    for name in sorted(names):
        cells.setdefault(name.rpartition("_")[0], []).append(name)
    core = {name for cell, takes in cells.items() if not cell.startswith("S11") for name in takes[:2]}
    return [name in core for name in names]

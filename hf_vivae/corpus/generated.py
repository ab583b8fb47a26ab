"""Cache of generated corpora, and the corpus of white noise."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from filelock import FileLock
from scipy.special import ndtr, ndtri
from tqdm.auto import tqdm

from ..files import CACHE_REMEDY, cache_folder, disk_errors, make_folder
from ..validation import UserError
from .manifest import LONGEST, SAMPLING_RATE, SHORTEST, read_manifest

# Durations: a log-normal distribution cut at VIVAE's shortest and longest clip, its two parameters chosen so
# that median and mean are VIVAE's. VIVAE's standard deviation is not published.
LOG_DURATION_MEAN, LOG_DURATION_SD = np.log(32_918), 0.6375
FEWEST = 10  # clips that tell who made them: fewer may agree with ours by chance


def generate_corpus(
    kind: str,
    version: str,
    seed: int,
    cache_dir: str | Path | None,
    names: Collection[str],
    make_clip: Callable[[str, int], np.ndarray],
) -> Path:
    """The folder that holds `full_set/` with all clips; made on the first call, afterwards found in the cache.

    Args:
        kind: name of the corpus, and of its folder in the cache.
        version: of `make_clip`; another one is another folder.
        seed: at least 0.
        cache_dir: by default that of `hf_vivae.corpus.download.cache_folder`.
        names: file names of the clips.
        make_clip: from name and seed to `(samples,)` at 44.1 kHz, between -1 and 1.

    Raises:
        ValueError: for a seed below 0, and where the cache lacks the clips and cannot be written to.
    """
    check_seed(seed)
    folder = Path(cache_dir or cache_folder(), kind, f"seed-{seed}-{version}")
    if not folder.exists():
        make_folder(folder.parent, CACHE_REMEDY)
        with disk_errors(folder.parent, CACHE_REMEDY), FileLock(f"{folder}.lock"):
            if not folder.exists():  # another process may have made it while this one waited
                clips = ((name, make_clip(name, seed)) for name in names)
                _build(folder, tqdm(clips, desc=f"{kind} clips", total=len(names), unit="clip"))
    return folder


def check_seed(seed: int) -> None:
    """Refuse a seed below 0.

    Raises:
        ValueError: naming the flag that gives it.
    """
    if seed < 0:
        raise UserError(f"expected a seed of at least 0, found {seed}; give another with --synthetic_seed.")


def random_stream(seed: int, *keys: str) -> np.random.Generator:
    """A generator that depends on the seed and on these words only, whatever was drawn before it."""
    digest = hashlib.sha256("/".join(keys).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])


def typical_samples(shares: float | np.ndarray) -> np.ndarray:
    """Lengths of clips in samples, for the share of clips (0 to 1) that are shorter; distributed about as VIVAE's."""
    shortest, longest = ndtr((np.log([SHORTEST, LONGEST]) - LOG_DURATION_MEAN) / LOG_DURATION_SD)
    scores = ndtri(shortest + (longest - shortest) * shares)
    return np.rint(np.exp(LOG_DURATION_MEAN + LOG_DURATION_SD * scores)).astype(int)


def find_maker(samples: Sequence[int], deviations: Sequence[float], steps: Sequence[float]) -> str | None:
    """Name of the corpus of this package that clips under VIVAE's names are from; None for those of others.

    Every seed of `synthetic` deals out the same 1085 lengths, and each clip of `noise` is white: copies and parts are
    known wherever they lie, whatever their seed, and with nothing beside them that says so.

    Args:
        samples: length of each clip at 44.1 kHz.
        deviations: standard deviation of each clip's samples.
        steps: standard deviation of the differences between each clip's neighbouring samples.
    """
    if len(samples) < FEWEST:
        return None
    if not Counter(samples) - Counter(typical_samples(np.linspace(0.0, 1.0, len(read_manifest()))).tolist()):
        return "synthetic"
    # of white sound, the ratio is the root of 2; within 3 %, the shortest clip is at 8 standard errors
    white = min(deviations) > 0 and np.allclose(steps, np.sqrt(2) * np.array(deviations), rtol=0.03, atol=0)
    return "noise" if white else None


def stand_in_core(names: Sequence[str]) -> list[bool]:
    """Whether each clip is in a core set of VIVAE's shape: two takes of each emotion and intensity by ten speakers.

    VIVAE's own 480 clips were chosen by ear, and their names are not published with this package. Ours are the first
    two names of each cell of S01 to S10.
    """
    cells: dict[str, list[str]] = {}
    for name in sorted(names):
        cells.setdefault(name.rpartition("_")[0], []).append(name)
    core = {name for cell, takes in cells.items() if not cell.startswith("S11") for name in takes[:2]}
    return [name in core for name in names]


def _build(folder: Path, clips: Iterable[tuple[str, np.ndarray]]) -> None:
    # Only a whole corpus gets its name; what a killed build left behind is thrown away by the next one.
    partial = Path(f"{folder}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "full_set").mkdir(parents=True)
    for name, clip in clips:
        pcm = np.rint(clip * 32767).astype(np.int16)
        soundfile.write(partial / "full_set" / name, pcm, SAMPLING_RATE, subtype="PCM_16")
    os.replace(partial, folder)


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

"""The embedded stand-in for VIVAE: its 1085 names, sung by the small voice of `voice.py`.

Nobody feels anything here: a score on these clips says that the code works, and nothing about VIVAE. Every
clip has its own random stream, made from the seed and its name, so it sounds the same in any process.
"""

import csv
import functools
import hashlib
import os
import shutil
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile
from datasets import Dataset
from filelock import FileLock
from huggingface_hub.constants import HF_HOME
from scipy.special import expit, ndtr, ndtri
from tqdm.auto import tqdm

from .voice import SAMPLING_RATE, Utterance, sing

VERSION = "v1"  # of the voice; a clip that sounds different needs a new one, and so a new cache folder
INTENSITIES = ("low", "moderate", "strong", "peak")

# First three formants of men's vowels, Hz: Peterson and Barney, 1952 (doi:10.1121/1.1906875).
VOWELS = {
    "i": (270, 2290, 3010),
    "ɛ": (530, 1840, 2480),
    "æ": (660, 1720, 2410),
    "ɑ": (730, 1090, 2440),
    "ɔ": (570, 840, 2410),
    "u": (300, 870, 2240),
    "ʌ": (640, 1190, 2390),
    "ɝ": (490, 1350, 1690),
}


@dataclass(frozen=True)
class Style:
    """How an emotion sounds on average; the other quantities are those of `Utterance`.

    Attributes:
        register: pitch above the speaker's own, semitones.
        attack: natural logarithm of the seconds.
        tempo: bursts per second.
        roughness: logit, so that habits and blends can be added to it.
        tilt: natural logarithm of the corner frequency in Hz.
    """

    register: float
    contour: tuple[float, ...]
    tempo: float
    gap: float
    inhale: float
    attack: float
    decay: float
    roughness: float
    tremor: float
    tremor_rate: float
    breath: float
    tilt: float
    vowels: tuple[tuple[float, ...], tuple[float, ...]]

    def towards(self, other: "Style", share: float) -> "Style":
        """The style `share` of the way (0 to 1) from this one to `other`."""
        values = ((np.asarray(getattr(style, field.name)) for style in (self, other)) for field in fields(self))
        return Style(*((1.0 - share) * own + share * others for own, others in values))


def _style(vowels: str, attack: float, tilt: float, **quantities: float | tuple[float, ...]) -> Style:
    start, end = (VOWELS[vowel] for vowel in vowels)
    return Style(vowels=(start, end), attack=np.log(attack), tilt=np.log(tilt), **quantities)


# fmt: off
STYLES = {
    "achievement": _style("ɛæ", register=5, contour=(-1, 3, 6, 5, 1), tempo=2.6, gap=.2, inhale=.02, attack=.07,
                          decay=-3, roughness=-2.2, tremor=.3, tremor_rate=6, breath=-28, tilt=2600),
    "anger": _style("ɑɝ", register=-1, contour=(3, 3, 2, 0, -3), tempo=1.2, gap=.15, inhale=.02, attack=.02,
                    decay=-3, roughness=1.8, tremor=.2, tremor_rate=6, breath=-24, tilt=3600),
    "fear": _style("iɛ", register=10, contour=(0, 2, 4, 5, 5), tempo=4.5, gap=.35, inhale=.08, attack=.02,
                   decay=-8, roughness=-2.2, tremor=.9, tremor_rate=10, breath=-17, tilt=1800),
    "pain": _style("æʌ", register=5, contour=(6, 4, 1, -3, -6), tempo=1.2, gap=.15, inhale=.02, attack=.02,
                   decay=-12, roughness=.5, tremor=.7, tremor_rate=5, breath=-20, tilt=2000),
    "pleasure": _style("ʌɔ", register=-3, contour=(0, 1, 1, -1, -4), tempo=1.6, gap=.3, inhale=.05, attack=.18,
                       decay=-16, roughness=-2.5, tremor=.3, tremor_rate=5, breath=-10, tilt=600),
    "surprise": _style("ɔu", register=4, contour=(-5, 1, 8, 8, 4), tempo=.8, gap=.1, inhale=.28, attack=.05,
                       decay=-8, roughness=-2.5, tremor=.2, tremor_rate=6, breath=-13, tilt=1200),
}
MURMUR = _style("ʌʌ", register=-1, contour=(0, 0, 0, -1, -2), tempo=1.6, gap=.2, inhale=.06, attack=.07,
                decay=-9, roughness=-1.5, tremor=.4, tremor_rate=6, breath=-16, tilt=1200)
SCREAM = _style("æɑ", register=9, contour=(3, 5, 5, 4, 2), tempo=1.5, gap=.18, inhale=.05, attack=.03,
                decay=-5, roughness=.6, tremor=.5, tremor_rate=6, breath=-20, tilt=3000)
# fmt: on
NEIGHBOURS = {
    "achievement": "pleasure",
    "anger": "pain",
    "fear": "surprise",
    "pain": "anger",
    "pleasure": "achievement",
    "surprise": "fear",
}
# Durations: a log-normal distribution cut at VIVAE's shortest and longest clip, its two parameters chosen so
# that median (35,732) and mean (39,819 samples) are VIVAE's. VIVAE's standard deviation is not published.
SHORTEST, LONGEST = 17_619, 88_200  # samples
LOG_DURATION_MEAN, LOG_DURATION_SD = np.log(32_918), 0.6375
UNHURRIED = {"pleasure": 0.4, "anger": 0.1, "surprise": -0.4}  # standard deviations of the rank


def load_synthetic(seed: int = 0, cache_dir: Path | None = None) -> Dataset:
    """The synthetic corpus in the columns of `load_vivae`, which reads it."""
    from .vivae import load_vivae

    return load_vivae(synthesize_corpus(seed, cache_dir))


def synthesize_corpus(seed: int = 0, cache_dir: Path | None = None) -> Path:
    """The folder that holds `full_set/` with all 1085 clips; sung on the first call, then read from the cache."""
    parent = Path(cache_dir or os.environ.get("HF_VIVAE_CACHE") or Path(HF_HOME, "hf_vivae")) / "synthetic"
    folder = parent / f"seed-{seed}-{VERSION}"
    parent.mkdir(parents=True, exist_ok=True)
    with FileLock(parent / f"{folder.name}.lock"):
        if not folder.exists():
            _build(folder, seed)
    return folder


def _build(folder: Path, seed: int) -> None:
    # Only a whole corpus is moved to its own name; what a killed build left is thrown away by the next one.
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "full_set").mkdir(parents=True)
    for name in tqdm(_manifest(), desc="synthetic clips", unit="clip"):
        pcm = np.rint(synthesize_clip(name, seed) * 32767).astype(np.int16)
        soundfile.write(partial / "full_set" / name, pcm, SAMPLING_RATE, subtype="PCM_16")
    os.replace(partial, folder)


def synthesize_clip(name: str, seed: int = 0) -> np.ndarray:
    """One clip of the corpus, `(samples,)` at 44.1 kHz between -1 and 1.

    Raises:
        ValueError: if VIVAE has no clip of that name.
    """
    if name not in _manifest():
        raise ValueError(f"expected one of the {len(_manifest())} file names of VIVAE's full_set, found {name!r}.")
    rng = _stream(seed, name)
    return sing(_utterance(name, seed, rng), rng)


@functools.cache
def _manifest() -> dict[str, tuple[str, str, str]]:
    """Speaker, emotion and intensity of each file name, in the manifest's order."""
    with files("hf_vivae.corpus").joinpath("manifest.csv").open(encoding="utf-8") as lines:
        return {r["file_name"]: (r["speaker"], r["emotion"], r["intensity"]) for r in csv.DictReader(lines)}


def _stream(seed: int, *keys: str) -> np.random.Generator:
    digest = hashlib.sha256("/".join(keys).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])


@functools.cache
def _durations(seed: int) -> dict[str, int]:
    """Samples of each clip: the same 1085 values for every seed, dealt out in another order."""
    rank = {
        name: UNHURRIED.get(emotion, 0.0) + _stream(seed, "duration", name).standard_normal()
        for name, (_, emotion, _) in _manifest().items()
    }
    ends = ndtr((np.log([SHORTEST, LONGEST]) - LOG_DURATION_MEAN) / LOG_DURATION_SD)
    scores = ndtri(np.linspace(*ends, len(rank)))
    samples = np.rint(np.exp(LOG_DURATION_MEAN + LOG_DURATION_SD * scores)).astype(int).tolist()
    return dict(zip(sorted(rank, key=rank.__getitem__), samples, strict=True))


@functools.cache
def _speaker(speaker: str, seed: int) -> dict[str, float]:
    """What stays the same in all clips of one speaker; habits are standard normal."""
    rng = _stream(seed, "speaker", speaker)
    size, pitch, *habits = rng.standard_normal(7)
    return {
        "pitch": 210.0 * 2.0 ** ((2.5 * size + 1.5 * pitch) / 12.0),
        "tract": float(np.exp(0.12 + 0.06 * size)),
        **dict(zip(("register", "roughness", "breath", "tilt", "level"), habits, strict=True)),
    }


def _utterance(name: str, seed: int, rng: np.random.Generator) -> Utterance:
    """One take: the emotion's style, blurred by intensity, coloured by the speaker, varied at random."""
    speaker, emotion, intensity = _manifest()[name]
    habit, strength = _speaker(speaker, seed), INTENSITIES.index(intensity)
    style = STYLES[emotion].towards(STYLES[NEIGHBOURS[emotion]], 0.7 * rng.beta(0.7, 3.0))
    if intensity == "low":
        style = style.towards(MURMUR, rng.uniform(0.1, 0.35))
    if intensity == "peak":
        style = style.towards(SCREAM, rng.uniform(0.1, 0.5))
    vary = rng.standard_normal
    samples = _durations(seed)[name]
    tempo = style.tempo * float(np.exp(0.2 * vary()))
    vowels = np.array(list(VOWELS.values()))[rng.integers(len(VOWELS), size=2)]
    register = style.register + 1.0 * habit["register"] + (-2, 0, 2, 4)[strength] + 2.0 * vary()
    roughness = style.roughness + 0.3 * habit["roughness"] + (-0.5, 0, 0.3, 0.6)[strength] + 0.5 * vary()
    tilt = style.tilt + 0.2 * habit["tilt"] + (-0.3, 0, 0.2, 0.4)[strength] + 0.3 * vary()
    return Utterance(
        samples=samples,
        pitch=float(np.clip(habit["pitch"] * 2.0 ** (register / 12.0), 70.0, 1200.0)),
        contour=style.contour * (0.8 + 0.4 * rng.random()) + 1.0 * vary(len(style.contour)),
        bursts=max(1, int(np.rint(tempo * (1.0 - style.inhale) * samples / SAMPLING_RATE))),
        gap=float(np.clip(style.gap + 0.08 * vary(), 0.05, 0.6)),
        inhale=float(np.clip(style.inhale + 0.05 * vary(), 0.0, 0.5)),
        attack=float(np.exp(style.attack + 0.4 * vary())),
        decay=float(min(0.0, style.decay + 3.0 * vary())),
        jitter=0.005 + 0.03 * float(expit(roughness)),
        shimmer=0.03 + 0.15 * float(expit(roughness)),
        roughness=float(expit(roughness)),
        rasp=float(rng.uniform(30.0, 80.0)),
        tremor=float(abs(style.tremor + 0.2 * vary())),
        tremor_rate=float(style.tremor_rate * np.exp(0.12 * vary())),
        breath=style.breath + 1.5 * habit["breath"] - 1.5 * strength + 3.0 * vary(),
        tilt=float(np.exp(tilt)),
        vowels=0.6 * style.vowels + 0.4 * vowels,
        tract=habit["tract"] * float(np.exp(0.03 * vary())),
        level=float(np.clip((-22, -16, -10, -5)[strength] + 2.0 * habit["level"] + 3.0 * vary(), -35.0, -1.0)),
        floor=-72.0 + 2.0 * float(habit["level"]),
    )

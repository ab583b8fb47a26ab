"""The embedded stand-in for VIVAE: its 1085 names, sung by the small voice of `voice.py`.

Nobody feels anything here: a score on these clips says that the code works, and nothing about VIVAE. Every
clip has its own random stream, made from the seed and its name, so it sounds the same in any process.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.special import expit

from ..validation import UserError
from .generated import check_seed, generate_corpus, random_stream, typical_samples
from .manifest import read_manifest
from .voice import SAMPLING_RATE, Utterance, sing

VERSION = "v1"  # of the voice; a clip that sounds different needs a new one, and so a new cache folder

# First three formants of men's vowels by their ARPAbet names, Hz: Peterson and Barney, 1952 (doi:10.1121/1.1906875).
VOWELS = {
    "iy": (270, 2290, 3010),
    "eh": (530, 1840, 2480),
    "ae": (660, 1720, 2410),
    "aa": (730, 1090, 2440),
    "ao": (570, 840, 2410),
    "uw": (300, 870, 2240),
    "ah": (640, 1190, 2390),
    "er": (490, 1350, 1690),
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
    contour: np.ndarray
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
    vowels: np.ndarray

    def towards(self, other: Style, share: float) -> Style:
        """The style `share` of the way (0 to 1) from this one to `other`."""
        values = ((getattr(style, field.name) for style in (self, other)) for field in fields(self))
        return Style(*((1.0 - share) * own + share * others for own, others in values))


def _style(vowels: str, contour: tuple[float, ...], attack: float, tilt: float, **others: float) -> Style:
    formants = np.array([VOWELS[vowel] for vowel in vowels.split()], dtype=float)
    return Style(vowels=formants, contour=np.array(contour), attack=np.log(attack), tilt=np.log(tilt), **others)


# fmt: off
STYLES = {
    "achievement": _style("eh ae", register=5, contour=(-1, 3, 6, 5, 1), tempo=2.6, gap=.2, inhale=.02, attack=.07,
                          decay=-3, roughness=-2.2, tremor=.3, tremor_rate=6, breath=-28, tilt=2600),
    "anger": _style("aa er", register=-1, contour=(3, 3, 2, 0, -3), tempo=1.2, gap=.15, inhale=.02, attack=.02,
                    decay=-3, roughness=1.8, tremor=.2, tremor_rate=6, breath=-24, tilt=3600),
    "fear": _style("iy eh", register=10, contour=(0, 2, 4, 5, 5), tempo=4.5, gap=.35, inhale=.08, attack=.02,
                   decay=-8, roughness=-2.2, tremor=.9, tremor_rate=10, breath=-17, tilt=1800),
    "pain": _style("ae ah", register=5, contour=(6, 4, 1, -3, -6), tempo=1.2, gap=.15, inhale=.02, attack=.02,
                   decay=-12, roughness=.5, tremor=.7, tremor_rate=5, breath=-20, tilt=2000),
    "pleasure": _style("ah ao", register=-3, contour=(0, 1, 1, -1, -4), tempo=1.6, gap=.3, inhale=.05, attack=.18,
                       decay=-16, roughness=-2.5, tremor=.3, tremor_rate=5, breath=-10, tilt=600),
    "surprise": _style("ao uw", register=4, contour=(-5, 1, 8, 8, 4), tempo=.8, gap=.1, inhale=.28, attack=.05,
                       decay=-8, roughness=-2.5, tremor=.2, tremor_rate=6, breath=-13, tilt=1200),
}
MURMUR = _style("ah ah", register=-1, contour=(0, 0, 0, -1, -2), tempo=1.6, gap=.2, inhale=.06, attack=.07,
                decay=-9, roughness=-1.5, tremor=.4, tremor_rate=6, breath=-16, tilt=1200)
SCREAM = _style("ae aa", register=9, contour=(3, 5, 5, 4, 2), tempo=1.5, gap=.18, inhale=.05, attack=.03,
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
# What intensity, the speaker's habits and chance add to a style's quantities, and the level of the peak in dB.
INTENSITY_SHIFTS = {
    "low": {"register": -2.0, "roughness": -0.5, "tilt": -0.3, "breath": 0.0, "level": -22.0},
    "moderate": {"register": 0.0, "roughness": 0.0, "tilt": 0.0, "breath": -1.5, "level": -16.0},
    "strong": {"register": 2.0, "roughness": 0.3, "tilt": 0.2, "breath": -3.0, "level": -10.0},
    "peak": {"register": 4.0, "roughness": 0.6, "tilt": 0.4, "breath": -4.5, "level": -5.0},
}
SPEAKER_SD = {"register": 1.0, "roughness": 0.3, "tilt": 0.2, "breath": 1.5, "level": 2.0}
TAKE_SD = {"register": 2.0, "roughness": 0.5, "tilt": 0.25, "breath": 3.0, "level": 3.0}
UNHURRIED = {"pleasure": 0.4, "anger": 0.1, "surprise": -0.4}  # standard deviations of the rank


def synthesize_corpus(seed: int = 0, cache_dir: str | Path | None = None) -> Path:
    """The folder that holds `full_set/` with all 1085 clips; sung on the first call, afterwards found in the cache.

    Args:
        seed: another seed, of at least 0, gives other speakers and other takes.
        cache_dir: by default that of `hf_vivae.corpus.download.cache_folder`.

    Raises:
        ValueError: for a seed below 0.
    """
    return generate_corpus("synthetic", VERSION, seed, cache_dir, _manifest(), synthesize_clip)


def synthesize_clip(name: str, seed: int = 0) -> np.ndarray:
    """One clip of the corpus, `(samples,)` at 44.1 kHz, between -1 and 1.

    Raises:
        ValueError: if VIVAE has no clip of that name, or for a seed below 0.
    """
    check_seed(seed)
    if name not in _manifest():
        raise UserError(
            f"expected one of the {len(_manifest())} file names of VIVAE, found {name!r}; "
            "hf_vivae.corpus.vivae.read_manifest lists them."
        )
    rng = random_stream(seed, "clip", name)
    return sing(_utterance(name, seed, rng), rng)


@functools.cache
def _manifest() -> dict[str, dict[str, str]]:
    return {row["file_name"]: row for row in read_manifest()}


@functools.cache
def _durations(seed: int) -> dict[str, int]:
    """Samples of each clip: the same 1085 values for every seed, dealt out in another order."""
    rank = {
        name: UNHURRIED.get(row["emotion"], 0.0) + random_stream(seed, "duration", name).standard_normal()
        for name, row in _manifest().items()
    }
    samples = typical_samples(np.linspace(0.0, 1.0, len(rank))).tolist()
    return dict(zip(sorted(rank, key=rank.__getitem__), samples, strict=True))


@functools.cache
def _speaker(speaker: str, seed: int) -> tuple[float, float, dict[str, float]]:
    """What all clips of a speaker share: pitch in Hz, factor on the formants, and habits as in `SPEAKER_SD`."""
    rng = random_stream(seed, "speaker", speaker)
    smallness, pitch, *habits = rng.standard_normal(2 + len(SPEAKER_SD))
    hertz = 210.0 * 2.0 ** ((2.5 * smallness + 1.5 * pitch) / 12.0)
    habits = {key: SPEAKER_SD[key] * habit for key, habit in zip(SPEAKER_SD, habits, strict=True)}
    return hertz, np.exp(0.12 + 0.06 * smallness), habits


def _blurred_style(emotion: str, intensity: str, rng: np.random.Generator) -> Style:
    """The emotion's style, a little like its neighbour's; less its own when low, and least at the peak."""
    style = STYLES[emotion].towards(STYLES[NEIGHBOURS[emotion]], 0.6 * rng.beta(0.7, 3.0))
    if intensity == "low":
        return style.towards(MURMUR, rng.uniform(0.1, 0.35))
    if intensity == "peak":
        return style.towards(SCREAM, rng.uniform(0.1, 0.45))
    return style


def _utterance(name: str, seed: int, rng: np.random.Generator) -> Utterance:
    """One take: the style, coloured by intensity and speaker, and varied at random."""
    speaker, emotion, intensity = (_manifest()[name][key] for key in ("speaker", "emotion", "intensity"))
    samples, vary = _durations(seed)[name], rng.standard_normal
    pitch, tract, habits = _speaker(speaker, seed)
    style = _blurred_style(emotion, intensity, rng)
    shift = {key: INTENSITY_SHIFTS[intensity][key] + habits[key] + TAKE_SD[key] * vary() for key in TAKE_SD}
    bursts = style.tempo * np.exp(0.2 * vary()) * (1.0 - style.inhale) * samples / SAMPLING_RATE
    roughness = expit(style.roughness + shift["roughness"])
    any_vowels = np.array(list(VOWELS.values()))[rng.integers(len(VOWELS), size=2)]
    return Utterance(
        samples=samples,
        pitch=np.clip(pitch * 2.0 ** ((style.register + shift["register"]) / 12.0), 70.0, 1200.0),
        contour=style.contour * rng.uniform(0.8, 1.2) + vary(len(style.contour)),
        bursts=max(1, round(bursts)),
        gap=np.clip(style.gap + 0.08 * vary(), 0.05, 0.6),
        inhale=np.clip(style.inhale + 0.05 * vary(), 0.0, 0.5),
        attack=np.exp(style.attack + 0.4 * vary()),
        decay=min(0.0, style.decay + 3.0 * vary()),
        jitter=0.005 + 0.03 * roughness,
        shimmer=0.03 + 0.15 * roughness,
        roughness=roughness,
        rasp=rng.uniform(30.0, 80.0),
        tremor=abs(style.tremor + 0.2 * vary()),
        tremor_rate=style.tremor_rate * np.exp(0.12 * vary()),
        breath=style.breath + shift["breath"],
        tilt=np.exp(style.tilt + shift["tilt"]),
        vowels=0.65 * style.vowels + 0.35 * any_vowels,
        tract=tract * np.exp(0.03 * vary()),
        level=np.clip(shift["level"], -35.0, -1.0),
        floor=-82.0 + habits["level"],
    )

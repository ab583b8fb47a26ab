"""The synthetic corpus: a generated substitute for VIVAE with its 1085 file names, made by the voice of `voice.py`.

The clips express no emotion of a person: a score on them shows that the code works, and nothing about VIVAE. Every
clip has its own random stream, from the seed and its name, so that its samples are the same in any process.
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
from .voice import SAMPLING_RATE, Utterance, vocalize

VERSION = "v1"  # part of the folder name in the cache; a change of the samples needs a new one

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
    """Average parameters of the clips of an emotion; attributes that are not listed here are those of `Utterance`.

    Attributes:
        register: pitch above the speaker's own, semitones.
        attack: natural logarithm of the seconds.
        tempo: bursts per second.
        roughness: logit, so that shifts can be added to it.
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

    def interpolate(self, other: Style, share: float) -> Style:
        """Return the style between this one (share 0) and the other one (share 1)."""
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
# Shifts of a style's parameters by intensity, and standard deviations of the shifts by speaker and by clip; `level` is
# the level of the clip's peak in dB.
INTENSITY_SHIFTS = {
    "low": {"register": -2.0, "roughness": -0.5, "tilt": -0.3, "breath": 0.0, "level": -22.0},
    "moderate": {"register": 0.0, "roughness": 0.0, "tilt": 0.0, "breath": -1.5, "level": -16.0},
    "strong": {"register": 2.0, "roughness": 0.3, "tilt": 0.2, "breath": -3.0, "level": -10.0},
    "peak": {"register": 4.0, "roughness": 0.6, "tilt": 0.4, "breath": -4.5, "level": -5.0},
}
SPEAKER_SD = {"register": 1.0, "roughness": 0.3, "tilt": 0.2, "breath": 1.5, "level": 2.0}
TAKE_SD = {"register": 2.0, "roughness": 0.5, "tilt": 0.25, "breath": 3.0, "level": 3.0}
# shifts of the rank by which clips receive their lengths, in standard deviations
LENGTH_SHIFTS = {"pleasure": 0.4, "anger": 0.1, "surprise": -0.4}


def synthesize_corpus(seed: int = 0, cache_dir: str | Path | None = None) -> Path:
    """Return the folder with `full_set/` and all 1085 clips, which are generated on the first call.

    Args:
        seed: seed of the speakers and takes, at least 0.
        cache_dir: by default that of `hf_vivae.files.cache_folder`.

    Raises:
        UserError: for a seed below 0.
    """
    return generate_corpus("synthetic", VERSION, seed, cache_dir, _manifest(), synthesize_clip)


def synthesize_clip(name: str, seed: int = 0) -> np.ndarray:
    """Return a clip of the corpus, `(samples,)` at 44.1 kHz, between -1 and 1.

    Raises:
        UserError: for a name that is not in VIVAE's list, or a seed below 0.
    """
    check_seed(seed)
    if name not in _manifest():
        raise UserError(
            f"expected one of the {len(_manifest())} file names of VIVAE, found {name!r}; "
            "hf_vivae.corpus.manifest.read_manifest lists them."
        )
    rng = random_stream(seed, "clip", name)
    return vocalize(_utterance(name, seed, rng), rng)


@functools.cache
def _manifest() -> dict[str, dict[str, str]]:
    return {row["file_name"]: row for row in read_manifest()}


@functools.cache
def _durations(seed: int) -> dict[str, int]:
    """Return the length of each clip in samples; all seeds distribute the same 1085 values."""
    rank = {
        name: LENGTH_SHIFTS.get(row["emotion"], 0.0) + random_stream(seed, "duration", name).standard_normal()
        for name, row in _manifest().items()
    }
    samples = typical_samples(np.linspace(0.0, 1.0, len(rank))).tolist()
    return dict(zip(sorted(rank, key=rank.__getitem__), samples, strict=True))


@functools.cache
def _speaker(speaker: str, seed: int) -> tuple[float, float, dict[str, float]]:
    """Return the parameters of a speaker: pitch in Hz, factor on the formants, shifts with the keys of SPEAKER_SD."""
    rng = random_stream(seed, "speaker", speaker)
    smallness, pitch, *scores = rng.standard_normal(2 + len(SPEAKER_SD))
    hertz = 210.0 * 2.0 ** ((2.5 * smallness + 1.5 * pitch) / 12.0)
    shifts = {key: SPEAKER_SD[key] * score for key, score in zip(SPEAKER_SD, scores, strict=True)}
    return hertz, np.exp(0.12 + 0.06 * smallness), shifts


def _mixed_style(emotion: str, intensity: str, rng: np.random.Generator) -> Style:
    """Return the emotion's style mixed with its neighbour's, and at low and peak intensity with a common style."""
    style = STYLES[emotion].interpolate(STYLES[NEIGHBOURS[emotion]], 0.6 * rng.beta(0.7, 3.0))
    if intensity == "low":
        return style.interpolate(MURMUR, rng.uniform(0.1, 0.35))
    if intensity == "peak":
        return style.interpolate(SCREAM, rng.uniform(0.1, 0.45))
    return style


def _utterance(name: str, seed: int, rng: np.random.Generator) -> Utterance:
    """Return the utterance of a clip: the style with the shifts of intensity, speaker and chance."""
    speaker, emotion, intensity = (_manifest()[name][key] for key in ("speaker", "emotion", "intensity"))
    samples, vary = _durations(seed)[name], rng.standard_normal
    pitch, tract, speaker_shift = _speaker(speaker, seed)
    style = _mixed_style(emotion, intensity, rng)
    shift = {key: INTENSITY_SHIFTS[intensity][key] + speaker_shift[key] + TAKE_SD[key] * vary() for key in TAKE_SD}
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
        floor=-82.0 + speaker_shift["level"],
    )

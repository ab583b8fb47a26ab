"""A source-filter voice (Fant, *Acoustic Theory of Speech Production*, 1960) for the synthetic corpus.

A glottal source with jitter, shimmer, subharmonics and breath is filtered by the formants of a vocal tract. The
parameters of each clip are an `Utterance`; `synthetic.py` derives them from emotion, intensity and speaker.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.signal import lfilter, sosfilt

from .manifest import SAMPLING_RATE

UPPER_FORMANTS = np.arange(3500.0, 9000.0, 1000.0)  # Hz, those of a uniform tube; shared by all vowels
BANDWIDTHS = np.array([80.0, 100.0, 140.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0])  # Hz
OPEN_QUOTIENT = 0.65  # share of each cycle in which the glottis is open
FADE_SECONDS = 0.004


@dataclass(frozen=True)
class Utterance:
    """Parameters of one clip.

    Attributes:
        samples: length of the clip.
        pitch: fundamental frequency that the contour moves around, Hz.
        contour: pitch at equal steps of each burst, semitones from `pitch`, `(steps,)`.
        bursts: number of bursts of the voice.
        gap: share of each burst's time that is silent before the next one, 0 to 1.
        inhale: share of the clip before the first burst that is breath alone, 0 to 1.
        attack: rise time of each burst, seconds.
        decay: loudness at the end of a burst relative to its start, dB.
        jitter: standard deviation of a cycle's frequency, relative.
        shimmer: standard deviation of a cycle's amplitude, relative.
        roughness: depth of subharmonics and of the fast amplitude modulation, 0 to 1.
        rasp: rate of that modulation, Hz.
        tremor: depth of the slow pitch modulation, semitones.
        tremor_rate: its rate, Hz.
        breath: level of the aspiration noise relative to the voiced part, dB.
        tilt: corner frequency above which the source falls by a further 6 dB per octave, Hz.
        vowels: first three formants at the start and at the end, Hz, `(2, 3)`.
        tract: factor on all formants; a shorter vocal tract is above 1.
        level: peak of the clip, dB below full scale (negative).
        floor: level of the recording's background noise, dB below full scale (negative).
    """

    samples: int
    pitch: float
    contour: np.ndarray
    bursts: int
    gap: float
    inhale: float
    attack: float
    decay: float
    jitter: float
    shimmer: float
    roughness: float
    rasp: float
    tremor: float
    tremor_rate: float
    breath: float
    tilt: float
    vowels: np.ndarray
    tract: float
    level: float
    floor: float


def vocalize(utterance: Utterance, rng: np.random.Generator) -> np.ndarray:
    """Return the clip, `(samples,)` at 44.1 kHz, with its peak at `utterance.level`, so that it is never clipped."""
    envelope, semitones = _bursts(utterance)
    voiced, opening = _glottis(utterance, semitones, rng)
    source = envelope * voiced + _aspiration(utterance, envelope, opening, rng)
    # filtered by the first vowel, with a linear transition to the last one
    start, end = (sosfilt(_resonators(vowel, utterance.tract), source) for vowel in utterance.vowels)
    share = np.linspace(0.0, 1.0, utterance.samples)
    clock = np.arange(utterance.samples)
    fade = np.minimum(1.0, np.minimum(clock, clock[::-1]) / (FADE_SECONDS * SAMPLING_RATE))
    clip = ((1.0 - share) * start + share * end) * fade
    clip *= _amplitude(utterance.level) / np.abs(clip).max()
    clip += _amplitude(utterance.floor) * rng.standard_normal(utterance.samples)
    return np.clip(clip, -1.0, 1.0)


def _amplitude(decibels: float) -> float:
    return 10.0 ** (decibels / 20.0)


def _bursts(utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
    """Return loudness (0 to 1) and pitch (semitones) along the clip, each `(samples,)`."""
    u = utterance
    edges = np.linspace(u.inhale, 1.0, u.bursts + 1) * u.samples
    steps = np.linspace(0.0, 1.0, len(u.contour))
    times, loudness, pitch_times = [], [], []
    for start, end in pairwise(edges):
        stop = end - u.gap * (end - start)
        attack = min(u.attack * SAMPLING_RATE, 0.5 * (stop - start))
        release = 0.3 * (stop - start - attack)
        times += [start, start + attack, stop - release, stop]
        loudness += [0.0, 1.0, _amplitude(u.decay), 0.0]
        pitch_times.append(start + steps * (stop - start))
    clock = np.arange(u.samples)
    semitones = np.interp(clock, np.concatenate(pitch_times), np.tile(u.contour, u.bursts))
    semitones += u.tremor * np.sin(2 * np.pi * u.tremor_rate / SAMPLING_RATE * clock)
    return np.interp(clock, times, loudness) ** 1.5, semitones


def _glottis(utterance: Utterance, semitones: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivative of the glottal flow, and the flow itself (0 to 1), each `(samples,)`.

    The pulse is KLGLOTT88's cubic (Klatt and Klatt, 1990, doi:10.1121/1.398894).
    """
    u = utterance
    frequency = u.pitch * 2.0 ** (semitones / 12.0)
    cycle = np.cumsum(frequency / SAMPLING_RATE).astype(int)
    wobble = rng.standard_normal((2, 2 * cycle[-1] + 2))
    phase = np.cumsum(frequency * np.clip(1.0 + u.jitter * wobble[0, cycle], 0.5, 1.5) / SAMPLING_RATE)
    cycle = phase.astype(int)
    strength = np.clip(1.0 + u.shimmer * wobble[1, cycle], 0.2, 1.8)
    # Every second cycle is weaker: period doubling, the commonest subharmonic of a rough voice.
    strength *= 1.0 - 0.6 * u.roughness * (cycle % 2)
    drift = np.cumsum(rng.standard_normal(u.samples)) * (0.5 / np.sqrt(SAMPLING_RATE))
    rasp = np.sin(2 * np.pi * (u.rasp / SAMPLING_RATE * np.arange(u.samples) + drift))
    strength *= 1.0 - 0.5 * u.roughness * (1.0 + rasp)
    opening = np.minimum((phase - cycle) / OPEN_QUOTIENT, 1.0)
    pulse = (2.0 * opening - 3.0 * opening**2) * (opening < 1.0)
    corner = np.exp(-2.0 * np.pi * u.tilt / SAMPLING_RATE)
    voiced = lfilter([1.0 - corner], [1.0, -corner], strength * pulse)
    return voiced / np.sqrt(np.mean(voiced**2)), 6.75 * opening**2 * (1.0 - opening)


def _aspiration(
    utterance: Utterance, envelope: np.ndarray, opening: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the noise of the breath, `(samples,)`, stronger while the glottis is open and during inhalation."""
    u = utterance
    noise = lfilter([1.0, -0.7], [1.0], rng.standard_normal(u.samples))
    breathing = envelope * (0.4 + 0.9 * opening)
    inhaled = int(u.inhale * u.samples)
    breathing[:inhaled] += np.sin(np.linspace(0.0, np.pi, inhaled)) ** 2
    return _amplitude(u.breath) * breathing * noise


def _resonators(vowel: np.ndarray, tract: float) -> np.ndarray:
    """Return second-order sections `(formants, 6)`, unit gain at 0 Hz (Klatt, 1980, doi:10.1121/1.383940)."""
    formants = np.array([*vowel, *UPPER_FORMANTS]) * tract
    radius = np.exp(-np.pi * BANDWIDTHS / SAMPLING_RATE)
    first = -2.0 * radius * np.cos(2.0 * np.pi * formants / SAMPLING_RATE)
    second = radius**2
    zeros, ones = np.zeros_like(first), np.ones_like(first)
    return np.stack([1.0 + first + second, zeros, zeros, ones, first, second], axis=1)

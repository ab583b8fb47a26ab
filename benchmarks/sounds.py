"""Write sounds that are no vocalisations: noise, tones and music, made by a program, for `evaluate.py --unknown`.

python benchmarks/sounds.py --output sounds

Each of the folders `white-noise`, `pink-noise`, `faint-noise`, `tones` and `music` has 100 WAV files of 2 s at
44.1 kHz.
Noise is 10 to 50 dB below full scale, faint noise 74 dB. A tone is one sine from 110 to 3520 Hz. Music is four
chords of a decaying sawtooth, of two octaves around A3.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import hf_vivae  # noqa: F401 - first: its error states which packages do not load

# isort: split
import numpy as np
import soundfile

from hf_vivae.cli_parser import parse_flags, run_script

RATE, SECONDS = 44100, 2
CHORDS, HARMONICS = 4, 6


@dataclass
class SoundsArguments:
    """Arguments of the sounds."""

    count: int = field(default=100, metadata={"help": "Sounds in each folder."})
    seed: int = field(default=0, metadata={"help": "Seed of all sounds."})
    output: str = field(default="sounds", metadata={"help": "New folder."})


def main(argv: list[str]) -> None:
    arguments = parse_flags(SoundsArguments, argv, __doc__.splitlines()[0])
    output = Path(arguments.output)
    if output.exists():
        sys.exit(f"error: expected a new folder as --output, found {output}; give another name.")
    rng = np.random.default_rng(arguments.seed)
    makers = {
        "white-noise": lambda: level(rng) * white(rng),
        "pink-noise": lambda: level(rng) * pink(rng),
        "faint-noise": lambda: 2e-4 * white(rng),
        "tones": lambda: 0.3 * tone(110 * 2 ** rng.uniform(0, 5)),
        "music": lambda: music(rng),
    }
    for name, make in makers.items():
        folder = output / name
        folder.mkdir(parents=True)
        for number in range(arguments.count):
            soundfile.write(folder / f"{number:03}.wav", np.clip(make(), -1, 1), RATE, subtype="FLOAT")
        print(f"{folder}  {arguments.count} sounds")


def level(rng: np.random.Generator) -> float:
    """Return a root mean square from 50 to 10 dB below full scale."""
    return 10 ** (rng.uniform(-50, -10) / 20)


def white(rng: np.random.Generator) -> np.ndarray:
    """Return white noise with a root mean square of 1, `(samples,)`."""
    return rng.standard_normal(RATE * SECONDS)


def pink(rng: np.random.Generator) -> np.ndarray:
    """Return noise whose power falls by 3 dB an octave, with a root mean square of 1, `(samples,)`."""
    spectrum = np.fft.rfft(white(rng))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), RATE * SECONDS)
    return noise / np.sqrt(np.mean(noise**2))


def tone(frequency: float) -> np.ndarray:
    """Return a sine of a frequency in Hz, `(samples,)`."""
    return np.sin(2 * np.pi * frequency * np.arange(RATE * SECONDS) / RATE)


def music(rng: np.random.Generator) -> np.ndarray:
    """Return four major chords of decaying tones, `(samples,)`, with a peak of 0.3."""
    length = RATE * SECONDS // CHORDS
    seconds = np.arange(length) / RATE
    chords = []
    for _ in range(CHORDS):
        root = 220 * 2 ** (rng.integers(-12, 13) / 12)
        frequencies = [
            root * 2 ** (step / 12) * harmonic for step in (0, 4, 7) for harmonic in range(1, HARMONICS + 1)
        ]
        weights = [1 / harmonic for _ in range(3) for harmonic in range(1, HARMONICS + 1)]
        waves = (weight * np.sin(2 * np.pi * f * seconds) for weight, f in zip(weights, frequencies, strict=True))
        chords.append(np.exp(-3 * seconds) * sum(waves))
    samples = np.concatenate(chords)
    return 0.3 * samples / np.abs(samples).max()


if __name__ == "__main__":
    run_script(main)

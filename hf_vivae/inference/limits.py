"""Limits on what is decoded as a clip, by what a file and its header say."""

import io
import os
import stat
from pathlib import Path
from typing import Any

import soundfile

from ..validation import UserError

LONGEST_CLIP = 60.0  # seconds; what lasts longer is a recording
MOST_SAMPLES = 2**25  # of all channels together: 128 MiB as they are decoded, a minute of 8 channels at 48 kHz
LARGEST_FILE = 2**28  # bytes: as many samples as double precision takes, uncompressed
UNKNOWN = 2**63 - 1  # frames of a stream whose header leaves them out
RECORDING = "use hf-vivae timeline, which takes recordings of any length"


def check_size(sound: Any) -> None:
    """Refuse what is too much for a clip before it is read and decoded, which several threads do at once.

    Args:
        sound: in any form that the pipeline of `load_classifier` takes; arrays are in memory already and pass.

    Raises:
        ValueError: for pipes and devices, and for what exceeds `LONGEST_CLIP`, `MOST_SAMPLES` or `LARGEST_FILE`. What
            is no sound passes: whoever decodes it says so.
    """
    if isinstance(sound, dict) and "audio" in sound:
        sound = sound["audio"]
    if isinstance(sound, dict):
        if any(sound.get(name) is not None for name in ("array", "raw")):
            return
        sound = sound.get("path") if sound.get("bytes") is None else sound["bytes"]
    if isinstance(sound, bytes):
        _check_header(io.BytesIO(sound), len(sound), "<bytes>")
    elif isinstance(sound, (str, Path)):
        _check_file(Path(sound))


def _check_file(path: Path) -> None:
    try:
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise UserError(
                f"{path.name}: expected a file, found a pipe, a socket or a device; copy its sound into a file, or "
                "send that to standard input."
            )
        with open(path, "rb") as file:
            # by its number: by its name, soundfile takes x.raw for samples without a header
            _check_header(file.fileno(), os.fstat(file.fileno()).st_size, path.name)
    except OSError:
        return


def _check_header(source: io.BytesIO | int, size: int, name: str) -> None:
    try:
        with soundfile.SoundFile(source, closefd=False) as file:
            frames, samples, seconds = file.frames, file.frames * file.channels, file.frames / file.samplerate
    except soundfile.SoundFileError:
        frames = samples = seconds = 0
    if frames != UNKNOWN and seconds > LONGEST_CLIP:
        raise UserError(f"{name}: expected a clip of up to {LONGEST_CLIP:g} s, found {seconds:.0f} s; {RECORDING}.")
    if frames != UNKNOWN and samples > MOST_SAMPLES:
        raise UserError(
            f"{name}: expected a clip of up to {MOST_SAMPLES} samples in all channels, found {samples}; resample it."
        )
    if size > LARGEST_FILE:
        raise UserError(
            f"{name}: expected a clip of up to {LARGEST_FILE // 2**20} MiB, found {size // 2**20} MiB; {RECORDING}."
        )

"""Limits on what is decoded as a clip, by what its header says."""

from pathlib import Path
from typing import Any, BinaryIO

from ..audio import BadAudio, open_sound
from ..validation import UserError

LONGEST_CLIP = 60.0  # seconds; what lasts longer is a recording
LARGEST_FILE = 2**28  # bytes of what is read whole: standard input, and files of the Hub and of archives


def read_whole(stream: BinaryIO, name: str) -> bytes:
    """All bytes of a stream, whose end nobody knows.

    Args:
        stream: as it was opened.
        name: in errors.

    Raises:
        UserError: for more than `LARGEST_FILE`.
    """
    content = stream.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise UserError(
            f"{name}: expected a clip of up to {LARGEST_FILE // 2**20} MiB, found more; save it as a file."
        )
    return content


def check_length(sound: Any) -> None:
    """Refuse a recording before hours of sound are decoded into memory.

    Args:
        sound: in any form that the pipeline of `load_classifier` takes; arrays are in memory already and pass.

    Raises:
        UserError: for what lasts longer than `LONGEST_CLIP`. What cannot be read passes: whoever decodes it says so.
    """
    if isinstance(sound, dict) and "audio" in sound:
        sound = sound["audio"]
    if isinstance(sound, dict):
        if any(sound.get(name) is not None for name in ("array", "raw")):
            return
        sound = sound.get("path") if sound.get("bytes") is None else sound["bytes"]
    if not isinstance(sound, (str, Path, bytes)):
        return
    try:
        with open_sound(sound) as opened:
            name, seconds = opened.name, (opened.announced or 0) / opened.sampling_rate
    except BadAudio:
        return
    if seconds > LONGEST_CLIP:
        raise UserError(
            f"{name}: expected a clip of up to {LONGEST_CLIP:g} s, found {seconds:.0f} s; use hf-vivae timeline, "
            "which takes recordings of any length."
        )

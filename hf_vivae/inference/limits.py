"""Limits on what is decoded as a clip."""

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
        UserError: for what lasts longer than `LONGEST_CLIP` by its header or, where that does not say, once so much
            has been decoded. What cannot be read passes: whoever decodes it says so.
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
            name, rate, samples = opened.name, opened.sampling_rate, opened.announced or 0
            if opened.announced is None:
                while samples <= LONGEST_CLIP * rate and (piece := len(opened.read(rate))):
                    samples += piece
            found = "more" if opened.announced is None else f"{samples / rate:.0f} s"
    except BadAudio:
        return
    if samples > LONGEST_CLIP * rate:
        raise UserError(
            f"{name}: expected a clip of up to {LONGEST_CLIP:g} s, found {found}; use hf-vivae timeline, which takes "
            "recordings of any length."
        )

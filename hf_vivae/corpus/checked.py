"""Clips that were decoded without a fault, by the digests of their files: a later command need not decode them again.

Decoding takes most of the time in which a corpus is read.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from ..audio import MAX_DECODED, BadAudio, ClipInfo, split_fragment
from ..files import cache_folder, write_text
from ..version import __version__
from .decoded import clip_digest, load_with_info, read_clip_file

logger = logging.getLogger(__name__)

QUIETEST = 2**-14  # from peak to peak: two steps of 16 bits, the dither of silence


@contextmanager
def checked_clips() -> Iterator[dict[str, ClipInfo]]:
    """Give the clips that this version of the package and of libsndfile has decoded, by the SHA-256 of their files.

    Those that `check_clip` adds are kept in the cache, also where an error ends the block.
    """
    file = cache_folder() / f"checked-{__version__}-{soundfile.__libsndfile_version__}.json"
    clips = _read(file)
    before = len(clips)
    try:
        yield clips
    finally:
        if len(clips) > before:
            content = {digest: [clip.samples, clip.sampling_rate, clip.channels] for digest, clip in clips.items()}
            try:
                write_text(file, json.dumps(content))
            except OSError as error:
                logger.warning("The next command decodes all clips again: %s cannot be written (%s).", file, error)


def _read(file: Path) -> dict[str, ClipInfo]:
    try:
        clips = {digest: ClipInfo(*map(int, values)) for digest, values in json.loads(file.read_bytes()).items()}
        if all(clip.samples > 0 and clip.sampling_rate > 0 and clip.channels > 0 for clip in clips.values()):
            return clips
        damage = "numbers below 1"
    except OSError:  # none yet
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        damage = str(error)
    logger.warning("%s is damaged (%s): the clips are decoded again.", file, damage)
    return {}


def check_clip(path: Path, name: str, clips: dict[str, ClipInfo]) -> ClipInfo:
    """Return length, rate and channels of a clip; it is decoded where no clip of the same content has been.

    Args:
        path: of its file, or of a part of one; a part without any sound is refused.
        name: in errors.
        clips: those of `checked_clips`; the clip is added.

    Raises:
        BadAudio: as `audio.inspect` and `audio.load`.
    """
    if split_fragment(path)[1]:
        digest = clip_digest(str(path), name)
        if digest not in clips:
            samples, info = load_with_info(path, name, digest)
            if np.ptp(samples) <= QUIETEST:
                raise BadAudio(name, "sound", "silence")
            clips[digest] = info
        return clips[digest]
    try:
        # others are refused: reading a pipe may never end, and a larger file may not fit into memory
        if not (os.path.isfile(path) and os.path.getsize(path) <= MAX_DECODED):
            raise OSError
        content, digest = read_clip_file(path, name)
    except OSError:
        return load_with_info(path, name)[1]
    if digest not in clips:
        clips[digest] = load_with_info(content, name)[1]
    return clips[digest]

"""Decoded clips, kept in a temporary file while the steps of a run read the same clips.

A run decodes each clip to check it, to measure its peak, for its features and for its augmentation. Decoding a FLAC
takes ten times as long as writing and reading its samples, and a WAV four times.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .. import audio

MAX_BYTES = 2**30  # of samples that are kept, 100 minutes at 44,100 Hz; clips after these are decoded each time


class _DecodedClips:
    """Samples of clips in a file, which is read without loading it into memory."""

    def __init__(self, file: int) -> None:
        self._file, self._end = file, 0
        self._entries: dict[str | bytes, tuple[int, int, int]] = {}  # first byte, number of bytes, rate in Hz

    def load(self, source: audio.Source, name: str | None) -> tuple[np.ndarray, int]:
        key = _key(source)
        if key in self._entries:
            start, length, rate = self._entries[key]
            return np.frombuffer(bytearray(os.pread(self._file, length, start)), np.float32), rate
        samples, rate = audio.load(source, name=name)
        if self._end + samples.nbytes <= MAX_BYTES:
            try:
                if os.pwrite(self._file, samples.tobytes(), self._end) == samples.nbytes:
                    self._entries[key] = self._end, samples.nbytes, rate
                    self._end += samples.nbytes
            except OSError:  # a full disk; the clip is decoded again when it is needed
                self._end = MAX_BYTES
        return samples, rate


_clips: _DecodedClips | None = None


@contextmanager
def decode_once(folder: Path) -> Iterator[None]:
    """Let `load_clip` decode each clip once, as far as `MAX_BYTES` and the disk suffice.

    Args:
        folder: of the temporary file, which has no name and is gone with the process.
    """
    global _clips
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    except OSError:  # a cache may be read-only
        yield
        return
    with file:
        _clips = _DecodedClips(file.fileno())
        try:
            yield
        finally:
            _clips = None


def load_clip(
    source: audio.Source, sampling_rate: int | None = None, name: str | None = None
) -> tuple[np.ndarray, int]:
    """Return the samples of a clip as `audio.load` does, decoded at most once within `decode_once`.

    Args:
        source: see `audio.load`.
        sampling_rate: see `audio.load`.
        name: see `audio.load`.

    Raises:
        BadAudio: see `audio.load`.
    """
    if _clips is None:
        return audio.load(source, sampling_rate, name)
    samples, rate = _clips.load(source, name)
    if sampling_rate is None:
        return samples, rate
    return audio.resample(samples, rate, sampling_rate), sampling_rate


def _key(source: audio.Source) -> str | bytes:
    if isinstance(source, dict):
        source = source["path"] if source.get("bytes") is None else source["bytes"]
    return hashlib.sha256(source).digest() if isinstance(source, bytes) else str(source)

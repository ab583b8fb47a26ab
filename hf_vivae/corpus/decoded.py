"""Decoded clips, kept in a temporary file while the steps of a run read the same clips.

A run decodes each clip to check it, to measure its peak, for its features and for its augmentation. Decoding a FLAC
takes ten times as long as writing and reading its samples, and a WAV four times.
"""

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from .. import audio

MAX_BYTES = 2**30  # of samples that are kept, 100 minutes at 44,100 Hz; clips after these are decoded each time
MAX_SHARE = 0.25  # of the free space on the disk


class _DecodedClips:
    def __init__(self, file: int, limit: float) -> None:
        self._file, self._end, self._limit = file, 0, limit
        self._lock = threading.Lock()
        self._entries: dict[str | bytes, tuple[int, int, int]] = {}  # first byte, number of bytes, rate in Hz

    def load(self, source: audio.Source, name: str | None) -> tuple[np.ndarray, int]:
        content = source["path"] if isinstance(source, dict) and source.get("bytes") is None else source
        content = content["bytes"] if isinstance(content, dict) else content
        key = hashlib.sha256(content).digest() if isinstance(content, bytes) else str(content)
        if key in self._entries:
            start, length, rate = self._entries[key]
            return np.frombuffer(bytearray(os.pread(self._file, length, start)), np.float32), rate
        samples, rate = audio.load(source, name=name)
        with self._lock:
            if self._end + samples.nbytes <= self._limit:
                try:
                    if os.pwrite(self._file, samples.tobytes(), self._end) == samples.nbytes:
                        self._entries[key] = self._end, samples.nbytes, rate
                        self._end += samples.nbytes
                except OSError:  # a full disk; the other clips are decoded each time
                    self._limit = 0
        return samples, rate


_clips: _DecodedClips | None = None


@contextmanager
def decode_once(folder: Path) -> Iterator[None]:
    """Make `load_clip` keep the clips that it decodes, within `MAX_BYTES` and `MAX_SHARE`.

    Args:
        folder: folder of the temporary file, which has no name and is removed when the process ends.
    """
    global _clips
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            limit = min(MAX_BYTES, MAX_SHARE * shutil.disk_usage(folder).free)
            _clips = _DecodedClips(file.fileno(), limit)
        except OSError:  # a cache may be read-only
            _clips = None
        try:
            yield
        finally:
            _clips = None


def load_clip(
    source: audio.Source, sampling_rate: int | None = None, name: str | None = None
) -> tuple[np.ndarray, int]:
    """Return the samples of a clip as `audio.load` does, with the same arguments and errors."""
    if _clips is None:
        return audio.load(source, sampling_rate, name)
    samples, rate = _clips.load(source, name)
    return (samples, rate) if sampling_rate is None else (audio.resample(samples, rate, sampling_rate), sampling_rate)

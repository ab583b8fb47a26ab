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
from .schema import clip_digest, read_clip_file

MAX_BYTES = 2**30  # of samples that are kept, 100 minutes at 44,100 Hz; clips after these are decoded each time
MAX_SHARE = 0.25  # of the free space on the disk


_peaks: dict[str, float] = {}  # largest sample of each decoded clip, by SHA-256 of its file


class _DecodedClips:
    def __init__(self, file: int, limit: float) -> None:
        self._file, self._end, self._limit = file, 0, limit
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[int, int, int]] = {}  # by SHA-256: first byte, number of bytes, rate in Hz

    def get(self, digest: str | None) -> tuple[np.ndarray, int] | None:
        if digest not in self._entries:
            return None
        start, length, rate = self._entries[digest]
        return np.frombuffer(bytearray(os.pread(self._file, length, start)), np.float32), rate

    def keep(self, digest: str, samples: np.ndarray, rate: int) -> None:
        with self._lock:
            if self._end + samples.nbytes > self._limit:
                return
            try:
                if os.pwrite(self._file, samples.tobytes(), self._end) == samples.nbytes:
                    self._entries[digest] = self._end, samples.nbytes, rate
                    self._end += samples.nbytes
            except OSError:  # a full disk; the other clips are decoded each time
                self._limit = 0


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
    source: audio.Source, sampling_rate: int | None = None, name: str | None = None, digest: str | None = None
) -> tuple[np.ndarray, int]:
    """Return the samples of a clip as `audio.load` does.

    A file is read once: its digest and its samples are of the same bytes, also where a program writes to it. Of a part
    of a file, size and time of the last change are compared before and after.

    Args:
        source: as for `audio.load`.
        sampling_rate: as for `audio.load`.
        name: as for `audio.load`.
        digest: SHA-256 of the file when it was checked; None where it is checked now.

    Raises:
        BadAudio: as `audio.load`.
        UserError: for a file with another digest, or that cannot be read any more.
    """
    samples, rate = _load(source, name, digest)
    return (samples, rate) if sampling_rate is None else (audio.resample(samples, rate, sampling_rate), sampling_rate)


def load_with_info(source: audio.Source, name: str, digest: str | None = None) -> tuple[np.ndarray, audio.ClipInfo]:
    """Return the samples of a clip, and what `audio.inspect` returns for it, which is decoded once for both."""
    with audio.open_sound(source, name) as sound:
        header_samples, rate, channels = sound.header_samples, sound.sampling_rate, sound.channels
    samples, _ = load_clip(source, name=name, digest=digest)
    return samples, audio.ClipInfo(len(samples) if header_samples is None else header_samples, rate, channels)


def clip_peak(source: audio.Source, name: str, digest: str) -> float:
    """Return the largest absolute sample of a clip; see `load_clip` for arguments and errors."""
    if digest not in _peaks:
        _load(source, name, digest)
    return _peaks[digest]


def _load(source: audio.Source, name: str | None, digest: str | None) -> tuple[np.ndarray, int]:
    if _clips is not None and (kept := _clips.get(digest)) is not None:
        return kept
    content, path = (source.get("bytes"), source.get("path")) if isinstance(source, dict) else (source, source)
    if isinstance(content, bytes):
        own = hashlib.sha256(content).hexdigest()
    # others are refused: reading a pipe may never end, and a larger file may not fit into memory
    elif digest is None and not (path and os.path.isfile(path) and os.path.getsize(path) <= audio.MAX_DECODED):
        return audio.load(source, name=name)
    elif audio.split_fragment(path)[1]:
        content, own = path, clip_digest(path, name or Path(path).name, digest)
    else:
        name = name or Path(path).name
        try:
            content, own = read_clip_file(path, name, digest)
        except OSError as error:
            found = f"an unreadable one ({error.strerror})"
            raise audio.BadAudio(name, "a readable audio file", found) from error
    if _clips is not None and (kept := _clips.get(own)) is not None:  # a copy of another clip
        return kept
    samples, rate = audio.load(content, name=name)
    if not isinstance(content, bytes):  # a part, whose file may have changed since its digest was compared
        clip_digest(path, name or Path(path).name, own)
    _peaks[own] = float(np.abs(samples).max())
    if _clips is not None:
        _clips.keep(own, samples, rate)
    return samples, rate

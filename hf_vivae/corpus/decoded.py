"""Digests of the files of clips, and decoded clips, kept in a temporary file while the steps of a run read them.

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
from typing import BinaryIO

import numpy as np

from .. import audio
from ..validation import UserError

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


# by path, of files when they were last read as clips: size and time of the last change (ns), and SHA-256
_read: dict[str, tuple[tuple[int, int], str]] = {}


def read_clip_file(path: str | Path, name: str, digest: str | None = None) -> tuple[bytes, str]:
    """Return content and SHA-256 of a file; `clip_digests` then need not read it again.

    Args:
        path: of an existing file.
        name: of the clip in errors.
        digest: SHA-256 that it had when it was checked; None where it is checked now.

    Raises:
        OSError: for a file that cannot be read, without a digest.
        UserError: for one with another digest, or that cannot be read any more.
    """
    try:
        with open(path, "rb") as file:
            state, content = _state(file), file.read()
    except OSError as error:
        if digest is None:
            raise
        raise _changed(name, f"none ({error.strerror})") from error
    own = hashlib.sha256(content).hexdigest()
    if digest not in (None, own):
        raise _changed(name, "a changed file")
    _read[str(path)] = state, own
    return content, own


def clip_digest(path: str, name: str, digest: str | None = None) -> str:
    """Return the digest of a clip's path as `clip_digests` does.

    Args:
        path: of a file, or of a part of one.
        name: of the clip in errors.
        digest: that it had when it was checked; None where any is right.

    Raises:
        UserError: for a file that has changed since it was checked, or that cannot be read.
    """
    whole, part = audio.split_fragment(path)
    key = str(whole) if part else path
    try:
        with open(whole, "rb") as file:
            state, own = _read.get(key, (_state(file), None))
            if state != _state(file):
                raise _changed(name, "a changed file")
            own = own or hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _changed(name, f"none ({error.strerror})") from error
    if part:
        _read[key] = state, own  # a recording may have thousands of parts
        own = hashlib.sha256(f"{own}#t={part[0]:.6f},{part[1]:.6f}".encode()).hexdigest()
    if digest not in (None, own):
        raise _changed(name, "a changed file")
    return own


def hash_recording(path: Path) -> None:
    """Hash a file whose parts are clips, as it is now, so that `clip_digest` need not read it for each of them."""
    with open(path, "rb") as file:
        _read[str(path)] = _state(file), hashlib.file_digest(file, "sha256").hexdigest()


def _state(file: BinaryIO) -> tuple[int, int]:
    state = os.fstat(file.fileno())
    return state.st_size, state.st_mtime_ns


def _changed(name: str, found: str) -> UserError:
    return UserError(
        f"expected clips that do not change while they are used, found {found} in place of {name}, which was checked "
        "before; let the program that writes the clips finish, and load them again."
    )

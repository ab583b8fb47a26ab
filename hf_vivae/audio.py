"""Sound comes in here and nowhere else: a file, its bytes or an `Audio(decode=False)` row becomes mono
float32.

soundfile does the decoding (WAV of 8 to 32 bits and float, FLAC, OGG, MP3, ...), so neither FFmpeg nor
torchcodec is needed. libsndfile reads truncated files without a word; `inspect` and `load` refuse them.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from .validation import UserError

Source = bytes | str | Path | dict[str, Any]

MPEG_FRAME = 1152  # samples
MIN_RATE, MAX_RATE = 1_000, 768_000
LARGEST_TERM = 1000  # of a ratio of rates
# Writers that cannot seek back leave 0x7FFFF000 or more where the size of the sound belongs.
STREAMING_SIZE = 0x7FFFF000


CURE = "replace the file, or leave out bad clips with --on_bad_audio skip"


class BadAudio(UserError):
    """A clip that cannot be used as it is.

    Args:
        name: the file, as its user knows it.
        expected: what a good file has.
        found: what this one has instead, short enough for a list.
        cure: what to do; by default that of a corpus.
    """

    def __init__(self, name: str, expected: str, found: str, cure: str = CURE) -> None:
        super().__init__(name, expected, found, cure)
        self.name, self.expected, self.found, self.cure = name, expected, found, cure

    def __str__(self) -> str:
        return f"{self.name}: expected {self.expected}, found {self.found}; {self.cure}."


@dataclass(frozen=True)
class ClipInfo:
    """What the header of a clip says: length in samples per channel, rate in Hz, channels."""

    samples: int
    sampling_rate: int
    channels: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.samples / self.sampling_rate


def inspect(source: Source, name: str | None = None) -> ClipInfo:
    """Length, rate and channels of a clip from its header; nothing is decoded.

    Args:
        source: a path, the bytes of a file, or a row `{"bytes", "path"}` of an `Audio(decode=False)` column.
        name: what errors call the clip; by default the base name of the path.

    Raises:
        BadAudio: for a file that is absent, empty, not audio, truncated, without samples or with an absurd
            rate.
    """
    data, name = _read_bytes(source, name)
    with _open(data, name) as clip:
        return _info(clip, data, name)


def load(source: Source, sampling_rate: int | None = None, name: str | None = None) -> tuple[np.ndarray, int]:
    """Decode a clip to mono float32 `(samples,)`, the channels averaged, and its rate in Hz.

    Args:
        source: as for `inspect`.
        sampling_rate: resample to this rate in Hz; by default the clip keeps its own.
        name: as for `inspect`.

    Raises:
        BadAudio: as `inspect`, and for sound that does not decode, is shorter than its header says, or holds
            NaN or infinite samples.
    """
    data, name = _read_bytes(source, name)
    with _open(data, name) as clip:
        info = _info(clip, data, name)
        channels = _decode(clip, name)
    # The length of an MP3 without a Xing header is an estimate, wrong by up to a frame.
    if len(channels) < info.samples - (MPEG_FRAME if clip.format == "MP3" else 0):
        raise BadAudio(name, f"the {info.samples} samples of its header", f"only {len(channels)} samples (truncated)")
    if not np.isfinite(channels).all():
        bad = int((~np.isfinite(channels)).sum())
        raise BadAudio(name, "finite samples", f"{bad} NaN or infinite samples")
    samples = channels.mean(axis=1)
    if sampling_rate is None:
        return samples, info.sampling_rate
    return resample(samples, info.sampling_rate, sampling_rate), sampling_rate


def resample(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Band-limited resampling of `(samples,)` between two rates in Hz, by torchaudio's windowed sinc.

    Its filters grow with the terms of the ratio, to gigabytes for a rate such as 44,101 Hz: a ratio that has no terms
    up to 1000 (all common rates have) is taken for the nearest, which is off by a hundredth of a percent at most.
    """
    if source_rate == target_rate:
        return samples
    import torch
    from torchaudio.functional import resample as sinc

    waveform = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    low, high = sorted((source_rate, target_rate))
    ratio = Fraction(low, high).limit_denominator(LARGEST_TERM)
    source, target = (ratio.numerator, ratio.denominator) if source_rate == low else ratio.as_integer_ratio()[::-1]
    return sinc(waveform, source, target).numpy()


def _read_bytes(source: Source, name: str | None) -> tuple[bytes, str]:
    if isinstance(source, dict):
        path = source.get("path")
        if source.get("bytes") is None and path is None:
            raise BadAudio(name or "<row>", "bytes or a path in the audio column", "neither")
        source, name = (
            (path if source.get("bytes") is None else source["bytes"]),
            name or (path and Path(path).name),
        )
    if isinstance(source, bytes):
        return source, name or "<bytes>"
    path = Path(source)
    name = name or path.name
    try:
        return path.read_bytes(), name
    except FileNotFoundError as error:
        raise BadAudio(name, "an audio file", f"no file at {path}") from error
    except OSError as error:
        raise BadAudio(name, "a readable audio file", f"an unreadable one ({error.strerror})") from error


def _open(data: bytes, name: str) -> soundfile.SoundFile:
    if not data:
        raise BadAudio(name, "sound", "an empty file (0 bytes)")
    try:
        return soundfile.SoundFile(io.BytesIO(data))
    except soundfile.SoundFileError as error:
        expected = "WAV, FLAC, OGG, MP3 or another format of libsndfile"
        raise BadAudio(name, expected, f"no readable audio ({_reason(error)})") from error


def _decode(clip: soundfile.SoundFile, name: str) -> np.ndarray:
    """All samples, `(samples, channels)`."""
    try:
        # In one read: soundfile seeks after each, and an MP3 then continues with a gap.
        return clip.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError, MemoryError) as error:  # a damaged header may announce terabytes
        raise BadAudio(name, "sound that decodes to its end", f"damaged sound ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return str(error).rpartition(": ")[2].rstrip(". ").lower()


def _info(clip: soundfile.SoundFile, data: bytes, name: str) -> ClipInfo:
    declared, present = _sound_bytes(data)
    if present < declared < STREAMING_SIZE:
        raise BadAudio(name, f"the {declared} bytes of sound of its header", f"only {present} (truncated)")
    if clip.frames == 0:
        raise BadAudio(name, "at least one sample", "0 samples")
    if not MIN_RATE <= clip.samplerate <= MAX_RATE:
        raise BadAudio(name, f"a sampling rate of {MIN_RATE} to {MAX_RATE} Hz", f"{clip.samplerate} Hz")
    return ClipInfo(clip.frames, clip.samplerate, clip.channels)


def _sound_bytes(data: bytes) -> tuple[int, int]:
    """Bytes of sound that the header declares and bytes that are there; `(0, 0)` where the format does not
    say.
    """
    magic = data[:4]
    if magic in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        return _chunk_bytes(data, ">" if magic in (b"RIFX", b"FORM") else "<")
    if magic == b".snd" and len(data) >= 12:  # AU: offset and size of the sound
        offset, declared = struct.unpack(">II", data[4:12])
        return declared, len(data) - offset
    if magic == b"riff" and len(data) >= 24:  # Sony Wave64: size of the whole file
        return struct.unpack("<Q", data[16:24])[0], len(data)
    return 0, 0


def _chunk_bytes(data: bytes, order: str) -> tuple[int, int]:
    position, long_size = 12, 0
    while position + 8 <= len(data):
        identifier, size = struct.unpack(f"{order}4sI", data[position : position + 8])
        position += 8
        if identifier in (b"data", b"SSND"):
            return long_size or size, len(data) - position
        if identifier == b"ds64" and position + 16 <= len(data):  # RF64 keeps the 64-bit size of `data` here
            long_size = struct.unpack("<Q", data[position + 8 : position + 16])[0]
        position += size + size % 2
    return 0, 0

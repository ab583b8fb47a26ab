"""Decoding of sound: a file, its bytes or an `Audio(decode=False)` row to mono float32.

All other modules read sound through this one. soundfile decodes (WAV of 8 to 32 bits and float, FLAC, OGG, MP3, ...),
so neither FFmpeg nor torchcodec is needed. libsndfile reads most truncated files without an error. Here truncated WAV,
RF64, W64, AIFF, AU, NIST SPHERE, CAF, FLAC, OGG and MP3 are refused, except an MP3 whose header does not give its
length; a truncated file of a rarer format (VOC, AVR, IRCAM, SVX, MAT, PVF) is read as a shorter one. Of a path with a
fragment, as `interview.wav#t=2.5,4` (seconds; W3C, Media Fragments URI 1.0, 2012), only that part is decoded.
"""

from __future__ import annotations

import ctypes
import io
import math
import os
import platform
import re
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile

from .validation import UserError

if TYPE_CHECKING:
    import torch

Source = bytes | str | Path | dict[str, Any]
Part = tuple[float, float]  # start and end, seconds

MPEG_FRAME = 1152  # samples
SHORTEST_SECONDS = 0.025  # one window of the library's encoders, which fail or return NaN for shorter clips
MIN_RATE, MAX_RATE = 1_000, 768_000
WINDOWS = 2**18  # samples that are resampled at once, 1 MB
LARGEST_TERM = 1000  # of a ratio of rates
# the size of the sound, or more, by writers that cannot seek back to fill it in
STREAMING_SIZE = 0x7FFFF000
# Bytes of a decoded clip, all channels of float32: 12 minutes of stereo at 44,100 Hz. A FLAC of 400 kB can decode to
# more than a gigabyte (a minute of silence in 8 channels at 655,350 Hz), and each thread of `predict` decodes one.
MAX_DECODED = 256 * 2**20
PIECE = 2**22  # values that are decoded at once, in all channels: 16 MiB
IN_MEMORY = 2**20  # bytes of a file that is read at once
PADDING = 2 * 1728  # bytes of the two longest frames of an MP3
UNKNOWN = 2**62  # samples; libsndfile gives this many or more where the header does not give the length
FRAGMENT = re.compile(r"(.+)#t=(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)", re.DOTALL)
ROUNDING = 0.02  # seconds by which a part may end after the file: annotations are rounded, some of them to frames


class BadAudio(UserError):
    """A clip whose sound cannot be used.

    Args:
        name: of the file, as its user knows it.
        expected: property of a usable file.
        found: the property of this file, short enough for a list.
        remedy: what to do, in any command; a caller with flags for such clips names them itself.
    """

    def __init__(self, name: str, expected: str, found: str, remedy: str = "replace the file") -> None:
        super().__init__(name, expected, found, remedy)
        self.name, self.expected, self.found, self.remedy = name, expected, found, remedy

    def __str__(self) -> str:
        return f"{self.name}: expected {self.expected}, found {self.found}; {self.remedy}."


class ClipTooLong(BadAudio):
    """A clip that is longer than its reader accepts."""


@dataclass(frozen=True)
class ClipInfo:
    """Length of a clip in samples per channel, rate in Hz, channels."""

    samples: int
    sampling_rate: int
    channels: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.samples / self.sampling_rate


def inspect(source: Source, name: str | None = None) -> ClipInfo:
    """Return length, rate and channels of a clip from its header, decoded only where that does not give the length.

    Args:
        source: a path, the bytes of a file, or a row `{"bytes", "path"}` of an `Audio(decode=False)` column.
        name: of the clip in errors; by default the base name of the path.

    Raises:
        BadAudio: for a file that is absent, empty, not audio, truncated, without samples or with a rate outside
            `MIN_RATE` to `MAX_RATE`, and a part that is not within it. The header of an MP3 or FLAC does not show
            whether the file was truncated.
    """
    with open_sound(source, name) as sound:
        samples = sound.header_samples or 0
        if sound.header_samples is None:
            while piece := len(sound.read(PIECE)):
                samples += piece
        return ClipInfo(samples, sound.sampling_rate, sound.channels)


def load(
    source: Source, sampling_rate: int | None = None, name: str | None = None, max_seconds: float = math.inf
) -> tuple[np.ndarray, int]:
    """Decode a clip, and return it as mono float32 `(samples,)`, the average of its channels, with its rate in Hz.

    Args:
        source: as for `inspect`.
        sampling_rate: resample to this rate in Hz; by default the clip keeps its own.
        name: as for `inspect`.
        max_seconds: of a clip; longer ones are refused before more is decoded.

    Raises:
        BadAudio: as `inspect`, and for sound that does not decode, is shorter or longer than its header states, or has
            NaN or infinite samples.
        ClipTooLong: for a clip of more than `max_seconds` or `MAX_DECODED` bytes.
    """
    with open_sound(source, name) as sound:
        rate = sound.sampling_rate
        longest = int(min(MAX_DECODED // (4 * sound.channels), max_seconds * rate))
        samples = sound.read(longest + 1) if (sound.header_samples or 0) <= longest else None
        if samples is None or len(samples) > longest:
            expected = f"a clip of up to {longest / rate:.4g} s at {sound.channels} x {rate} Hz"
            found = "a longer one" if sound.header_samples is None else f"one of {sound.header_samples / rate:.0f} s"
            raise ClipTooLong(sound.name, expected, found, "cut it into shorter clips")
    finite = np.isfinite(samples)
    if not finite.all():
        raise BadAudio(sound.name, "finite samples", f"{(~finite).sum()} NaN or infinite samples")
    if sampling_rate is None:
        return samples, rate
    return resample(samples, rate, sampling_rate), sampling_rate


def resample(samples: np.ndarray, source_rate: int, target_rate: int, count: int | None = None) -> np.ndarray:
    """Resample `(samples,)` between two rates in Hz, band-limited by torchaudio's windowed sinc.

    Its filters grow with the terms of the ratio, to gigabytes for a rate such as 44,101 Hz. So a ratio with terms
    above 1000 (no common rate has one) is replaced by the nearest with smaller terms, which differs by 0.01 % at most.

    Args:
        samples: `(samples,)`.
        source_rate: of the samples, in Hz.
        target_rate: of the result, in Hz.
        count: largest number of samples of the result, which is cut there; by default all.
    """
    if source_rate == target_rate:
        return samples if count is None else samples[:count]
    import torch

    low, high = sorted((source_rate, target_rate))
    ratio = Fraction(low, high).limit_denominator(LARGEST_TERM)
    source, target = (ratio.numerator, ratio.denominator) if source_rate == low else ratio.as_integer_ratio()[::-1]
    # torchaudio computes the filters for each clip, and their products as a convolution, which takes twice as long
    filters, width = _sinc_filters(source, target)
    length = math.ceil(target * len(samples) / source)
    if count is not None and count < length:
        length, samples = count, samples[: -(-count // target) * source + width]
    padded = filters.new_zeros(len(samples) + 2 * width + source)
    padded[width : width + len(samples)] = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    windows = padded.unfold(0, len(filters), source)
    # each product copies its windows, which overlap; those of NumPy would take all cores in each thread
    products = [part @ filters for part in windows.split(max(1, WINDOWS // len(filters)))]
    return torch.cat(products).flatten()[:length].numpy()


@lru_cache(maxsize=32)
def _sinc_filters(source: int, target: int) -> tuple[torch.Tensor, int]:
    """Return torchaudio's filters `(taps, target)`, each for one of `target` samples out of `source`, and their reach.

    The reach is the number of samples before the first one.
    """
    import torch
    from torchaudio.transforms import Resample

    sinc = Resample(source, target, dtype=torch.float32)  # that of `torchaudio.functional.resample` for a clip
    return sinc.kernel[:, 0].T.contiguous(), sinc.width


class _Decoder(soundfile.SoundFile):
    """A decoder that never seeks: soundfile does after each read of a file that can, and an MP3 then has a gap."""

    def seekable(self) -> bool:
        return False


class _Data:
    """A file for libsndfile.

    It has no name, since soundfile reads a file named `x.raw` as samples without a header. Callbacks from C cannot
    raise, so that an error of the disk is kept for `check`. The number of samples of a FLAC is read as 0, which makes
    libsndfile decode all samples; it would stop at a number that is too small.

    Args:
        file: the file.
        number: position of a FLAC's number of samples: 36 bits, which begin in the middle of a byte.
    """

    def __init__(self, file: BinaryIO, number: int | None) -> None:
        self._file, self._number, self._error = file, number, None
        self.tell = file.tell
        if type(file) is io.BytesIO and number is None:
            self.readinto = file.readinto  # libsndfile reads an MP3 in many small pieces

    def seek(self, offset: int, whence: int) -> None:
        # a damaged header may point before the start: the position stays, as in a C file
        with suppress(OSError, ValueError):
            self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        start = self._file.tell()
        try:
            count = self._file.readinto(buffer)
        except OSError as error:
            self._error = error
            return 0
        if self._number is not None and start < self._number + 5:
            view = memoryview(buffer)
            for position in range(max(self._number, start), min(self._number + 5, start + count)):
                view[position - start] &= 0xF0 if position == self._number else 0
        return count

    def check(self, name: str) -> None:
        """Refuse a file that the disk could not read to its end."""
        if self._error:
            found = f"an unreadable one ({self._error.strerror})"
            raise BadAudio(name, "a readable audio file", found) from self._error

    def has_frames(self) -> bool:
        """Return whether more frames of an MP3 follow; one or two may be padding, and do not count."""
        skip_tags(self._file)
        following = self._file.read(PADDING + 1)
        return len(following) > PADDING and following[0] == 0xFF and following[1] >= 0xE0

    def has_second_flac(self) -> bool:
        """Return whether a second FLAC follows in the same file, which libsndfile does not decode."""
        self._file.seek(_id3_bytes(self._file) + len(FLAC_START))
        window = b""
        while piece := self._file.read(SCAN_BYTES):
            if FLAC_START in (window := window + piece):
                return True
            window = window[1 - len(FLAC_START) :]
        return False


class Sound:
    """Sound that is decoded in pieces, from its start to its end.

    Args:
        clip: the decoder.
        data: the file that the decoder reads.
        name: of the file in errors.
        header_samples: samples per channel by the header, or None where it does not give or only estimates them.
        part: start and end in seconds of the part to decode; None for all.
    """

    def __init__(self, clip: _Decoder, data: _Data, name: str, header_samples: int | None, part: Part | None) -> None:
        self.name, self.header_samples = name, header_samples
        self.sampling_rate, self.channels = clip.samplerate, clip.channels
        self._clip, self._data, self._decoded, self._ended, self._is_part = clip, data, 0, False, False
        if part:
            self._go_to(*part)

    def _go_to(self, start: float, end: float) -> None:
        """Go to a part, in seconds; reading ends at its end."""
        total, rate = self.header_samples, self.sampling_rate
        first, last = round(start * rate), round(end * rate)
        if total is not None:
            last = min(last, total) if last <= total + ROUNDING * rate else UNKNOWN
        expected = f"a part within {'the file' if total is None else f'its {total / rate:.3f} s'}"
        outside = BadAudio(self.name, expected, f"{start:.3f} to {end:.3f} s", "correct its times")
        if not first < last < UNKNOWN:
            raise outside
        if total is None or not soundfile.SoundFile.seekable(self._clip):  # without the length, seeking is a guess
            while self._decoded < first and not self._ended:
                self.read(min(PIECE, first - self._decoded))
            if self._ended:
                raise outside
        else:
            try:
                with QUIET.messages_off():
                    self._clip.seek(first)
            except soundfile.SoundFileError as error:
                raise outside from error
        self.header_samples, self._decoded, self._is_part = last - first, 0, True

    def read(self, samples: int) -> np.ndarray:
        """Return the next samples, mono float32 `(samples,)`, with any NaN or infinity; fewer at the end, then none.

        Raises:
            BadAudio: for sound that does not decode to its end, or has fewer or more samples than its header states.
        """
        pieces, missing = [], samples
        while missing and not self._ended:
            channels = self._decode(min(missing, max(1, PIECE // self.channels)))
            with np.errstate(invalid="ignore", over="ignore"):  # of samples that are infinite or nearly so
                pieces.append(channels.mean(axis=1) if self.channels > 1 else channels[:, 0])
            missing -= len(channels)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [np.zeros(0, np.float32)])

    def _decode(self, samples: int) -> np.ndarray:
        """Return the next samples of all channels, `(samples, channels)`, fewer at the end."""
        # no more than the length: libsndfile decodes as many as requested, and those after the end would be lost
        last = self._clip.frames if self.header_samples is None else self.header_samples
        ask = min(samples, last - self._decoded)
        try:
            with QUIET.messages_off() if self._clip.subtype.startswith("MPEG") else nullcontext():
                channels = self._clip.read(ask, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            self._data.check(self.name)
            raise BadAudio(self.name, "sound that decodes to its end", f"damaged sound ({_reason(error)})") from error
        self._data.check(self.name)
        self._decoded += len(channels)
        if len(channels) < samples:
            self._ended = True
            self._check_end()
        return channels.copy() if len(channels) < ask else channels  # a view would keep the whole piece in memory

    def _check_end(self) -> None:
        expected = f"the {self.header_samples} samples of its {'part' if self._is_part else 'header'}"
        # some encoders also count the frame that states an MP3's length
        missing = 0 if self.header_samples is None else self.header_samples - self._decoded
        if missing > (MPEG_FRAME if self._clip.format == "MP3" else 0):
            raise BadAudio(self.name, expected, f"only {self._decoded} samples (truncated)")
        if not self._decoded:
            raise BadAudio(self.name, "at least one sample", "0 samples")
        if not self._is_part and self._has_more():
            if self.header_samples is None:  # libsndfile estimates too few from the bit rate of the first frame
                expected = "the length of an MP3 of variable bit rate in its header"
                raise BadAudio(self.name, expected, "none", "let ffmpeg write the file again")
            raise BadAudio(self.name, expected, "more than these")

    def _has_more(self) -> bool:
        """Return whether more sound follows where libsndfile stopped, which it does not report."""
        if self._clip.format == "MP3":
            return self._decoded == self._clip.frames and self._data.has_frames()
        if self._clip.format != "FLAC" or self.header_samples is None:
            return False
        try:
            beyond = len(self._clip.read(1, dtype="float32", always_2d=True))
        except soundfile.SoundFileError:  # tags, which some programs append
            beyond = 0
        return bool(beyond) or self._data.has_second_flac()


@contextmanager
def open_sound(source: Source, name: str | None = None) -> Iterator[Sound]:
    """Open a file for reading in pieces, in memory that does not grow with its length.

    Args:
        source: as for `inspect`.
        name: as for `inspect`.

    Raises:
        BadAudio: as `inspect`.
    """
    file, name, part = _open_file(source, name)
    with file:
        if not file.seek(0, io.SEEK_END):
            raise BadAudio(name, "sound", "an empty file (0 bytes)")
        flac = flac_samples(file)
        data = _Data(file, flac[0] if flac and not part else None)  # libsndfile needs the number to seek
        file.seek(0)
        try:
            with QUIET.messages_off():  # whether it is an MP3 is known only afterwards
                clip = _Decoder(data)
        except soundfile.SoundFileError as error:
            data.check(name)
            expected = "WAV, FLAC, OGG, MP3 or another format of libsndfile"
            remedy = "replace the file, or convert a film or another format with ffmpeg -i FILE sound.wav"
            raise BadAudio(name, expected, f"no readable audio ({_reason(error)})", remedy) from error
        with clip:
            position = file.tell()
            header_samples = flac[1] or None if flac else _header_samples(clip, file, name)
            file.seek(position)
            if not MIN_RATE <= clip.samplerate <= MAX_RATE:
                raise BadAudio(name, f"a sampling rate of {MIN_RATE} to {MAX_RATE} Hz", f"{clip.samplerate} Hz")
            yield Sound(clip, data, name, header_samples, part)


def split_fragment(path: str | Path) -> tuple[Path, Part | None]:
    """Return the file of a path, and start and end of its part in seconds; None for a whole file, of any name."""
    match = FRAGMENT.fullmatch(str(path)) if "#t=" in str(path) and not os.path.exists(path) else None
    return (Path(match[1]), (float(match[2]), float(match[3]))) if match else (Path(path), None)


def _open_file(source: Source, name: str | None) -> tuple[BinaryIO, str, Part | None]:
    if isinstance(source, dict):
        content, path = source.get("bytes"), source.get("path")
        if content is None and path is None:
            raise BadAudio(name or "<row>", "bytes or a path in the audio column", "neither")
        source, name = path if content is None else content, name or (path and Path(path).name)
    if isinstance(source, bytes):
        return io.BytesIO(source), name or "<bytes>", None
    name = name or Path(source).name
    path, part = split_fragment(source)
    try:
        state = path.stat()
        mode = state.st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a pipe waits for a writer
            raise BadAudio(name, "an audio file", "a pipe, socket or device", "check the path")
        if state.st_size <= IN_MEMORY:  # each piece that libsndfile reads is a call of Python
            return io.BytesIO(path.read_bytes()), name, part
        return path.open("rb"), name, part
    except FileNotFoundError as error:
        raise BadAudio(name, "an audio file", f"no file at {path}", "check the path") from error
    except OSError as error:
        raise BadAudio(name, "a readable audio file", f"an unreadable one ({error.strerror})") from error


def _header_samples(clip: _Decoder, file: BinaryIO, name: str) -> int | None:
    """Return the samples per channel by the header, or None where it does not give them.

    Raises:
        BadAudio: for a file that is shorter than its header states.
    """
    declared, present = sound_bytes(file)
    if present < declared < STREAMING_SIZE:
        raise BadAudio(name, f"the {declared} bytes of sound of its header", f"only {present} (truncated)")
    if clip.format == "OGG" and (fault := ogg_fault(file)):
        raise BadAudio(name, "the last page of one stream", fault)
    if not clip.frames:
        raise BadAudio(name, "at least one sample", "0 samples")
    if clip.frames >= UNKNOWN or (clip.format == "MP3" and not mp3_has_length(file)):
        return None
    return clip.frames


def _reason(error: Exception) -> str:
    return str(error).rpartition(": ")[2].rstrip(". ").lower()


OGG_FIRST, OGG_LAST = 2, 4  # flags of a page
NIST_FIELD = re.compile(rb"^(\w+) -i (\d{1,18})", re.MULTILINE)
NIST_FACTORS = (b"sample_count", b"channel_count", b"sample_n_bytes")
FLAC_START = b"fLaC\0\0\0\x22"  # the marker, and the head of the first block, of 34 bytes
ID3V1_BYTES, APE_BYTES = 128, 32
SCAN_BYTES = 2**20  # bytes


def sound_bytes(file: BinaryIO) -> tuple[int, int]:
    """Return the bytes of sound that a header declares, and the bytes that the file has.

    WAV, RF64, AIFF, AU, W64 and NIST SPHERE declare them. Both are 0 for other formats and incomplete headers.
    """
    size = file.seek(0, 2)
    head = _read(file, 0, 24)
    magic = head[:4]
    if magic in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        return _chunk_bytes(file, size, ">" if magic in (b"RIFX", b"FORM") else "<")
    if magic == b".snd" and len(head) >= 12:  # AU: offset and size of the sound
        offset, declared = struct.unpack(">II", head[4:12])
        return declared, size - offset
    if magic == b"riff" and len(head) == 24:  # Sony Wave64: size of the whole file
        return struct.unpack("<Q", head[16:])[0], size
    if head[:8] == b"NIST_1A\n" and head[8:16].strip().isdigit():  # lines of text up to where the sound begins
        start = int(head[8:16])
        fields = dict(NIST_FIELD.findall(_read(file, 16, start)))
        return math.prod(int(fields.get(name, 0)) for name in NIST_FACTORS), size - start
    return 0, 0


def _chunk_bytes(file: BinaryIO, size: int, order: str) -> tuple[int, int]:
    position, long_size = 12, 0
    while len(head := _read(file, position, 8)) == 8:
        identifier, length = struct.unpack(f"{order}4sI", head)
        position += 8
        if identifier in (b"data", b"SSND"):
            return long_size or length, size - position
        if identifier == b"ds64" and len(sizes := _read(file, position, 16)) == 16:
            long_size = struct.unpack("<Q", sizes[8:])[0]  # RF64 keeps the 64-bit size of `data` here
        position += length + length % 2
    return 0, 0


def ogg_fault(file: BinaryIO) -> str | None:
    """Return why an Ogg file is not one whole stream, or None where it is.

    The last page of a stream is marked, and libsndfile takes the length from the last page of the file. Of several
    streams in a row, which the format allows, it decodes the first and ignores the others without an error.
    """
    size, position, flags, ended = file.seek(0, 2), 0, 0, False
    # what follows the last page may be tags or filling
    while len(head := _read(file, position, 27)) == 27 and head[:5] == b"OggS\0":
        flags = head[5]
        if ended and flags & OGG_FIRST:
            return "several streams one after another"
        ended = ended or bool(flags & OGG_LAST)
        position += 27 + head[26] + sum(file.read(head[26]))
    if position > size or not flags & OGG_LAST:
        return f"none within {size} bytes (truncated or damaged)"
    return None


def flac_samples(file: BinaryIO) -> tuple[int, int] | None:
    """Return the position and value of the number of samples per channel in a FLAC file, or None for other files.

    It has 36 bits in 5 bytes, and is 0 where the writer did not know the length.
    """
    start = _id3_bytes(file)
    head = _read(file, start, 26)
    if head[:4] != b"fLaC" or head[4] & 0x7F or len(head) < 26:  # the first block has type 0
        return None
    return start + 21, int.from_bytes(head[21:], "big") & 0xFFFFFFFFF


def mp3_has_length(file: BinaryIO) -> bool:
    """Return whether the first frame of an MP3 gives the number of frames (a Xing or Info frame)."""
    flags = re.search(rb"(?:Xing|Info)(.{4})", _read(file, _id3_bytes(file), 64), re.DOTALL)
    return flags is not None and bool(flags[1][3] & 1)  # the lowest bit: the number of frames is given


def skip_tags(file: BinaryIO) -> None:
    """Skip any number of ID3v1, ID3v2 and APE tags from the current position of a file."""
    while True:
        position = file.tell()
        length, head = _id3_bytes(file, position), _read(file, position, 16)
        if head[:3] == b"TAG":
            length = ID3V1_BYTES
        elif head[:8] == b"APETAGEX" and len(head) == 16:
            length = APE_BYTES + int.from_bytes(head[12:], "little")
        file.seek(position + length)
        if not length:
            return


def _id3_bytes(file: BinaryIO, position: int = 0) -> int:
    """Return the length of an ID3v2 tag, which FLAC and MP3 may have before the sound; 0 where there is none."""
    head = _read(file, position, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    length = 0
    for byte in head[6:]:
        length = length << 7 | byte & 0x7F
    return 10 + length


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


class QuietC:
    """Redirection of C code's `stderr` to the null device while at least one thread is within `messages_off`.

    The MP3 decoder of libsndfile prints a line or two for each damaged file, and its quiet flag cannot be set. The
    manual of the GNU C library calls `stderr` a variable that programs may set. So the variable is set, and file
    descriptor 2 is not redirected: Python writes to the descriptor, so that warnings, progress bars and tracebacks of
    other threads still appear. Messages that other C code prints at the same time are lost. In other C libraries
    `stderr` may be a constant, and the messages stay.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._variable: ctypes.c_void_p | None = None
        if platform.libc_ver()[0] == "glibc":
            library = ctypes.CDLL(None)
            library.fopen.restype = ctypes.c_void_p
            self._variable = ctypes.c_void_p.in_dll(library, "stderr")
            self._terminal, self._null = self._variable.value, library.fopen(b"/dev/null", b"we")
            if not self._null:
                self._variable = None
        if hasattr(os, "register_at_fork"):  # a fork has one thread, outside of `messages_off`
            os.register_at_fork(after_in_child=self._begin_again)

    @contextmanager
    def messages_off(self) -> Iterator[None]:
        """Hide messages of C code, in any number of threads at once."""
        if self._variable is None:
            yield
            return
        with self._lock:
            self._inside += 1
            self._variable.value = self._null
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._variable.value = self._terminal

    def _begin_again(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        if self._variable is not None:
            self._variable.value = self._terminal


QUIET = QuietC()

"""Long recordings, read a minute at a time: resampled without seams, in memory that does not grow with them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from ..audio import MAX_RATE, MIN_RATE, BadAudio, resample

BLOCK_SECONDS = 60  # a whole number, so that blocks begin at whole samples of both rates
REPLACE = "replace the file"
CONTEXT_SECONDS = 1  # of sound on both sides of a block, which the resampling filter reaches into


@dataclass(frozen=True)
class Recording:
    """A file that is read piece by piece.

    Args:
        path: of the file.
        seconds: its length.
        sampling_rate: in Hz.
    """

    path: Path
    seconds: float
    sampling_rate: int

    @classmethod
    def open(cls, path: Path) -> "Recording":
        """What the header of a file says.

        Raises:
            BadAudio: for files that are absent, no audio, without samples or with an absurd rate.
        """
        try:
            info = soundfile.info(path)
        except soundfile.SoundFileError as error:
            expected = "WAV, FLAC, OGG, MP3 or another format of libsndfile"
            if not path.is_file():
                raise BadAudio(path.name, expected, f"no file at {path}", "check the path") from error
            found = f"no readable audio ({error.error_string.rstrip('.').lower()})"
            cure = f"where it is a film or of another format: ffmpeg -i {path.name} sound.wav"
            raise BadAudio(path.name, expected, found, cure) from error
        if not info.frames:
            raise BadAudio(path.name, "at least one sample", "0 samples", REPLACE)
        if not MIN_RATE <= info.samplerate <= MAX_RATE:
            raise BadAudio(
                path.name, f"a sampling rate of {MIN_RATE} to {MAX_RATE} Hz", f"{info.samplerate} Hz", REPLACE
            )
        return cls(path, info.frames / info.samplerate, info.samplerate)

    def blocks(self, rate: int) -> Iterator[np.ndarray]:
        """The whole recording at a rate in Hz, mono float32 `(samples,)`, `BLOCK_SECONDS` at a time.

        Raises:
            BadAudio: for sound that does not decode to its end, and for NaN or infinite samples.
        """
        size, context = BLOCK_SECONDS * self.sampling_rate, CONTEXT_SECONDS * self.sampling_rate
        buffer, before = np.zeros(0, np.float32), 0  # its first samples come before the block
        with soundfile.SoundFile(self.path) as file:
            while True:
                buffer = np.concatenate((buffer, self._read(file, before + size + context - len(buffer))))
                block = min(size, len(buffer) - before)
                if block <= 0:
                    return
                heard = resample(buffer, self.sampling_rate, rate)
                first = rate * CONTEXT_SECONDS if before else 0
                yield heard[first : first + rate * BLOCK_SECONDS] if block == size else heard[first:]
                buffer, before = buffer[before + block - context if block == size else len(buffer) :], context

    def _read(self, file: soundfile.SoundFile, samples: int) -> np.ndarray:
        try:
            channels = file.read(samples, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise BadAudio(
                self.path.name, "sound that decodes to its end", f"damaged sound ({error})", REPLACE
            ) from error
        if not np.isfinite(channels).all():
            at = file.tell() / self.sampling_rate
            found = f"NaN or infinite samples before second {at:.0f}"
            raise BadAudio(self.path.name, "finite samples", found, REPLACE)
        return channels.mean(axis=1)

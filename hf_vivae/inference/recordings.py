"""Long recordings, read a minute at a time: resampled without seams, in memory that does not grow with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio import A_FILE, A_FORMAT, CURE, BadAudio, inspect, open_sound, resample

BLOCK_SECONDS = 60  # a whole number, so that blocks begin at whole samples of both rates
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
        """Read the header of a file; it is decoded only where that does not say the length.

        Raises:
            BadAudio: as `audio.inspect`.
        """
        with _cures(path):
            info = inspect(path)
        return cls(path, info.duration, info.sampling_rate)

    def blocks(self, rate: int) -> Iterator[np.ndarray]:
        """The whole recording at a rate in Hz, mono float32 `(samples,)`, `BLOCK_SECONDS` at a time.

        Raises:
            BadAudio: for sound that does not decode to its end, is shorter or longer than its header says, or holds
                NaN or infinite samples; blocks before the damage have come by then.
        """
        size, context = BLOCK_SECONDS * self.sampling_rate, CONTEXT_SECONDS * self.sampling_rate
        buffer, before, read = np.zeros(0, np.float32), 0, 0  # the buffer's first samples come before the block
        with _cures(self.path), open_sound(self.path) as sound:
            while True:
                samples = sound.read(before + size + context - len(buffer))
                finite = np.isfinite(samples)
                if not finite.all():
                    at = (read + finite.argmin()) / self.sampling_rate
                    found = f"NaN or infinite samples from second {at:.2f} on"
                    raise BadAudio(self.path.name, "finite samples", found)
                buffer, read = np.concatenate((buffer, samples)), read + len(samples)
                block = min(size, len(buffer) - before)
                if block <= 0:
                    return
                resampled = resample(buffer, self.sampling_rate, rate)
                first = rate * CONTEXT_SECONDS if before else 0
                yield resampled[first : first + rate * BLOCK_SECONDS] if block == size else resampled[first:]
                buffer, before = buffer[before + block - context if block == size else len(buffer) :], context


@contextmanager
def _cures(path: Path) -> Iterator[None]:
    """Give errors the cure of a recording, which nobody leaves out of a corpus."""
    try:
        yield
    except BadAudio as error:
        cures = {
            A_FILE: "check the path",
            A_FORMAT: f"where it is a film or of another format: ffmpeg -i {path.name} sound.wav",
        }
        cure = cures.get(error.expected, "replace the file") if error.cure == CURE else error.cure
        raise BadAudio(error.name, error.expected, error.found, cure) from error

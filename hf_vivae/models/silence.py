"""Trimming of silence at both ends of a clip, by the energy of its frames.

The rule is that of librosa's `effects.trim`, in plain NumPy: a checkpoint that was trained on trimmed clips trims
wherever it is used, and librosa would need numba there.
"""

import numpy as np

FRAMES_PER_SECOND = 100  # frames of 10 ms, about one period of the lowest voices


class SilenceTrimmingMixin:
    """Mixin of feature extractors that trims silence from both ends of a clip.

    Args:
        trim_db: frames further than this below the clip's loudest frame are silent, in dB; None trims nothing.
        trim_margin: silence that is kept on both sides, in seconds; rounded up to whole frames of 10 ms.
        trim_min_seconds: smallest length of a trimmed clip, in seconds.
        args: arguments of the feature extractor, which has a `sampling_rate`.
        kwargs: arguments of the feature extractor.
    """

    def __init__(
        self, *args, trim_db: float | None = None, trim_margin: float = 0.05, trim_min_seconds: float = 0.1, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.trim_db = trim_db
        self.trim_margin = trim_margin
        self.trim_min_seconds = trim_min_seconds

    def trim(self, clip: np.ndarray) -> np.ndarray:
        """Return the clip `(samples,)` without the silence at its ends; unchanged if `trim_db` is None."""
        if self.trim_db is None:
            return clip
        first, last = non_silent_range(clip, self.sampling_rate, self.trim_db, self.trim_margin, self.trim_min_seconds)
        return clip[first:last]


def non_silent_range(
    samples: np.ndarray, sampling_rate: int, trim_db: float, trim_margin: float, trim_min_seconds: float
) -> tuple[int, int]:
    """Return the first sample of the part that is kept, and the first after it.

    A frame is silent where its energy is more than `trim_db` below that of the clip's loudest frame; with the peak of
    samples instead, one click would make a voice silent. Silence between sounds is kept, and so is a clip that is
    silent throughout. The part begins and ends at frames, so that trimming twice cuts no more than trimming once.

    Args:
        samples: `(samples,)`, at least one, all finite.
        sampling_rate: sampling rate in Hz.
        trim_db: threshold below the loudest frame, above 0, in dB.
        trim_margin: silence that is kept on both sides, in seconds; rounded up to whole frames.
        trim_min_seconds: smallest length in seconds; a shorter part is widened equally on both sides, up to the ends
            of the clip.
    """
    length = frame_length(sampling_rate)
    energies = frame_energies(samples, sampling_rate)
    sounding = np.flatnonzero(energies >= energies.max() * 10 ** (-trim_db / 10))
    margin = -(-round(trim_margin * sampling_rate) // length) * length
    first = max(int(sounding[0]) * length - margin, 0)
    last = min((int(sounding[-1]) + 1) * length + margin, len(samples))
    shortest = min(round(trim_min_seconds * sampling_rate), len(samples))
    if last - first >= shortest:
        return first, last
    first = max(first - (shortest - (last - first)) // 2, 0)
    first = min(first, len(samples) - shortest)
    return first, first + shortest


def frame_energies(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return the variance of each frame of 10 ms, `(frames,)`; a constant offset (DC) is thus no sound.

    The last frame is filled up with its mirror image.

    Args:
        samples: `(samples,)`.
        sampling_rate: sampling rate in Hz.
    """
    length = frame_length(sampling_rate)
    filled = np.pad(samples.astype(np.float64), (0, -len(samples) % length), "symmetric")
    return filled.reshape(-1, length).var(axis=1)


def frame_length(sampling_rate: int) -> int:
    """Return the number of samples of a frame of 10 ms at a sampling rate in Hz, rounded up."""
    return -(-sampling_rate // FRAMES_PER_SECOND)

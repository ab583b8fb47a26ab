"""Mel spectrograms of overlapping windows of a recording, which compute the frames that they share once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..models import LogMelFeatureExtractor

PIECE = 690  # frames that are computed at once: those of a second fit into the processor's cache
EDGES = 64  # windows whose edges are computed at once
Map = Callable[[Callable, Iterable], Iterator]


def shares_frames(extractor: FeatureExtractionMixin, samples: int) -> bool:
    """Return whether windows of so many samples can share frames, where they begin at multiples of `hop_length`.

    They cannot where each window is trimmed or padded by itself.
    """
    if type(extractor) is not LogMelFeatureExtractor or not extractor.pad_clip or extractor.trim_db is not None:
        return False
    aligned = extractor.fft_length % (2 * extractor.hop_length) == 0
    return aligned and samples >= extractor.num_samples >= 2 * extractor.fft_length


def window_features(
    extractor: LogMelFeatureExtractor, samples: np.ndarray, starts: Sequence[int], map: Map = map
) -> list[Callable[[], dict[str, np.ndarray]]]:
    """Return for each window a function that returns its features, which are those of its samples up to rounding.

    A frame that reaches over the start or the end of a window contains a mirror image of it there, and is computed for
    each window.

    Args:
        extractor: for which `shares_frames` is true.
        samples: of a recording, `(samples,)`, which contain `num_samples` from each start on.
        starts: of the windows, multiples of `hop_length`, in order.
        map: of an executor, on whose threads the frames are computed.

    Returns:
        Functions that return `input_features` `(1, num_mel_bins, frames)`, float32, before `normalize`.
    """
    if not starts:
        return []
    hop, half, length = extractor.hop_length, extractor.fft_length // 2, extractor.num_samples
    samples = samples / np.float32(extractor.peak)
    edge = half // hop  # frames that reach over the start
    inner = (length - half) // hop + 1 - edge  # frames within the window
    firsts = [start // hop for start in starts]  # frame of the recording that is the first within each window
    needed = np.zeros((len(samples) - 2 * half) // hop + 1, bool)
    for first in firsts:
        needed[first : first + inner] = True
    shared = np.empty((extractor.num_mel_bins, len(needed)), np.float32)

    def compute(first: int) -> None:
        part = samples[first * hop : min(first + PIECE, len(needed)) * hop + 2 * half - hop]
        shared[:, first : first + PIECE] = extractor.decibels(torch.from_numpy(part)[None], center=False)[0].numpy()

    list(map(compute, [first for first in range(0, len(needed), PIECE) if needed[first : first + PIECE].any()]))

    def compute_edges(starts: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        before = np.stack([samples[start : start + (edge - 1) * hop + half] for start in starts])
        after = np.stack([samples[start + (edge + inner) * hop - half : start + length] for start in starts])
        mirrored = np.pad(before, ((0, 0), (half, 0)), "reflect"), np.pad(after, ((0, 0), (0, half)), "reflect")
        first, last = (extractor.decibels(torch.from_numpy(part), center=False).numpy() for part in mirrored)
        return list(zip(first, last, strict=True))

    groups = [starts[number : number + EDGES] for number in range(0, len(starts), EDGES)]
    edges = [pair for group in map(compute_edges, groups) for pair in group]

    def join(first: int, edges: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
        decibels = np.concatenate((edges[0], shared[:, first : first + inner], edges[1]), axis=1)
        floor = decibels.max() - np.float32(extractor.top_db)
        return {extractor.model_input_names[0]: np.maximum(decibels, floor)[None]}

    return [partial(join, *window) for window in zip(firsts, edges, strict=True)]

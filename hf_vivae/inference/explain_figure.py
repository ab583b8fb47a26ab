"""Pictures of explanations: the clip, and what in it spoke for the label."""

from pathlib import Path

import numpy as np

from ..evaluation.figures import BLUE, VERMILION, blank_figure, literal
from .explain import Occlusion, Saliency

BLOCKS = 8, 23  # of bands and of frames: gradients of single cells are noise to the eye


def save_occlusion_figure(found: Occlusion, samples: np.ndarray, rate: int, file: Path) -> None:
    """Draw the waveform with, below it, what each part's silence costs the label, as PNG.

    Args:
        found: the explanation.
        samples: of the clip, `(samples,)`.
        rate: in Hz.
        file: is written anew.
    """
    figure = blank_figure(8, 4.5)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(np.arange(len(samples)) / rate, samples, color="#444444", linewidth=0.5)
    above.set(ylabel="amplitude", title=f"{literal(found.label)} ({found.probability:.0%}): what speaks for it")
    centres = found.starts + found.seconds / 2
    for sign, colour, name in ((1, BLUE, "for it"), (-1, VERMILION, "against it")):
        heights = np.maximum(sign * found.losses, 0) * sign
        below.fill_between(centres, heights, step="mid", color=colour, linewidth=0, label=name)
    below.axhline(0, color="black", linewidth=0.5)
    below.set(xlabel="time (s)", ylabel="log odds lost\nwithout this part", xlim=(0, len(samples) / rate))
    below.legend(frameon=False)
    figure.savefig(file)


def save_saliency_figure(found: Saliency, file: Path) -> None:
    """Draw the spectrogram, and beside it how much each block of cells spoke for the label, as PNG."""
    figure = blank_figure(9, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    extent = (0, found.seconds, 0, len(found.spectrogram))
    common = {"origin": "lower", "aspect": "auto", "extent": extent}
    shown = left.imshow(found.spectrogram, cmap="magma", **common)
    figure.colorbar(shown, ax=left, label="dB")
    blocks = _summed(found.relevance)
    limit = max(np.abs(blocks).max(), 1e-9)
    shown = right.imshow(blocks, cmap="RdBu", vmin=-limit, vmax=limit, **common)
    figure.colorbar(shown, ax=right, label="speaks for it")
    left.set(xlabel="time (s)", ylabel="mel band", title="what the model sees")
    right.set(xlabel="time (s)", title=f"{literal(found.label)} ({found.probability:.0%})")
    figure.savefig(file)


def _summed(relevance: np.ndarray) -> np.ndarray:
    """Sums over blocks of cells, `BLOCKS`."""
    for axis, blocks in enumerate(BLOCKS):
        size = relevance.shape[axis]
        edges = np.linspace(0, size, min(blocks, size) + 1).astype(int)[:-1]
        relevance = np.add.reduceat(relevance, edges, axis=axis)
    return relevance

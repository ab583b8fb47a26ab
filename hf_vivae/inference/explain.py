"""Saliency of a clip by occlusion or gradients, as a figure or arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import OUTPUT_REMEDY, atomic_file, check_new
from ..models import LogMelFeatureExtractor
from ..reporting.plots import BLUE, GREY, VERMILION, blank_figure, escape_dollars
from ..validation import UserError
from .scorer import Scorer

FADE = 0.005  # seconds over which sound is faded out and in again, since a step would add a click


@dataclass(frozen=True)
class Occlusion:
    """Losses of a label's log odds where silence replaces one part of a clip after another.

    Args:
        label: that is explained.
        probability: of the label for the whole clip.
        starts: of the parts in seconds, `(parts,)`.
        seconds: length of a part.
        losses: of the label's log odds without each part, `(parts,)`; below 0 where the part is evidence against it.
    """

    label: str
    probability: float
    starts: np.ndarray
    seconds: float
    losses: np.ndarray


def occlusion_saliency(
    scorer: Scorer, sound: Any, label: str | None = None, seconds: float = 0.1, hop: float = 0.05
) -> Occlusion:
    """Measure the loss of a label where one part of a clip after another is silenced (Zeiler and Fergus, ECCV 2014).

    Args:
        scorer: a checkpoint.
        sound: in any form that the pipeline of `load_classifier` takes.
        label: the likeliest by default.
        seconds: length of a part.
        hop: seconds from the start of one part to that of the next.

    Raises:
        UserError: for clips that cannot be scored, and labels that the checkpoint does not have.
    """
    samples, rate = scorer.load_audio(sound), scorer.sampling_rate
    starts = np.arange(0, max(len(samples) / rate - seconds, 0) + hop, hop)
    times, clips = np.arange(len(samples)) / rate, [samples]
    for start in starts:
        silence = np.clip(np.minimum(times - start, start + seconds - times) / FADE, 0, 1)
        clips.append((samples * (1 - silence)).astype(np.float32))
    scores = scorer.score([{"array": clip, "sampling_rate": rate} for clip in clips])
    if isinstance(scores[0], ValueError):
        raise scores[0]
    index = scorer.label_index(label, scores[0])
    # a clip that is silent without a part cannot be scored: all its evidence is in that part, and its log odds are 0
    probabilities = np.array([row[index] if isinstance(row, np.ndarray) else 0.5 for row in scores])
    odds = np.log(probabilities + 1e-9) - np.log(1 - probabilities + 1e-9)
    return Occlusion(scorer.labels[index], float(scores[0][index]), starts, seconds, odds[0] - odds[1:])


@dataclass(frozen=True)
class Saliency:
    """Relevance of each cell of a model's input spectrogram for a label.

    Args:
        label: that is explained.
        probability: of the label for the clip.
        spectrogram: input of the model in dB, `(mel bins, frames)`.
        relevance: gradient times distance from the clip's mean, `(mel bins, frames)`; above 0 where a cell is evidence
            for the label.
        seconds: duration of all frames.
    """

    label: str
    probability: float
    spectrogram: np.ndarray
    relevance: np.ndarray
    seconds: float


def gradient_saliency(scorer: Scorer, sound: Any, label: str | None = None) -> Saliency:
    """Compute gradient times input (Shrikumar et al., 2016) of a label's score, for models of a mel spectrogram.

    The input is measured from the spectrogram's mean, so that a cell of average loudness has no relevance.

    Args:
        scorer: a checkpoint.
        sound: in any form that the pipeline of `load_classifier` takes.
        label: the likeliest by default.

    Raises:
        UserError: as `occlusion_saliency`, and for models that take no spectrogram.
    """
    extractor = scorer.extractor
    if not isinstance(extractor, LogMelFeatureExtractor):
        raise UserError(
            f"expected a model that takes a mel spectrogram, found one with {type(extractor).__name__}; use "
            "occlusion, which explains every model."
        )
    samples = scorer.load_audio(sound)
    decibels = torch.from_numpy(extractor.extract([samples]))
    features = extractor.normalize(decibels.clone()).to(scorer.model.device).requires_grad_()
    logits = scorer.output.merge(scorer.model(**{extractor.model_input_names[0]: features}).logits.float())[0]
    scores = logits.detach().softmax(dim=0).cpu().numpy()
    index = scorer.label_index(label, scores)
    (gradient,) = torch.autograd.grad(logits[index] - logits.mean(), features)
    relevance = (gradient * (features - features.mean())).detach()[0, 0].cpu().numpy()
    seconds = decibels.shape[-1] * extractor.hop_length / extractor.sampling_rate
    return Saliency(scorer.labels[index], float(scores[index]), decibels[0, 0].numpy(), relevance, seconds)


def run_explain(
    checkpoint: str,
    clip: Path,
    *,
    output: Path,
    method: str,
    label: str | None = None,
    revision: str | None = None,
    device: str | None = None,
) -> int:
    """Write an explanation as a figure or as arrays, and return the exit code."""
    if output.suffix not in (".png", ".npz"):
        raise UserError(f"expected --output as x.png or x.npz, found {output.name}; give one of them.")
    check_new(output)
    scorer = Scorer(checkpoint, revision, device)
    explain = occlusion_saliency if method == "occlusion" else gradient_saliency
    explanation = explain(scorer, str(clip), label)
    with atomic_file(output, OUTPUT_REMEDY) as part:
        if output.suffix == ".npz":
            np.savez(part, **vars(explanation))
        elif isinstance(explanation, Saliency):
            save_saliency_figure(explanation, part)
        else:
            save_occlusion_figure(explanation, scorer.load_audio(str(clip)), scorer.sampling_rate, part)
    print(f"{explanation.label} {explanation.probability:.0%}: {output}")
    return 0


BLOCKS = 8, 23  # of bands and of frames, since gradients of single cells look like noise


def save_occlusion_figure(occlusion: Occlusion, samples: np.ndarray, rate: int, file: Path) -> None:
    """Draw the waveform and below it the loss of the label without each part, as PNG.

    Args:
        occlusion: of the clip.
        samples: of the clip, `(samples,)`.
        rate: in Hz.
        file: is overwritten.
    """
    figure = blank_figure(8, 4.5)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(np.arange(len(samples)) / rate, samples, color=GREY, linewidth=0.5)
    label = escape_dollars(occlusion.label)
    above.set(ylabel="amplitude", title=f"Evidence for {label} ({occlusion.probability:.0%})")
    centres = occlusion.starts + occlusion.seconds / 2
    for sign, colour, name in ((1, BLUE, "for it"), (-1, VERMILION, "against it")):
        heights = np.maximum(sign * occlusion.losses, 0) * sign
        below.fill_between(centres, heights, step="mid", color=colour, linewidth=0, label=name)
    below.axhline(0, color="black", linewidth=0.5)
    below.set(xlabel="time (s)", ylabel="log odds lost\nwithout this part", xlim=(0, len(samples) / rate))
    below.legend(frameon=False)
    figure.savefig(file)


def save_saliency_figure(saliency: Saliency, file: Path) -> None:
    """Draw the spectrogram, and to its right the relevance of each block of cells for the label, as PNG."""
    figure = blank_figure(9, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    extent = (0, saliency.seconds, 0, len(saliency.spectrogram))
    common = {"origin": "lower", "aspect": "auto", "extent": extent}
    figure.colorbar(left.imshow(saliency.spectrogram, cmap="magma", **common), ax=left, label="dB")
    blocks = saliency.relevance
    for axis, count in enumerate(BLOCKS):
        size = blocks.shape[axis]
        edges = np.linspace(0, size, min(count, size) + 1).astype(int)[:-1]
        blocks = np.add.reduceat(blocks, edges, axis=axis)
    limit = max(np.abs(blocks).max(), 1e-9)
    shown = right.imshow(blocks, cmap="RdBu", vmin=-limit, vmax=limit, **common)
    figure.colorbar(shown, ax=right, label="evidence for the label")
    left.set(xlabel="time (s)", ylabel="mel band", title="Input of the model")
    right.set(xlabel="time (s)", title=f"{escape_dollars(saliency.label)} ({saliency.probability:.0%})")
    figure.savefig(file)

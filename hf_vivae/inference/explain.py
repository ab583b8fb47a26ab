"""Saliency of a clip by occlusion or gradients, as a figure or arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import OUTPUT_REMEDY, atomic_file, check_new
from ..models import LogMelFeatureExtractor
from ..reporting.plots import BLUE, VERMILION, blank_figure, literal
from ..validation import UserError
from .scorer import Scorer

FADE = 0.005  # seconds over which sound is faded out and in again, since a click would be heard as one


@dataclass(frozen=True)
class Occlusion:
    """What silence in place of each part of a clip costs a label.

    Args:
        label: whose probability is explained.
        probability: of the whole clip.
        starts: of the parts in seconds, `(parts,)`.
        seconds: length of a part.
        losses: how much of its log odds the label loses without each part, `(parts,)`; below 0 where the part spoke
            against it.
    """

    label: str
    probability: float
    starts: np.ndarray
    seconds: float
    losses: np.ndarray


def occlusion_saliency(
    scorer: Scorer, sound: Any, label: str | None = None, seconds: float = 0.1, hop: float = 0.05
) -> Occlusion:
    """Silence one part of a clip after another (Zeiler and Fergus, ECCV 2014), and see what that costs a label.

    Args:
        scorer: a checkpoint.
        sound: in any form that the pipeline of `load_classifier` takes.
        label: the likeliest if not given.
        seconds: length of a part.
        hop: seconds from the start of one to that of the next.

    Raises:
        ValueError: for clips that cannot be scored, and labels that the checkpoint does not know.
    """
    samples, rate = scorer.load_audio(sound), scorer.sampling_rate
    starts = np.arange(0, max(len(samples) / rate - seconds, 0) + hop, hop)
    clips = [samples, *(_silenced(samples, rate, start, seconds) for start in starts)]
    scores = scorer.score([{"array": clip, "sampling_rate": rate} for clip in clips])
    if isinstance(scores[0], ValueError):
        raise scores[0]
    place = scorer.place(label, scores[0])
    # what is silence once a part is gone has said nothing but in that part
    odds = np.array([_log_odds(one[place]) if isinstance(one, np.ndarray) else 0.0 for one in scores])
    return Occlusion(scorer.labels[place], float(scores[0][place]), starts, seconds, odds[0] - odds[1:])


def _silenced(samples: np.ndarray, rate: int, start: float, seconds: float) -> np.ndarray:
    times = np.arange(len(samples)) / rate
    inside = np.clip(np.minimum(times - start, start + seconds - times) / FADE, 0, 1)
    return (samples * (1 - inside)).astype(np.float32)


def _log_odds(probability: float) -> float:
    return float(np.log(probability + 1e-9) - np.log(1 - probability + 1e-9))


@dataclass(frozen=True)
class Saliency:
    """How much each cell of the spectrogram that a model sees spoke for a label.

    Args:
        label: whose score is explained.
        probability: of the clip.
        spectrogram: what the model sees, in dB, `(mel bins, frames)`.
        relevance: gradient times distance from the clip's mean, `(mel bins, frames)`; above 0 where a cell spoke for
            the label.
        seconds: which the frames span.
    """

    label: str
    probability: float
    spectrogram: np.ndarray
    relevance: np.ndarray
    seconds: float


def gradient_saliency(scorer: Scorer, sound: Any, label: str | None = None) -> Saliency:
    """Gradient times input (Shrikumar et al., 2016) of a label's score, for models that see a mel spectrogram.

    The input is taken from the spectrogram's mean: what is as loud as the rest of the clip has told nothing.

    Args:
        scorer: a checkpoint.
        sound: in any form that the pipeline of `load_classifier` takes.
        label: the likeliest if not given.

    Raises:
        ValueError: as `occlusion_saliency`, and for models that see no spectrogram.
    """
    extractor = scorer.extractor
    if not isinstance(extractor, LogMelFeatureExtractor):
        raise UserError(
            f"expected a model that sees a mel spectrogram, found one with {type(extractor).__name__}; use occlusion, "
            "which explains every model."
        )
    samples = scorer.load_audio(sound)
    decibels = torch.from_numpy(extractor.extract([samples]))
    features = extractor.normalize(decibels.clone()).to(scorer.model.device).requires_grad_()
    logits = scorer.model(**{extractor.model_input_names[0]: features}).logits[0].float()
    scores = logits.detach().softmax(dim=0).cpu().numpy()
    place = scorer.place(label, scores)
    (slope,) = torch.autograd.grad(logits[place] - logits.mean(), features)
    relevance = (slope * (features - features.mean())).detach()[0, 0].cpu().numpy()
    seconds = decibels.shape[-1] * extractor.hop_length / extractor.sampling_rate
    return Saliency(scorer.labels[place], float(scores[place]), decibels[0, 0].numpy(), relevance, seconds)


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
    found = (
        occlusion_saliency(scorer, str(clip), label)
        if method == "occlusion"
        else gradient_saliency(scorer, str(clip), label)
    )
    with atomic_file(output, OUTPUT_REMEDY) as part:
        if output.suffix == ".npz":
            np.savez(part, **vars(found))
        else:
            _draw(found, scorer, clip, part)
    print(f"{found.label} {found.probability:.0%}: {output}")
    return 0


def _draw(found: Occlusion | Saliency, scorer: Scorer, clip: Path, output: Path) -> None:
    if isinstance(found, Saliency):
        save_saliency_figure(found, output)
    else:
        save_occlusion_figure(found, scorer.load_audio(str(clip)), scorer.sampling_rate, output)


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

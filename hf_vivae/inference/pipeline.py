"""A trained checkpoint as a `transformers` pipeline for files, bytes, arrays and rows of a dataset.

The library's pipeline decodes files with FFmpeg and takes arrays unchecked; here soundfile decodes, and ambiguous
input is refused.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AudioClassificationPipeline, Wav2Vec2FeatureExtractor

from .. import audio
from ..checkpoints.load import load_for_inference
from ..checkpoints.open_set import OutputLabels, output_labels
from ..checkpoints.resolve import resolve_checkpoint
from ..corpus.checked import QUIETEST
from ..features.extraction import trims
from ..models.features_trimmed import pad_to_minimum
from ..validation import UserError

LOUDEST = 100.0  # full scale is 1; 16-bit samples that were converted to floats without scaling are above
REPLACE = "replace the clip or leave it out"
GIVE = (
    "give a path, the bytes of a file, {'array': samples, 'sampling_rate': rate}, or a row with one of them as audio"
)


def load_classifier(
    id_or_folder: str | Path, revision: str | None = None, device: int | str | torch.device | None = None
) -> "VocalisationPipeline":
    """Return a pipeline that labels clips.

    ```python
    classify = hf_vivae.load_classifier("someone/vit-32-30-vivae")
    classify("laugh.ogg")  # [{"score": 0.91, "label": "achievement"}, ...], all labels, the likeliest first
    classify([{"array": samples, "sampling_rate": 48000}, "scream.mp3"], batch_size=8, top_k=1)
    for scores in classify(load_dataset("someone/clips", split="test")): ...
    ```

    Weights are read from safetensors only, and no code of the checkpoint is executed: its class must be one of
    transformers or of this package. A model that was trained on clips of one length takes no more than that.

    Args:
        id_or_folder: a run's folder of a fold, any other checkpoint folder, or a Hub id.
        revision: branch, tag or commit of a Hub id.
        device: as for `transformers.pipeline`; by default a GPU if there is one.

    Raises:
        UserError: for checkpoints that cannot be found, are not audio classifiers, keep their weights as a pickle or
            need code of their own; and for a device that is missing.
    """
    if isinstance(device, (str, torch.device)):
        try:
            torch.zeros(1, device=device).cpu()  # from the device meta nothing can be copied
        except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
            raise UserError(
                f"expected a device that is here, such as cpu or cuda:0, found {str(device)!r} "
                f"({str(error).splitlines()[0]}); leave it out to take a GPU if there is one."
            ) from error
    model, extractor = load_for_inference(resolve_checkpoint(str(id_or_folder), revision=revision))
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        extractor.return_attention_mask = True  # without it, a clip's score depends on the padding in its batch
    return VocalisationPipeline(
        model=model, feature_extractor=extractor, task="audio-classification", device=device, top_k=None
    )


class VocalisationPipeline(AudioClassificationPipeline):
    """`AudioClassificationPipeline` for files that soundfile reads, bytes, arrays with their rate and dataset rows."""

    @cached_property
    def output(self) -> OutputLabels:
        """Labels of the output, `unknown` among them where the checkpoint can reject a clip."""
        return output_labels(self.model.config)

    def _sanitize_parameters(self, top_k: int | None = None, **kwargs: Any) -> tuple[dict, dict, dict]:
        steps, labels = super()._sanitize_parameters(top_k, **kwargs), len(self.output.names)
        steps[2]["top_k"] = labels if top_k is None else min(top_k, labels)
        return steps

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Return labels and scores of one clip or of several, the likeliest first.

        Args:
            inputs: a path; the bytes of a file; `{"array" or "raw", "sampling_rate"}` with floats `(samples,)` or
                `(samples, channels)`, NumPy or torch, full scale 1; `{"bytes", "path"}`; a decoder of torchcodec; a
                row with any of these as `audio`; or a list, a generator or a dataset of such clips.
            kwargs: the library's, such as `top_k` (all labels by default) and `batch_size`.

        Returns:
            A list of `{"score", "label"}` for a clip, a list of such lists for a list, and an iterator over them for a
            generator or a dataset.

        Raises:
            UserError: for input that is not a clip or is ambiguous, and for clips that are damaged, silent, shorter
                than 25 ms, or not finite.
        """
        if isinstance(inputs, list) and not inputs:
            return []
        if hasattr(inputs, "cast_column") and not isinstance(inputs, dict):  # a DatasetDict is several datasets
            inputs = _rows(inputs)
        return super().__call__(inputs, **kwargs)

    def preprocess(self, inputs: Any) -> dict[str, torch.Tensor]:
        """Return the model's inputs of one clip."""
        return super().preprocess(self.load_audio(inputs))

    def load_audio(self, inputs: Any) -> np.ndarray:
        """Return the part of a clip that the model takes, mono `(samples,)` at the model's rate.

        Args:
            inputs: one clip, in any form that the pipeline takes.

        Raises:
            UserError: for input that is not a clip, or a clip that cannot be scored.
        """
        samples, name, _ = self.read(inputs)
        return self.cut(samples, name)

    def read(self, clip: Any, max_seconds: float = math.inf) -> tuple[np.ndarray, str, float]:
        """Return a clip, mono `(samples,)` at the model's rate, its name in errors, and its length in seconds.

        Of a model whose input has one length, no more samples than these are resampled.

        Args:
            clip: in any form that the pipeline takes.
            max_seconds: of a clip that has to be decoded; longer ones are refused.

        Raises:
            UserError: for input that is not a clip, and for a clip that is damaged, too long or not finite.
        """
        extractor = self.feature_extractor
        whole = trims(extractor) or not getattr(extractor, "pad_clip", True)  # cut afterwards
        sampling_rate, count = extractor.sampling_rate, None if whole else getattr(extractor, "num_samples", None)
        if isinstance(clip, dict) and "audio" in clip:
            clip = clip["audio"]
        if hasattr(clip, "get_all_samples"):
            decoded = clip.get_all_samples()  # (channels, samples)
            clip = {"array": decoded.data.T, "sampling_rate": decoded.sample_rate}
        if isinstance(clip, dict) and any(clip.get(name) is not None for name in ("array", "raw")):
            name = Path(clip.get("path") or "<array>").name
            array = clip["raw"] if clip.get("array") is None else clip["array"]
            samples, rate = _mono(array, name), _rate(clip.get("sampling_rate"), name)
            return audio.resample(samples, rate, sampling_rate, count), name, len(samples) / rate
        if isinstance(clip, (str, Path, bytes)) or (isinstance(clip, dict) and clip.keys() & {"bytes", "path"}):
            path = None if isinstance(clip, bytes) else clip.get("path") if isinstance(clip, dict) else clip
            name = Path(path or "<bytes>").name
            samples, rate = audio.load(clip, None, name, max_seconds)
            return audio.resample(samples, rate, sampling_rate, count), name, len(samples) / rate
        if isinstance(clip, (np.ndarray, torch.Tensor)):
            raise UserError(f"expected the sampling rate with the samples, found a bare array; {GIVE}.")
        keys = f" of {', '.join(map(str, clip))}" if isinstance(clip, dict) else ""
        raise UserError(f"expected a clip, found a {type(clip).__name__}{keys}; {GIVE}.")

    def cut(self, samples: np.ndarray, name: str) -> np.ndarray:
        """Return the part of a clip that the model takes, `(samples,)`; uncut where its extractor trims first.

        Args:
            samples: of the whole clip, `(samples,)` at the model's rate.
            name: of the clip in errors.

        Raises:
            BadAudio: where that part is silence, or shorter than 25 ms.
        """
        extractor = self.feature_extractor
        used = extractor.trim(samples) if trims(extractor) else samples
        if getattr(extractor, "pad_clip", True):  # else it is cut as a spectrogram
            used = used[: getattr(extractor, "num_samples", None)]
        seconds = len(used) / extractor.sampling_rate
        if seconds < audio.SHORTEST_SECONDS:
            raise audio.BadAudio(
                name, f"at least {1000 * audio.SHORTEST_SECONDS:g} ms of sound", f"{1000 * seconds:.3g} ms", REPLACE
            )
        if np.ptp(used) <= QUIETEST:
            raise audio.BadAudio(
                name, f"sound in its first {seconds:.2f} s, which the model takes", "silence", REPLACE
            )
        return samples if trims(extractor) else pad_to_minimum(extractor, used)

    def postprocess(self, model_outputs: dict[str, torch.Tensor], **kwargs: Any) -> list[dict[str, Any]]:
        """Return labels and scores of one clip, the likeliest first."""
        if not torch.isfinite(model_outputs["logits"]).all():
            raise UserError("expected finite scores of a clip, found NaN or infinite ones; check how loud it is.")
        if self.output.unknown is None:
            return super().postprocess(model_outputs, **kwargs)
        # not by the library, which names scores by the model's own labels
        scores = self.output.merge(model_outputs["logits"])[0]
        if (function := kwargs.get("function_to_apply") or "softmax") != "none":
            scores = scores.softmax(dim=-1) if function == "softmax" else scores.sigmoid()
        best = scores.topk(kwargs["top_k"])
        return [
            {"score": score, "label": self.output.names[index]}
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def _rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """Return an iterator over the rows of a dataset, with the clip as `audio`."""
    from datasets import Audio  # a second of imports that files and arrays do not need

    from .streamed_dataset import StoredAudio

    features = dataset.features or {}
    columns = [name for name, feature in features.items() if isinstance(feature, Audio)]
    if not columns or ("audio" in features and "audio" not in columns):
        return (row for row in dataset)  # the library distinguishes generators from other iterators
    column = "audio" if "audio" in columns else columns[0]  # in WebDataset its name is the files' suffix
    dataset = dataset.select_columns([column]).cast_column(column, StoredAudio())
    return ({"audio": _with_bytes(row[column])} for row in dataset)


def _with_bytes(stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return an audio cell, with its bytes where `datasets` streams it from an archive or the Hub."""
    if stored is None or stored["bytes"] is not None or not str(stored["path"]).startswith(("zip://", "hf://")):
        return stored
    import fsspec

    with fsspec.open(stored["path"], "rb") as file:
        return {"bytes": file.read(), "path": stored["path"]}


def _mono(array: Any, name: str) -> np.ndarray:
    """Return the checked samples `(samples,)` of an array `(samples,)` or `(samples, channels)`."""
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = array.float() if array.is_floating_point() else array  # NumPy has no bfloat16
    values = np.asarray(array)
    if values.dtype.kind != "f":
        remedy = "scale them to floats of full scale 1, which for 16-bit samples is / 32768"
        raise audio.BadAudio(name, "floating-point samples", f"{values.dtype}", remedy)
    if values.ndim not in (1, 2) or (values.ndim == 2 and len(values) <= values.shape[1]):
        remedy = "transpose it or average its channels"
        raise audio.BadAudio(
            name, "samples of shape (samples,) or (samples, channels)", f"shape {values.shape}", remedy
        )
    if values.size == 0:
        raise audio.BadAudio(name, "at least one sample", "0 samples", REPLACE)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise audio.BadAudio(name, "finite samples", f"{count} NaN or infinite samples", REPLACE)
    if (peak := np.abs(values).max()) > LOUDEST:
        remedy = "scale it, by 1 / 32768 if it was of 16 bits"
        raise audio.BadAudio(name, "samples whose full scale is 1", f"a peak of {peak:.6g}", remedy)
    values = values.astype(np.float32)
    return values.mean(axis=1) if values.ndim == 2 else values


def _rate(rate: Any, name: str) -> int:
    value = rate.item() if hasattr(rate, "item") else rate  # a scalar of NumPy or torch
    possible = isinstance(value, (int, float)) and audio.MIN_RATE <= value <= audio.MAX_RATE
    if not possible or value != int(value):
        expected = f"a sampling_rate of {audio.MIN_RATE} to {audio.MAX_RATE} Hz with the samples"
        remedy = "give the rate at which the clip was recorded"
        raise audio.BadAudio(name, expected, "none" if value is None else repr(value), remedy)
    return int(value)

"""Scoring of clips by a checkpoint, in batches and threads."""

import copy
import hashlib
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..audio import ClipTooLong
from ..checkpoints.adapters import ADAPTER
from ..checkpoints.calibration import temperature_of
from ..checkpoints.load import LONGEST_INPUT
from ..checkpoints.open_set import output_labels
from ..checkpoints.resolve import resolve_checkpoint
from ..features.extraction import AudioDataCollator, extract_features, max_input_seconds, trims
from ..files import read_json
from ..models.cpu_attention import speed_up
from ..models.silence import SilenceTrimmingMixin
from ..run_folder import CORPUS_FIELD
from ..validation import UserError, check_choice
from .pipeline import load_classifier

LONGEST_CLIP = 60.0  # seconds; a longer file is a recording, which would take too much memory
CLIPS_AT_ONCE = 256  # read together, so that clips of similar length can share a batch
BATCH_SIZES = {"cpu": 8}  # small ones are faster there, and divide more evenly among threads
Key = TypeVar("Key")
# files on which scores depend; a run's folder also has its results
CHECKPOINT_FILES = (
    "*.safetensors", "config.json", "preprocessor_config.json", "processor_config.json",
    f"{ADAPTER}/*.safetensors", f"{ADAPTER}/adapter_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class ClipScores:
    """Scores of a clip.

    Args:
        probabilities: of each label, `(labels,)`.
        duration: of the clip, in seconds.
        duration_used: seconds of it that the model was given.
    """

    probabilities: np.ndarray
    duration: float
    duration_used: float


@dataclass(frozen=True)
class FeaturedClip:
    """A clip whose features need not be extracted.

    Args:
        clip: in a form that the pipeline takes.
        features: function that returns what the extractor would for the clip; called by the threads that read clips.
    """

    clip: Any
    features: Callable[[], dict[str, np.ndarray]]


@dataclass(frozen=True)
class _Input:
    """Features of a clip by name, its length and how much of it is used, in seconds."""

    features: dict[str, torch.Tensor]
    duration: float
    duration_used: float


class Scorer:
    """A checkpoint that returns the probabilities of clips.

    They do not depend on the other clips of a batch: padding is masked, or all clips have one length. `labels` are
    their names; where the checkpoint can reject a clip, the last is `unknown`, whose index the attribute `unknown` is.

    Args:
        checkpoint: folder or Hub id, as for `hf_vivae.load_classifier`.
        revision: branch, tag or commit of a Hub id.
        device: such as `cpu` or `cuda:1`; by default a GPU if there is one.
        batch_size: clips that the model is given at once; by default 8 without a GPU and 32 with one.
        workers: threads that read clips and, without a GPU, score them, each on a core of its own (afterwards
            `torch.get_num_threads` is 1); by default as many as torch uses.
        bf16: compute in bfloat16 (autocast): faster where the processor has instructions for it; probabilities change
            in their third decimal.

    Raises:
        UserError: as `load_classifier`.
    """

    def __init__(
        self,
        checkpoint: str,
        revision: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        bf16: bool = False,
    ) -> None:
        folder = resolve_checkpoint(checkpoint, revision=revision)
        self.name, self.identity = checkpoint, checkpoint_digest(folder)
        self._pipeline = load_classifier(folder, device=device)
        self.model, self.extractor = self._pipeline.model, self._pipeline.feature_extractor
        self._collate = AudioDataCollator(self.extractor)
        config = self.model.config
        self.output = output_labels(config)
        self.labels, self.unknown = list(self.output.names), self.output.unknown
        self.temperature = temperature_of(config)
        self.training_corpus = training_corpus(folder, config)
        self.sampling_rate = self.extractor.sampling_rate  # in Hz; arrays of this rate are not resampled
        self.longest_input = longest_input(self.extractor)  # seconds; longer clips are cut
        self.batch_size = batch_size or BATCH_SIZES.get(self.model.device.type, 32)
        self.clips_at_once = max(CLIPS_AT_ONCE, self.batch_size)  # of one call of `score`, all in memory
        self.bf16, self._own = bf16, threading.local()
        if self.model.device.type == "cpu":
            speed_up(self.model)
        if bf16:  # once, as autocast would for each batch; not in subclasses, whose weights may be computed
            for module in self.model.modules():
                if type(module) in (nn.Linear, nn.Conv1d, nn.Conv2d):
                    module.to(torch.bfloat16)
        self._pool = ThreadPoolExecutor(workers or torch.get_num_threads(), initializer=self._start_worker)

    def load_audio(self, sound: Any) -> np.ndarray:
        """Return the part of a clip that the model takes, `(samples,)`; see `VocalisationPipeline.load_audio`."""
        return self._pipeline.load_audio(sound)

    def map(self, function: Callable, *values: Iterable) -> Iterator:
        """Return an iterator over the results of a function, which the threads that read clips call."""
        return self._pool.map(function, *values)

    def label_index(self, label: str | None, scores: np.ndarray) -> int:
        """Return the index of a label, or of the likeliest by `scores` `(labels,)`.

        Raises:
            UserError: for a label that the checkpoint does not have.
        """
        if label is None:
            return int(scores.argmax())
        check_choice("--label", label, self.labels)
        return self.labels.index(label)

    def score(self, sounds: Sequence[Any]) -> list[np.ndarray | ValueError]:
        """Return for each clip its probabilities `(labels,)`, or the error for a clip that cannot be scored.

        Args:
            sounds: in any form that the pipeline of `load_classifier` takes; or functions that return such a form,
                called by the threads that read clips; or a `FeaturedClip`.
        """
        return [row if isinstance(row, ValueError) else row.probabilities for row in self.score_clips(sounds)]

    def score_clips(self, sounds: Sequence[Any]) -> list[ClipScores | ValueError]:
        """Return the same as `score`, with the duration of each clip and how much of it was used."""
        return [scores for _, scores in next(self.score_chunks([list(enumerate(sounds))]))]

    def score_chunks(
        self, chunks: Iterable[Sequence[tuple[Key, Any]]]
    ) -> Iterator[list[tuple[Key, ClipScores | ValueError]]]:
        """Yield what `score_clips` returns for each of several sequences of clips, in order, with each clip's key.

        The clips of one are read while the model scores those of the one before; both are in memory.

        Args:
            chunks: of pairs of a key and a clip as for `score`.
        """
        reading: deque[tuple[list[Key], list[Future]]] = deque()
        for chunk in chunks:
            keys, sounds = [key for key, _ in chunk], (sound for _, sound in chunk)
            reading.append((keys, [self._pool.submit(self._prepare, sound) for sound in sounds]))
            del chunk, sounds  # else a third one would be in memory
            if len(reading) > 1:
                yield self._score(*reading.popleft())
        while reading:
            yield self._score(*reading.popleft())

    def _score(self, keys: list[Key], reading: list[Future]) -> list[tuple[Key, ClipScores | ValueError]]:
        inputs: list[_Input | ValueError] = [clip.result() for clip in reading]
        results: list[Any] = [clip if isinstance(clip, ValueError) else None for clip in inputs]
        usable = [index for index, failure in enumerate(results) if failure is None]
        usable.sort(key=lambda index: len(next(iter(inputs[index].features.values()))))
        batches = [usable[start : start + self.batch_size] for start in range(0, len(usable), self.batch_size)]
        # one core for each batch is faster than all cores for one batch; a GPU takes one batch after the other
        run = self._pool.map if self.model.device.type == "cpu" else map
        scores = run(self._forward, [[inputs[index] for index in batch] for batch in batches])
        for index, row in zip(chain(*batches), chain.from_iterable(scores), strict=True):
            results[index] = row
        return list(zip(keys, results, strict=True))

    def _start_worker(self) -> None:
        torch.set_num_threads(1)
        # a model of its own, since models store the padding of a batch; the weights are shared
        shared = {id(tensor): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
        self._own.model = copy.deepcopy(self.model, shared)

    def _prepare(self, sound: Any) -> _Input | ValueError:
        try:
            featured = sound if isinstance(sound, FeaturedClip) else None
            sound = featured.clip if featured else sound() if callable(sound) else sound
            samples, name, duration = self._pipeline.read(sound, LONGEST_CLIP)
            clip = self._pipeline.cut(samples, name)
        except ClipTooLong as error:
            error.remedy = "use hf-vivae timeline, which takes recordings of any length"
            return error
        except UserError as error:
            return error
        # libraries raise any error on a damaged clip, and the others of an archive get their scores
        except Exception as error:
            failure = ValueError(f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            return failure
        if featured:
            tensors = {name: torch.as_tensor(values) for name, values in featured.features().items()}
        else:
            features = extract_features(self.extractor, [clip], LONGEST_INPUT)
            tensors = {name: torch.as_tensor(values[0]) for name, values in features.items()}
        # not `extractor.trim`, which may also pad the clip to the model's shortest input
        kept = duration
        if trims(self.extractor):
            kept = len(SilenceTrimmingMixin.trim(self.extractor, samples)) / self.sampling_rate
        return _Input(tensors, duration, min(kept, self.longest_input))

    @torch.inference_mode()
    def _forward(self, clips: list[_Input]) -> list[ClipScores | ValueError]:
        model = getattr(self._own, "model", self.model)
        features = self._collate([clip.features for clip in clips])
        batch = {name: values.to(model.device) for name, values in features.items()}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.bf16):
            logits = model(**batch).logits.float()
        logits = self.output.merge(logits, self.temperature or 1.0)
        not_finite = UserError("expected finite scores of a clip, found NaN or infinite ones; check how loud it is.")
        return [
            ClipScores(row, clip.duration, clip.duration_used) if np.isfinite(row).all() else not_finite
            for row, clip in zip(logits.softmax(dim=-1).cpu().numpy(), clips, strict=True)
        ]


def longest_input(extractor: FeatureExtractionMixin) -> float:
    """Return the seconds after which a clip is cut; infinite where it is not."""
    num_samples = getattr(extractor, "num_samples", None)
    if num_samples is None:
        seconds = math.inf if isinstance(extractor, SilenceTrimmingMixin) else LONGEST_INPUT  # see `extract_features`
    else:
        seconds = num_samples / extractor.sampling_rate
    return min(seconds, max_input_seconds(extractor))


def checkpoint_digest(folder: Path) -> str:
    """Return the SHA-256 of the files on which a checkpoint's scores depend: weights, configuration, preprocessing."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern)):
        digest.update(path.relative_to(folder).as_posix().encode())
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise UserError(
                f"expected a checkpoint that can be read, found {path} ({error.strerror}); change its permissions, or "
                "copy it again."
            ) from error
    return digest.hexdigest()


def training_corpus(folder: Path, config: PreTrainedConfig) -> str | None:
    """Return the name of the corpus that a checkpoint was trained on, or None where it is not known.

    Checkpoints of earlier commits state it only in the `run.json` of their run folder.
    """
    record = folder / "run.json"
    if hasattr(config, CORPUS_FIELD) or not record.is_file():
        return getattr(config, CORPUS_FIELD, None)
    return read_json(record).get("corpus", {}).get("name")

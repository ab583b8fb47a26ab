"""A checkpoint as a function from clips to probabilities."""

import copy
import hashlib
import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..checkpoints.adapters import ADAPTER
from ..checkpoints.calibration import temperature_of
from ..checkpoints.load import LONGEST_INPUT
from ..checkpoints.resolve import resolve_checkpoint
from ..features.extraction import AudioDataCollator, extract_features, max_input_seconds
from ..files import read_json
from ..models.cpu_attention import speed_up
from ..models.silence import SilenceTrimmingMixin
from ..run_folder import CORPUS_FIELD
from ..validation import UserError, check_choice
from .pipeline import load_classifier
from .sources import (
    check_length,
)

CLIPS_AT_ONCE = 256  # that are read together, so that clips of like length can share a batch
BATCH_SIZES = {"cpu": 8}  # small ones are faster there, and are shared more evenly
# what scores depend on; a run's folder has its results beside these
OF_SCORES = (
    "*.safetensors", "config.json", "preprocessor_config.json", "processor_config.json",
    f"{ADAPTER}/*.safetensors", f"{ADAPTER}/adapter_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class ClipScores:
    """Scores of a clip.

    Args:
        probabilities: of each label, `(labels,)`.
        duration: of the clip, in seconds.
        duration_used: how much of it the model was given, in seconds.
    """

    probabilities: np.ndarray
    duration: float
    duration_used: float


@dataclass(frozen=True)
class _Input:
    """A clip as the model takes it: features by name; its length and how much of it is used, in seconds."""

    features: dict[str, torch.Tensor]
    duration: float
    duration_used: float


class Scorer:
    """Probabilities of each label for clips.

    A clip gets the same in any batch: what is padded is masked, or has one length for all.

    Args:
        checkpoint: folder or Hub id, as for `hf_vivae.load_classifier`.
        revision: branch, tag or commit of a Hub id.
        device: such as `cpu` or `cuda:1`; by default a GPU if there is one.
        batch_size: clips that the model is given at once; by default 8 without a GPU and 32 with one.
        workers: threads that read clips and, without a GPU, score them, each on a core of its own (see
            `torch.set_num_threads`, which is 1 from then on); by default as many as torch uses.
        bf16: whether the model computes in bfloat16 (autocast): where the processor has instructions for it, this is
            two to three times as fast, and probabilities change in their third decimal.

    Raises:
        ValueError: as `load_classifier`.
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
        self._collate = AudioDataCollator(self._pipeline.feature_extractor)
        config = self._pipeline.model.config
        self.labels = [config.id2label[number] for number in range(config.num_labels)]
        self.temperature = temperature_of(config)
        self.training_corpus = training_corpus(folder, config)
        self.sampling_rate = self._pipeline.feature_extractor.sampling_rate  # in Hz, which arrays are best given at
        self.model, self.extractor = self._pipeline.model, self._pipeline.feature_extractor
        self.longest_input = longest_input(self.extractor)  # seconds behind which a clip is cut
        self.batch_size = batch_size or BATCH_SIZES.get(self.model.device.type, 32)
        self.bf16, self._own = bf16, threading.local()
        if self.model.device.type == "cpu":
            speed_up(self.model)
        self._pool = ThreadPoolExecutor(workers or torch.get_num_threads(), initializer=self._start_worker)

    @property
    def clips_at_once(self) -> int:
        """How many clips `score` is best given, which are in memory together."""
        return max(CLIPS_AT_ONCE, self.batch_size)

    def load_audio(self, sound: Any) -> np.ndarray:
        """A clip as far as the model hears it, `(samples,)`; see `VocalisationPipeline.load_audio`."""
        return self._pipeline.load_audio(sound)

    def place(self, label: str | None, scores: np.ndarray) -> int:
        """Index of a label, or of the likeliest by `scores` `(labels,)`.

        Raises:
            ValueError: for a label that the checkpoint does not know.
        """
        if label is None:
            return int(scores.argmax())
        check_choice("--label", label, self.labels)
        return self.labels.index(label)

    def score(self, sounds: Sequence[Any]) -> list[np.ndarray | ValueError]:
        """For each clip its probabilities `(labels,)`, or why it has none.

        Args:
            sounds: in any form that the pipeline of `load_classifier` takes; or functions that return such a form, and
                are called by the threads that read clips.
        """
        return [row if isinstance(row, ValueError) else row.probabilities for row in self.score_clips(sounds)]

    def score_clips(self, sounds: Sequence[Any]) -> list[ClipScores | ValueError]:
        """The same with how much of each clip was used; the argument is that of `score`."""
        inputs = list(self._pool.map(self._prepare, sounds))
        results: list[Any] = [clip if isinstance(clip, ValueError) else None for clip in inputs]
        usable = [place for place, failure in enumerate(results) if failure is None]
        usable.sort(key=lambda place: len(next(iter(inputs[place].features.values()))))
        batches = [usable[start : start + self.batch_size] for start in range(0, len(usable), self.batch_size)]
        # threads of one core each lose less than all cores at one batch; a GPU takes one batch after the other
        share = self._pool.map if self.model.device.type == "cpu" else map
        scored = share(self._forward, [[inputs[place] for place in places] for places in batches])
        for places, rows in zip(batches, scored, strict=True):
            for place, row in zip(places, rows, strict=True):
                results[place] = row
        return results

    def _start_worker(self) -> None:
        torch.set_num_threads(1)
        # of its own, since models keep on themselves what is padding in a batch; weights are those of all
        shared = {id(tensor): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
        self._own.model = copy.deepcopy(self.model, shared)

    def _prepare(self, sound: Any) -> _Input | ValueError:
        try:
            sound = sound() if callable(sound) else sound
            check_length(sound)
            samples, name = self._pipeline.read(sound)
            clip = self._pipeline.cut(samples, name)
        except UserError as error:
            return error
        # whatever a library raises on one clip of an archive, the others have their scores
        except Exception as error:
            failure = ValueError(f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            return failure
        features = extract_features(self.extractor, [clip], LONGEST_INPUT)
        tensors = {name: torch.as_tensor(values[0]) for name, values in features.items()}
        trims = isinstance(self.extractor, SilenceTrimmingMixin)
        sounding = len(SilenceTrimmingMixin.trim(self.extractor, samples) if trims else samples)
        used = min(sounding / self.sampling_rate, self.longest_input)
        return _Input(tensors, len(samples) / self.sampling_rate, used)

    @torch.inference_mode()
    def _forward(self, clips: list[_Input]) -> list[ClipScores | ValueError]:
        model = getattr(self._own, "model", self.model)
        features = self._collate([clip.features for clip in clips])
        batch = {name: values.to(model.device) for name, values in features.items()}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.bf16):
            logits = model(**batch).logits.float()
        logits /= self.temperature or 1.0
        not_finite = UserError("expected finite scores of a clip, found NaN or infinite ones; check how loud it is.")
        return [
            ClipScores(row, clip.duration, clip.duration_used) if np.isfinite(row).all() else not_finite
            for row, clip in zip(logits.softmax(dim=-1).cpu().numpy(), clips, strict=True)
        ]


def longest_input(extractor: FeatureExtractionMixin) -> float:
    """Seconds of a clip behind which it is cut; infinite where nothing cuts it."""
    cut = getattr(extractor, "num_samples", None)
    if cut is None:
        kept = math.inf if isinstance(extractor, SilenceTrimmingMixin) else LONGEST_INPUT  # see `extract_features`
    else:
        kept = cut / extractor.sampling_rate
    return min(kept, max_input_seconds(extractor))


def checkpoint_digest(folder: Path) -> str:
    """SHA-256 of all that the scores of a checkpoint depend on: weights, configuration and preprocessing."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in OF_SCORES for path in folder.glob(pattern)):
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

    Checkpoints of earlier commits say it only in the `run.json` of their run folder.
    """
    record = folder / "run.json"
    if hasattr(config, CORPUS_FIELD) or not record.is_file():
        return getattr(config, CORPUS_FIELD, None)
    return read_json(record).get("corpus", {}).get("name")

"""A checkpoint as a function from clips to probabilities."""

import copy
import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import PreTrainedConfig

from ..adapting import weights_digest
from ..calibration import temperature_of
from ..checkpoints import resolve_checkpoint
from ..classifier import load_classifier
from ..collator import ClipCollator
from ..corpus.schema import check_choice
from ..cpu import speed_up
from ..extractors import extract_features
from ..loading import LONGEST_INPUT
from ..runs import CORPUS_FIELD, read_json
from ..validation import UserError

LONGEST_CLIP = 60.0  # seconds; what lasts longer is a recording
CLIPS_AT_ONCE = 256  # that are read together, so that clips of like length can share a batch
BATCH_SIZES = {"cpu": 8}  # small ones are faster there, and are shared more evenly


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
        self.name, self.identity = checkpoint, weights_digest(folder)
        self._pipeline = load_classifier(folder, device=device)
        self._collate = ClipCollator(self._pipeline.feature_extractor)
        config = self._pipeline.model.config
        self.labels = [config.id2label[number] for number in range(config.num_labels)]
        self.temperature = temperature_of(config)
        self.training_corpus = training_corpus(folder, config)
        self.sampling_rate = self._pipeline.feature_extractor.sampling_rate  # in Hz, which arrays are best given at
        self.model, self.extractor = self._pipeline.model, self._pipeline.feature_extractor
        self.batch_size = batch_size or BATCH_SIZES.get(self.model.device.type, 32)
        self.bf16, self._own = bf16, threading.local()
        if self.model.device.type == "cpu":
            speed_up(self.model)
        self._pool = ThreadPoolExecutor(workers or torch.get_num_threads(), initializer=self._start_worker)

    @property
    def clips_at_once(self) -> int:
        """How many clips `score` is best given, which are in memory together."""
        return max(CLIPS_AT_ONCE, self.batch_size)

    def hear(self, sound: Any) -> np.ndarray:
        """A clip as far as the model hears it, `(samples,)`; see `VocalisationPipeline.hear`."""
        return self._pipeline.hear(sound)

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
            sounds: in any form that the pipeline of `load_classifier` takes.
        """
        found: list[Any] = list(self._pool.map(self._prepare, sounds))
        usable = [place for place, features in enumerate(found) if not isinstance(features, ValueError)]
        usable.sort(key=lambda place: len(next(iter(found[place].values()))))
        batches = [usable[start : start + self.batch_size] for start in range(0, len(usable), self.batch_size)]
        # threads of one core each lose less than all cores at one batch; a GPU takes one batch after the other
        share = self._pool.map if self.model.device.type == "cpu" else map
        scored = share(self._forward, [[found[place] for place in places] for places in batches])
        for places, scores in zip(batches, scored, strict=True):
            for place, row in zip(places, scores, strict=True):
                found[place] = row
        return found

    def _start_worker(self) -> None:
        torch.set_num_threads(1)
        # of its own, since models keep on themselves what is padding in a batch; weights are those of all
        shared = {id(tensor): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
        self._own.model = copy.deepcopy(self.model, shared)

    def _prepare(self, sound: Any) -> dict[str, torch.Tensor] | ValueError:
        try:
            _check_length(sound)
            samples = self._pipeline.hear(sound)
        except ValueError as error:
            return error
        features = extract_features(self.extractor, [samples], LONGEST_INPUT)
        return {name: torch.as_tensor(values[0]) for name, values in features.items()}

    @torch.inference_mode()
    def _forward(self, features: list[dict[str, torch.Tensor]]) -> list[np.ndarray | ValueError]:
        model = getattr(self._own, "model", self.model)
        batch = {name: values.to(model.device) for name, values in self._collate(features).items()}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.bf16):
            logits = model(**batch).logits.float()
        logits /= self.temperature or 1.0
        scores = logits.softmax(dim=-1).cpu().numpy()
        not_finite = ValueError("expected finite scores of a clip, found NaN or infinite ones; check how loud it is.")
        return [row if np.isfinite(row).all() else not_finite for row in scores]


def training_corpus(folder: Path, config: PreTrainedConfig) -> str | None:
    """Return the name of the corpus that a checkpoint was trained on, or None where it is not known.

    Checkpoints of earlier commits say it only in the `run.json` of their run folder.
    """
    record = folder / "run.json"
    if hasattr(config, CORPUS_FIELD) or not record.is_file():
        return getattr(config, CORPUS_FIELD, None)
    return read_json(record).get("corpus", {}).get("name")


def _check_length(sound: Any) -> None:
    """Refuse recordings by their headers, before hours of sound are decoded into memory."""
    source = sound.get("bytes") or sound.get("path") if isinstance(sound, dict) else sound
    if not isinstance(source, (str, Path, bytes)) or (isinstance(sound, dict) and "array" in sound):
        return
    try:
        info = soundfile.info(io.BytesIO(source) if isinstance(source, bytes) else source)
    except soundfile.SoundFileError:
        return  # whoever decodes it says what it is
    if info.duration > LONGEST_CLIP:
        name = "<bytes>" if isinstance(source, bytes) else Path(source).name
        raise UserError(
            f"{name}: expected a clip of up to {LONGEST_CLIP:g} s, found {info.duration:.0f} s; use hf-vivae "
            "timeline, which takes recordings of any length."
        )

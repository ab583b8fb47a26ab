"""Rows of features to one batch for the model."""

from collections.abc import Sequence

import torch
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .extractors import batch_features
from .models import WaveformFeatureExtractor


class ClipCollator:
    """Features and labels of a batch, scaled by what the extractor measured on the training clips.

    Clips of a model that takes them as long as they are are padded to the longest of the batch, with a mask. Scaling
    here rather than in the cache lets folds share one, as long as their training clips have one peak.

    Args:
        extractor: of the model; those of the library have normalised already.
    """

    def __init__(self, extractor: FeatureExtractionMixin) -> None:
        self.normalized = extractor.model_input_names[0] if isinstance(extractor, WaveformFeatureExtractor) else None
        self.extractor = extractor

    def __call__(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """What the model takes; `labels` are `(batch,)` int64, or `(batch, num_labels)` where clips are mixed.

        `clip`, where rows have it, is the number of each clip `(batch,)`, which `VivaeTrainer` takes out.
        """
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        targets = {
            name: torch.stack(columns.pop(name)) for name in ("labels", "embeddings", "clip") if name in columns
        }
        batch = batch_features(self.extractor, columns) if columns else {}
        if self.normalized in batch:
            batch[self.normalized] = self.extractor.normalize(batch[self.normalized])
        return batch | targets

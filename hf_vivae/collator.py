"""Rows of features to one batch for the model."""

from collections.abc import Sequence

import torch
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .models import WaveformFeatureExtractor


class ClipCollator:
    """Stacks features and labels, and applies what the extractor measured on the training clips.

    Normalising here rather than in the cache lets folds share one, as long as their training clips have one peak.

    Args:
        extractor: of the model; those of the library have normalised already.
    """

    def __init__(self, extractor: FeatureExtractionMixin) -> None:
        self.normalized = extractor.model_input_names[0] if isinstance(extractor, WaveformFeatureExtractor) else None
        self.extractor = extractor

    def __call__(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The rows' columns stacked, `(batch, ...)` each; `labels` `(batch,)` int64."""
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        if self.normalized in batch:  # which a probe's embeddings are not
            batch[self.normalized] = self.extractor.normalize(batch[self.normalized])
        return batch

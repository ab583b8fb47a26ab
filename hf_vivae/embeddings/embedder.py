"""Embeddings of clips: what the last layer of a checkpoint classifies."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from ..audio import ClipTooLong
from ..inference.scorer import ClipScores, Scorer
from ..models.logistic_regression import LogisticRegressionForAudioClassification
from ..validation import UserError

CLASSIFIERS = ("classifier", "head")  # names of the last module: `head` in timm


@dataclass(frozen=True)
class EmbeddedClip(ClipScores):
    """Scores and embedding of a clip.

    Args:
        embedding: input of the checkpoint's classifier, `(dimension,)`, float32.
    """

    embedding: np.ndarray = field(kw_only=True)


class Embedder(Scorer):
    """A checkpoint that returns the embedding of each clip with its probabilities.

    The embedding is the input of the last module, which maps one vector a clip to logits: pooled and standardised
    hidden states of a linear probe, pooled hidden states of an encoder, the class token or the mean token of a vision
    transformer, the last hidden layer of an MLP, and standardised functionals of openSMILE. Methods return
    `EmbeddedClip` in place of `ClipScores`.

    Args:
        checkpoint: folder or Hub id.
        revision: branch, tag or commit of a Hub id.
        arguments: of `Scorer`, in its order.
        named: of `Scorer`.

    Raises:
        UserError: as `Scorer`, and for a checkpoint without such a vector.
    """

    def __init__(self, checkpoint: str, revision: str | None = None, *arguments: Any, **named: Any) -> None:
        super().__init__(checkpoint, revision, *arguments, **named)
        self.revision = revision
        linear = next((m for m in find_classifier(self.model).modules() if isinstance(m, nn.Linear)), None)
        if linear is None or isinstance(self.model, LogisticRegressionForAudioClassification):
            raise UserError(
                f"expected a checkpoint that turns a clip into a vector before it is classified, found "
                f"{type(self.model).__name__} at {checkpoint}; give another checkpoint, such as a linear probe."
            )
        self.dimension = linear.in_features

    def _prepare(self, sound: Any) -> Any:
        clip = super()._prepare(sound)
        if isinstance(clip, ClipTooLong):
            clip.remedy = "use hf-vivae embed with --window, which takes recordings of any length"
        return clip

    def _forward(self, clips: list[Any]) -> list[EmbeddedClip | ValueError]:
        model = getattr(self._own, "model", self.model)  # each thread has its own, and so its own hook
        with classifier_input(model) as inputs:
            results = super()._forward(clips)
        return [
            result if isinstance(result, ValueError) else EmbeddedClip(**vars(result), embedding=embedding)
            for result, embedding in zip(results, inputs[0], strict=True)
        ]


def find_classifier(model: nn.Module) -> nn.Module:
    """Return the last module of a model that is named `classifier` or `head`.

    The audio classifiers of transformers and of this package have one, and so have the vision transformers of timm.

    Raises:
        UserError: for a model without one.
    """
    modules = [module for name, module in model.named_modules() if name.rpartition(".")[2] in CLASSIFIERS]
    if not modules:
        raise UserError(
            f"expected a model with a module {' or '.join(CLASSIFIERS)}, whose input is the embedding, found "
            f"{type(model).__name__}; give another checkpoint."
        )
    return modules[-1]


@contextmanager
def classifier_input(model: nn.Module) -> Iterator[list[np.ndarray]]:
    """Collect the input of a model's classifier at each call in the block, `(batch, dimension)`, float32."""
    inputs: list[np.ndarray] = []

    def collect(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        inputs.append(arguments[0].float().cpu().numpy())

    handle = find_classifier(model).register_forward_pre_hook(collect)
    try:
        yield inputs
    finally:
        handle.remove()

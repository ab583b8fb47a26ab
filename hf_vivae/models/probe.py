"""Linear probe: a frozen encoder, its hidden states averaged over the clip's frames, and one linear layer.

Embeddings of all layers are computed once; scikit-learn fits the weights (`hf_vivae.training`), and this class holds
them with the encoder.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from .hidden_states import UNMASKABLE, hidden_states
from .wrapped import WrappedConfig, WrappedForAudioClassification


class ProbeConfig(WrappedConfig):
    """Configuration of `ProbeForAudioClassification`.

    Args:
        encoder: see `WrappedConfig`.
        layer: index of the hidden state that is used, 0 for the input of the first layer, -1 for the last; None for
            the mean over all.
        masked_mean: average over the frames of the clip only, rather than over padding too.
        inverse_regularization: scikit-learn's `C`; None until it is selected on validation clips.
        max_iterations: largest number of iterations of the solver.
        refit: fit the weights again on training and validation clips together, after the selection.
        kwargs: `sampling_rate` of `WrappedConfig`, and arguments of `PreTrainedConfig`, such as `id2label`.

    Raises:
        ValueError: for a layer that the encoder does not have, and for masked frames where it has none.
    """

    model_type = "vivae_probe"

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        layer: int | None = None,
        masked_mean: bool = True,
        inverse_regularization: float | None = None,
        max_iterations: int = 1000,
        refit: bool = True,
        **kwargs,
    ) -> None:
        self.layer = layer
        self.masked_mean = masked_mean
        self.inverse_regularization = inverse_regularization
        self.max_iterations = max_iterations
        self.refit = refit
        super().__init__(encoder, **kwargs)
        states, kind = self.encoder.num_hidden_layers + 1, self.encoder.model_type
        if not (layer is None or (isinstance(layer, int) and -states <= layer < states)):
            raise ValueError(
                f"expected a layer from {-states} to {states - 1} of {kind}, found {layer!r}; give one of them, or "
                "none for the mean over all."
            )
        if not (inverse_regularization is None or inverse_regularization > 0):
            raise ValueError(
                f"expected inverse_regularization above 0, found {inverse_regularization}; leave it out to have "
                "it selected on validation clips."
            )
        if masked_mean and kind in UNMASKABLE:
            raise ValueError(
                f"expected an encoder whose tokens are frames, found {kind}, which cuts the spectrogram into patches; "
                "set masked_mean to false."
            )


class ProbeForAudioClassification(WrappedForAudioClassification):
    """Linear probe of a frozen encoder.

    It measures the information in a representation that was trained for another task (Alain and Bengio,
    "Understanding intermediate layers using linear classifier probes", ICLR Workshops 2017). Takes the inputs of the
    encoder, or embeddings `(batch, states, width)`, and returns logits `(batch, num_labels)`.
    """

    config_class = ProbeConfig

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__(config)
        self.encoder.requires_grad_(False)
        width = config.encoder.hidden_size
        # statistics of the training clips' embeddings, so that one regularisation fits every dimension
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.classifier = nn.Linear(width, config.num_labels)
        self.post_init()

    def forward(
        self, *inputs, embeddings: torch.Tensor | None = None, labels: torch.Tensor | None = None, **kwargs
    ) -> SequenceClassifierOutput:
        """Return `logits` `(batch, num_labels)`, and `loss` where labels are given.

        Args:
            inputs: see `WrappedForAudioClassification`.
            embeddings: embeddings of all hidden states, `(batch, states, width)`, as `embed` returns them.
            labels: label index of each clip, `(batch,)`.
            kwargs: see `WrappedForAudioClassification`.
        """
        if embeddings is None:
            return super().forward(*inputs, labels=labels, **kwargs)
        return self._output(self.classifier(self.standardize(embeddings)), labels, **kwargs)

    def score(self, attention_mask: torch.Tensor | None = None, **inputs: torch.Tensor) -> torch.Tensor:
        """Return logits `(batch, num_labels)`; the arguments are those of `forward`."""
        return self.classifier(self.standardize(self.embed(attention_mask, **inputs)))

    def standardize(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the selected layer of embeddings `(batch, states, width)`, standardised, `(batch, width)`."""
        return (self.select_layer(embeddings).to(self.mean.dtype) - self.mean) / self.std

    def select_layer(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the selected layer of embeddings, or the mean over all, `(batch, width)`."""
        return embeddings.mean(dim=1) if self.config.layer is None else embeddings[:, self.config.layer]

    @torch.no_grad()
    def embed(self, attention_mask: torch.Tensor | None = None, **inputs: torch.Tensor) -> torch.Tensor:
        """Return every hidden state averaged over frames, `(batch, states, width)`.

        Args:
            attention_mask: as for `forward`; without it all frames belong to the clip.
            inputs: `input_values` or `input_features`.
        """
        # Whisper was pretrained with silence after the clip, up to 30 s; frozen, it gets some too: up to the longest
        # clip of the corpus, in whole seconds
        mask = attention_mask if self.config.masked_mean else None
        states, mask = hidden_states(self.encoder, mask, whole_window=True, **inputs)
        # (batch, states, frames, width); sums over frames are more than half precision holds
        stacked = torch.stack(states, dim=1).float()
        if mask is None:
            return stacked.mean(dim=2)
        weights = mask[:, None, :, None].to(stacked.dtype)
        return (stacked * weights).sum(dim=2) / weights.sum(dim=2)

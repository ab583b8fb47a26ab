"""Linear probe: a frozen encoder, its hidden states pooled over the clip's frames, and one linear layer.

Embeddings of all layers are computed once; scikit-learn fits the weights (`hf_vivae.training`), and this class holds
them with the encoder.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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
        layer: index of the hidden state that is used, 0 for the input of the first layer, -1 for the last; a list of
            indices for several, side by side; None for the mean over all.
        pooling: pooling of frames: `mean`; or `mean_std`, which appends their standard deviation (as x-vectors,
            Snyder et al., ICASSP 2018).
        masked_mean: pool the frames of the clip only, rather than padding too.
        inverse_regularization: scikit-learn's `C`; None until it is selected on validation clips.
        max_iterations: largest number of iterations of the solver.
        refit: fit the weights again on training and validation clips together, after the selection.
        kwargs: `sampling_rate` of `WrappedConfig`, and arguments of `PreTrainedConfig`, such as `id2label`.

    Raises:
        ValueError: for a layer that the encoder does not have, and for masked frames where it has none.
    """

    model_type = "vivae_probe"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["distance"]  # else Trainer's predictions would be a pair

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        layer: int | list[int] | None = None,
        pooling: Literal["mean", "mean_std"] = "mean",
        masked_mean: bool = True,
        inverse_regularization: float | None = None,
        max_iterations: int = 1000,
        refit: bool = True,
        **kwargs,
    ) -> None:
        self.layer = layer
        self.pooling = pooling
        self.masked_mean = masked_mean
        self.inverse_regularization = inverse_regularization
        self.max_iterations = max_iterations
        self.refit = refit
        super().__init__(encoder, **kwargs)
        states, kind = self.encoder.num_hidden_layers + 1, self.encoder.model_type
        layers = layer if isinstance(layer, list) and layer else [] if layer is None else [layer]
        if not all(isinstance(index, int) and -states <= index < states for index in layers):
            raise ValueError(
                f"expected a layer from {-states} to {states - 1} of {kind}, found {layer!r}; give one of them, a "
                "list of several, or none for the mean over all."
            )
        if pooling not in ("mean", "mean_std"):
            raise ValueError(f"expected pooling mean or mean_std, found {pooling!r}; give one of them.")
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


@dataclass
class ProbeOutput(SequenceClassifierOutput):
    """Output of a probe.

    Args:
        distance: from the training clips, `(batch,)`, see `ProbeForAudioClassification.measure_distance`.
    """

    distance: torch.FloatTensor | None = None


class ProbeForAudioClassification(WrappedForAudioClassification):
    """Linear probe of a frozen encoder.

    It measures the information in a representation that was trained for another task (Alain and Bengio,
    "Understanding intermediate layers using linear classifier probes", ICLR Workshops 2017). Takes the inputs of the
    encoder, or embeddings `(batch, states, values)`, and returns logits `(batch, num_labels)`, and the distance of
    each clip from the training clips `(batch,)`.
    """

    config_class = ProbeConfig

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__(config)
        self.encoder.requires_grad_(False)
        layers = len(config.layer) if isinstance(config.layer, list) else 1
        width = layers * config.encoder.hidden_size * (2 if config.pooling == "mean_std" else 1)
        # statistics of the training clips' embeddings, so that one regularisation fits every dimension
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.classifier = nn.Linear(width, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
        **kwargs,
    ) -> ProbeOutput:
        """Return `logits` `(batch, num_labels)`, `distance` `(batch,)`, and `loss` where labels are given.

        Args:
            input_values: waveforms `(batch, samples)`, for encoders that take waveforms.
            attention_mask: 1 where a sample (frame) belongs to the clip, `(batch, samples or frames)`.
            input_features: spectrograms, for encoders that take spectrograms, as their feature extractor returns them.
            labels: label index of each clip, `(batch,)`.
            embeddings: embeddings of all hidden states, `(batch, states, values)`, as `embed` returns them, in place
                of the encoder's inputs.
            kwargs: `num_items_in_batch` from Trainer, by which the loss is divided under gradient accumulation.
        """
        if embeddings is None:
            inputs = {"input_values": input_values, "input_features": input_features}
            embeddings = self.embed(
                attention_mask, **{name: value for name, value in inputs.items() if value is not None}
            )
        values = self.standardize(embeddings)
        output = self._output(self.classifier(values), labels, **kwargs)
        return ProbeOutput(**output, distance=self.measure_distance(values))

    @staticmethod
    def measure_distance(values: torch.Tensor) -> torch.Tensor:
        """Return the root mean square of standardised embeddings `(batch, inputs)`, `(batch,)`: 1 for a usual clip.

        It is the Mahalanobis distance from the mean of the training clips (Lee, Lee, Lee and Shin, "A Simple Unified
        Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018), with one mean for
        all labels and a diagonal covariance, which the probe has anyway.
        """
        return values.square().mean(dim=-1).sqrt()

    def standardize(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the selected layers of embeddings `(batch, states, values)`, standardised, `(batch, inputs)`."""
        return (self.select_layer(embeddings).to(self.mean.dtype) - self.mean) / self.std

    def select_layer(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the selected layers of embeddings side by side, or the mean over all, `(batch, inputs)`."""
        return embeddings.mean(dim=1) if self.config.layer is None else embeddings[:, self.config.layer].flatten(1)

    @torch.no_grad()
    def embed(self, attention_mask: torch.Tensor | None = None, **inputs: torch.Tensor) -> torch.Tensor:
        """Return every hidden state pooled over frames, `(batch, states, values)`; `mean_std` doubles the values.

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
            mean, weights = stacked.mean(dim=2), stacked.new_ones(1, 1, stacked.shape[2], 1)
        else:
            weights = mask[:, None, :, None].to(stacked.dtype)
            mean = (stacked * weights).sum(dim=2) / weights.sum(dim=2)
        if self.config.pooling == "mean":
            return mean
        variance = ((stacked - mean[:, :, None]).square() * weights).sum(dim=2) / weights.sum(dim=2)
        return torch.cat((mean, variance.sqrt()), dim=2)

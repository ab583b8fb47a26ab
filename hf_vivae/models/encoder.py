"""Any encoder of the audio classifiers of transformers with one head: learnt layer weights, masked pooling, dropout.

The heads of transformers average over padding too (Whisper's over 30 s of it), use the last layer by default, and
differ from encoder to encoder.
"""

from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from .hidden_states import hidden_states
from .wrapped import WrappedConfig, WrappedForAudioClassification

POOLINGS = ("mean", "mean_std", "attention")


class EncoderConfig(WrappedConfig):
    """Configuration of `EncoderForAudioClassification`.

    Args:
        encoder: see `WrappedConfig`.
        pooling: pooling of frames: `mean`; `mean_std`, which appends their standard deviation (as x-vectors,
            Snyder et al., ICASSP 2018); or `attention`, both with learnt weights (Okabe et al., Interspeech 2018).
        layer_weights: learn a weight for each hidden state (as SUPERB, Yang et al., Interspeech 2021); else use the
            last state.
        head_dropout: dropout of the pooled vector.
        kwargs: `sampling_rate` of `WrappedConfig`, and arguments of `PreTrainedConfig`, such as `id2label`.

    Raises:
        ValueError: for another pooling, and for a head_dropout outside 0 to 1.
    """

    model_type = "vivae_encoder"

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        pooling: Literal["mean", "mean_std", "attention"] = "mean_std",
        layer_weights: bool = True,
        head_dropout: float = 0.2,
        **kwargs,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"expected pooling out of {', '.join(POOLINGS)}, found {pooling!r}; give one of them.")
        if not 0 <= head_dropout <= 1:
            raise ValueError(f"expected head_dropout of 0 to 1, found {head_dropout}; 0.2 is usual.")
        self.pooling = pooling
        self.layer_weights = layer_weights
        self.head_dropout = head_dropout
        super().__init__(encoder, **kwargs)


class EncoderHead(nn.Module):
    """Head that pools hidden states of all layers into logits.

    The hidden states are averaged with learnt weights, pooled over the frames of the clip, normalised (layer norm) and
    classified by one linear layer.

    Args:
        config: configuration of the model.
        states: number of hidden states.
        width: width of a hidden state.
    """

    def __init__(self, config: EncoderConfig, states: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.layer_weights = nn.Parameter(torch.zeros(states)) if config.layer_weights else None
        self.attention = nn.Linear(width, 1) if config.pooling == "attention" else None
        pooled = width if config.pooling == "mean" else 2 * width
        self.norm = nn.LayerNorm(pooled)
        self.dropout = nn.Dropout(config.head_dropout)
        self.classifier = nn.Linear(pooled, config.num_labels)

    def forward(self, states: tuple[torch.Tensor, ...], mask: torch.Tensor | None) -> torch.Tensor:
        """Return logits `(batch, num_labels)`.

        Args:
            states: hidden states, each `(batch, frames, width)`.
            mask: 1 for frames of the clip, `(batch, frames)`; None where all frames are.
        """
        if self.layer_weights is None:
            frames = states[-1].float()
        else:
            weights = self.layer_weights.softmax(dim=0)
            frames = sum(weight * state.float() for weight, state in zip(weights, states, strict=True))
        shares = self._weigh_frames(frames, mask)  # (batch, frames, 1), with sum 1
        pooled = (frames * shares).sum(dim=1)  # (batch, width)
        if self.config.pooling != "mean":
            variance = ((frames - pooled[:, None]).square() * shares).sum(dim=1)
            # the slope of the root is infinite at 0, the variance of a clip of one frame
            pooled = torch.cat((pooled, (variance + 1e-5).sqrt()), dim=1)
        return self.classifier(self.dropout(self.norm(pooled.to(self.norm.weight.dtype))))

    def _weigh_frames(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if self.attention is None:
            scores = frames.new_zeros(*frames.shape[:2], 1)
        else:
            scores = self.attention(frames.to(self.attention.weight.dtype)).float()
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None].bool(), torch.finfo(scores.dtype).min)
        return scores.softmax(dim=1)


class EncoderForAudioClassification(WrappedForAudioClassification):
    """Audio classifier of a pretrained encoder (wav2vec2 and similar, w2v-BERT, Whisper, AST) and `EncoderHead`.

    Takes the waveforms or spectrograms of the encoder's feature extractor, with a mask, and returns logits
    `(batch, num_labels)`. They do not depend on masked padding, except with SEW, whose clips get one fixed length.
    """

    config_class = EncoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.head = EncoderHead(config, config.encoder.num_hidden_layers + 1, config.encoder.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # called for each module: a head for other labels keeps all weights but those of its classifier
        super()._init_weights(module)
        if isinstance(module, EncoderHead) and module.layer_weights is not None:
            init.zeros_(module.layer_weights)  # equal weights after softmax

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Return `logits` `(batch, num_labels)`, and `loss` where labels are given.

        Args:
            input_values: waveforms `(batch, samples)`, for encoders that take waveforms.
            attention_mask: 1 where a sample (frame) belongs to the clip, `(batch, samples or frames)`.
            input_features: spectrograms, for encoders that take spectrograms, as their feature extractor returns them.
            labels: label index of each clip, `(batch,)`.
            kwargs: `num_items_in_batch` from Trainer, by which the loss is divided under gradient accumulation.
        """
        inputs = {"input_values": input_values, "input_features": input_features}
        inputs = {name: value for name, value in inputs.items() if value is not None}
        logits = self.head(*hidden_states(self.encoder, attention_mask, **inputs))
        return self._output(logits, labels, **kwargs)

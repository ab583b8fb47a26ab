"""Any encoder of the library's audio classifiers behind one head: learnable layer weights, masked pooling, dropout.

The library's own heads average over padding too (Whisper's over 30 s of it), take the last layer unless told
otherwise, and differ from encoder to encoder.
"""

from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers import initialization as init

from .hidden_states import hidden_states
from .wrapped import WrappedConfig, WrappedForAudioClassification

POOLINGS = ("mean", "mean_std", "attention")


class EncoderConfig(WrappedConfig):
    """Configuration of `EncoderForAudioClassification`.

    Args:
        encoder: see `WrappedConfig`.
        pooling: of the clip's frames: `mean`; `mean_std`, which appends their standard deviation (as x-vectors,
            Snyder et al., ICASSP 2018); or `attention`, both with learnt weights (Okabe et al., Interspeech 2018).
        layer_weights: learn a weight for each hidden state (as SUPERB, Yang et al., Interspeech 2021); else the last.
        head_dropout: on the pooled vector.
        kwargs: `sampling_rate` of `WrappedConfig`, and the library's, such as `id2label`.

    Raises:
        ValueError: for another pooling, and for a head_dropout that is no share.
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
    """Hidden states `(batch, frames, width)` of all layers to scores of each label `(batch, num_labels)`."""

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
        """Scores; `mask` `(batch, frames)` is 1 for frames of the clip, None where all are."""
        frames = self._weigh_layers(states)
        shares = self._weigh_frames(frames, mask)  # (batch, frames, 1), of sum 1
        mean = (frames * shares).sum(dim=1)
        pooled = mean if self.config.pooling == "mean" else torch.cat((mean, self._deviate(frames, mean, shares)), 1)
        return self.classifier(self.dropout(self.norm(pooled.to(self.norm.weight.dtype))))

    def _deviate(self, frames: torch.Tensor, mean: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        variance = ((frames - mean[:, None]).square() * shares).sum(dim=1)
        return (variance + 1e-5).sqrt()  # the root's slope is endless at 0, where a clip is one frame long

    def _weigh_layers(self, states: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if self.layer_weights is None:
            return states[-1].float()
        weights = self.layer_weights.softmax(dim=0)
        return sum(weight * state.float() for weight, state in zip(weights, states, strict=True))

    def _weigh_frames(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if self.attention is None:
            scores = frames.new_zeros(*frames.shape[:2], 1)
        else:
            scores = self.attention(frames.to(self.attention.weight.dtype)).float()
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None].bool(), torch.finfo(scores.dtype).min)
        return scores.softmax(dim=1)


class EncoderForAudioClassification(WrappedForAudioClassification):
    """An encoder of wav2vec2's kin, w2v-BERT, Whisper or AST with `EncoderHead`.

    Scores do not depend on padding that the mask tells of, except in SEW, whose clips get one fixed length.
    """

    config_class = EncoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.head = EncoderHead(config, config.encoder.num_hidden_layers + 1, config.encoder.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # a layer at a time, since a head of other labels keeps what it has but one
        super()._init_weights(module)
        if isinstance(module, EncoderHead) and module.layer_weights is not None:
            init.zeros_(module.layer_weights)  # all layers weigh the same at first

    def score(self, attention_mask: torch.Tensor | None = None, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits `(batch, num_labels)`; the arguments are those of `forward`."""
        return self.head(*hidden_states(self.encoder, attention_mask, **inputs))

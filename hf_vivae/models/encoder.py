"""Any encoder of the library's audio classifiers behind one head: learnable layer weights, masked pooling, dropout.

The library's own heads average over padding too (Whisper's over 30 s of it), take the last layer unless told
otherwise, and differ from encoder to encoder.
"""

from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForAudioClassification, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from .hidden_states import bare_encoder, hidden_states
from .padding import ignore_padding

POOLINGS = ("mean", "mean_std", "attention")


class EncoderConfig(PreTrainedConfig):
    """Configuration of `EncoderForAudioClassification`.

    Args:
        encoder: configuration of the encoder, as a dictionary or as the library's object.
        pooling: of the clip's frames: `mean`; `mean_std`, which appends their standard deviation (as x-vectors,
            Snyder et al., ICASSP 2018); or `attention`, both with learnt weights (Okabe et al., Interspeech 2018).
        layer_weights: learn a weight for each hidden state (as SUPERB, Yang et al., Interspeech 2021); else the last.
        head_dropout: on the pooled vector.
        kwargs: the library's, such as `id2label`.

    Raises:
        ValueError: for another pooling.
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
        encoder = encoder or {"model_type": "wav2vec2"}  # the library makes a configuration without arguments
        self.encoder = encoder.to_dict() if isinstance(encoder, PreTrainedConfig) else dict(encoder)
        if pooling not in POOLINGS:
            raise ValueError(f"expected pooling out of {', '.join(POOLINGS)}, found {pooling!r}; give one of them.")
        self.pooling = pooling
        self.layer_weights = layer_weights
        self.head_dropout = head_dropout
        super().__init__(**kwargs)

    def encoder_config(self) -> PreTrainedConfig:
        """The encoder's configuration as the library's object."""
        settings = {name: value for name, value in self.encoder.items() if name != "model_type"}
        return AutoConfig.for_model(self.encoder["model_type"], **settings)


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
        if self.config.pooling == "mean":
            return self.classifier(self.dropout(self.norm(mean)))
        variance = ((frames - mean[:, None]).square() * shares).sum(dim=1)
        # the root's slope is endless at 0, where a clip is one frame long
        pooled = torch.cat((mean, (variance + 1e-5).sqrt()), dim=1)
        return self.classifier(self.dropout(self.norm(pooled)))

    def _weigh_layers(self, states: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if self.layer_weights is None:
            return states[-1].float()
        weights = self.layer_weights.softmax(dim=0)
        return sum(weight * state.float() for weight, state in zip(weights, states, strict=True))

    def _weigh_frames(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        scores = frames.new_zeros(*frames.shape[:2], 1) if self.attention is None else self.attention(frames).float()
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None].bool(), torch.finfo(scores.dtype).min)
        return scores.softmax(dim=1)


class EncoderForAudioClassification(PreTrainedModel):
    """An encoder of wav2vec2's kin, w2v-BERT, Whisper or AST with `EncoderHead`.

    Scores do not depend on padding that the mask tells of, except in SEW, whose clips get one fixed length.
    """

    config_class = EncoderConfig
    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        encoder = bare_encoder(AutoModelForAudioClassification.from_config(config.encoder_config()))
        self.encoder = ignore_padding(encoder)
        states = encoder.config.num_hidden_layers + 1
        self.head = EncoderHead(config, states, encoder.config.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # the encoder starts as the library starts it; equal layer weights and frames are where the head starts
        if isinstance(module, EncoderHead):
            if module.layer_weights is not None:
                init.zeros_(module.layer_weights)
            for linear in filter(None, (module.attention, module.classifier)):
                init.normal_(linear.weight, std=0.02)
                init.zeros_(linear.bias)
            init.ones_(module.norm.weight)
            init.zeros_(module.norm.bias)

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Scores of each label.

        Args:
            input_values: waveforms `(batch, samples)`, for encoders that take those.
            attention_mask: 1 where a sample (frame) belongs to the clip, `(batch, samples or frames)`.
            input_features: spectrograms, for encoders that take those.
            labels: label index of each clip, `(batch,)`.
            kwargs: `num_items_in_batch` from Trainer, by which the loss is divided under gradient accumulation.
        """
        inputs = {"input_values": input_values, "input_features": input_features}
        given = {name: value for name, value in inputs.items() if value is not None}
        logits = self.head(*hidden_states(self.encoder, attention_mask, **given))  # (batch, num_labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(loss=loss, logits=logits)

"""Base classes of models that wrap an encoder of transformers: configuration, encoder and loss."""

from typing import Any, ClassVar

import torch
from transformers import AutoConfig, AutoModelForAudioClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .hidden_states import bare_encoder
from .padding import mask_padding

LAYER_DROPS = ("layerdrop", "encoder_layerdrop")  # names in transformers of the probability that a layer is skipped


class WrappedConfig(PreTrainedConfig):
    """Configuration of a model that wraps an encoder of the audio classifiers of transformers.

    Args:
        encoder: configuration of the encoder, as a dictionary or an object, which is copied. Its layer drop becomes 0:
            a skipped layer has no hidden state, and those of all layers are used.
        sampling_rate: sampling rate of the encoder's pretraining, in Hz.
        kwargs: arguments of `PreTrainedConfig`, such as `id2label`.
    """

    # so that transformers sets precision and attention of the encoder too
    sub_configs: ClassVar[dict[str, type]] = {"encoder": AutoConfig}

    def __init__(
        self, encoder: PreTrainedConfig | dict[str, Any] | None = None, sampling_rate: int = 16000, **kwargs
    ) -> None:
        fields = encoder.to_dict() if isinstance(encoder, PreTrainedConfig) else encoder
        # transformers builds a configuration without arguments
        self.encoder = AutoConfig.for_model(**(fields or {"model_type": "wav2vec2"}))
        for name in LAYER_DROPS:
            if hasattr(self.encoder, name):
                setattr(self.encoder, name, 0.0)
        self.sampling_rate = sampling_rate
        super().__init__(**kwargs)


class WrappedForAudioClassification(PreTrainedModel):
    """Base class of audio classifiers that wrap an encoder of transformers and mask its padding."""

    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: WrappedConfig) -> None:
        super().__init__(config)
        self.encoder = mask_padding(bare_encoder(AutoModelForAudioClassification.from_config(config.encoder)))

    def _output(self, logits: torch.Tensor, labels: torch.Tensor | None, **kwargs) -> SequenceClassifierOutput:
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(loss=loss, logits=logits)

"""What the models of this package that hold an encoder of the library have in common: configuration and forward."""

from typing import Any, ClassVar

import torch
from transformers import AutoConfig, AutoModelForAudioClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .hidden_states import bare_encoder
from .padding import mask_padding

LAYER_DROPS = ("layerdrop", "encoder_layerdrop")  # the library's names of the share of layers that a step leaves out


class WrappedConfig(PreTrainedConfig):
    """Configuration of a model that holds an encoder of the library's audio classifiers.

    Args:
        encoder: configuration of the encoder, as a dictionary or as the library's object, which is copied. Its layer
            drop becomes 0: a layer that is left out leaves no hidden state, and those of all layers are used.
        sampling_rate: of the sound that the encoder was pretrained with, in Hz.
        kwargs: the library's, such as `id2label`.
    """

    # so that the library hands the encoder its precision and its attention, too
    sub_configs: ClassVar[dict[str, type]] = {"encoder": AutoConfig}

    def __init__(
        self, encoder: PreTrainedConfig | dict[str, Any] | None = None, sampling_rate: int = 16000, **kwargs
    ) -> None:
        fields = encoder.to_dict() if isinstance(encoder, PreTrainedConfig) else encoder
        # the library makes a configuration without arguments
        self.encoder = AutoConfig.for_model(**(fields or {"model_type": "wav2vec2"}))
        for name in LAYER_DROPS:
            if hasattr(self.encoder, name):
                setattr(self.encoder, name, 0.0)
        self.sampling_rate = sampling_rate
        super().__init__(**kwargs)


class WrappedForAudioClassification(PreTrainedModel):
    """An encoder of the library that padding does not reach; what is made of it is a subclass's `score`."""

    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: WrappedConfig) -> None:
        super().__init__(config)
        self.encoder = mask_padding(bare_encoder(AutoModelForAudioClassification.from_config(config.encoder)))

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Scores of each label, from what the encoder's feature extractor gives.

        Args:
            input_values: waveforms `(batch, samples)`, for encoders that take those.
            attention_mask: 1 where a sample (frame) belongs to the clip, `(batch, samples or frames)`.
            input_features: spectrograms, for encoders that take those.
            labels: label index of each clip, `(batch,)`.
            kwargs: `num_items_in_batch` from Trainer, by which the loss is divided under gradient accumulation.
        """
        inputs = {"input_values": input_values, "input_features": input_features, "attention_mask": attention_mask}
        logits = self.score(**{name: value for name, value in inputs.items() if value is not None})
        return self._output(logits, labels, **kwargs)

    def score(self, attention_mask: torch.Tensor | None = None, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits `(batch, num_labels)`; the arguments are those of `forward`."""
        raise NotImplementedError  # encoder and probe have one each, and nothing builds this class alone

    def _output(self, logits: torch.Tensor, labels: torch.Tensor | None, **kwargs) -> SequenceClassifierOutput:
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(loss=loss, logits=logits)

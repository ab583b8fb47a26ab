"""Multi-layer perceptron on the waveform."""

import math

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import SequenceClassifierOutput


class MLPConfig(PreTrainedConfig):
    """Configuration of `MLPForAudioClassification`.

    Args:
        num_samples: length of the waveform, in samples.
        hidden_sizes: width of each hidden layer (Table 2 of the paper prints the last layer as 60-60; it is 60-6).
        hidden_dropout: dropout after every hidden layer but the last.
        kwargs: arguments of `PreTrainedConfig`, such as `id2label`.
    """

    model_type = "vivae_mlp"

    def __init__(
        self,
        num_samples: int = 44100,
        hidden_sizes: tuple[int, ...] = (100, 200, 60),
        hidden_dropout: float = 0.25,
        **kwargs,
    ) -> None:
        self.num_samples = num_samples
        self.hidden_sizes = list(hidden_sizes)
        self.hidden_dropout = hidden_dropout
        super().__init__(**kwargs)


class MLPLayer(GradientCheckpointingLayer):
    """Linear layer, ReLU and dropout."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.dropout(torch.relu(self.linear(hidden_states)))


class MLPForAudioClassification(PreTrainedModel):
    """Multi-layer perceptron on the waveform, a baseline of the paper.

    Source: D. Pak, "Emotion Classification using Various Transformer Architectures" (2022). Takes waveforms
    `(batch, num_samples)` and returns logits `(batch, num_labels)`; 4,442,726 parameters by default with six labels.
    """

    config_class = MLPConfig
    base_model_prefix = "layers"
    main_input_name = "input_values"
    supports_gradient_checkpointing = True

    def __init__(self, config: MLPConfig) -> None:
        super().__init__(config)
        sizes = [config.num_samples, *config.hidden_sizes]
        last = len(sizes) - 2
        self.layers = nn.ModuleList(
            MLPLayer(sizes[i], sizes[i + 1], dropout=0.0 if i == last else config.hidden_dropout)
            for i in range(len(sizes) - 1)
        )
        self.classifier = nn.Linear(sizes[-1], config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # torch's initialisation, which the paper used: transformers' normal(0, 0.02) would be another model
        if isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            bound = 1 / math.sqrt(module.in_features)
            init.uniform_(module.bias, -bound, bound)

    def forward(
        self, input_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> SequenceClassifierOutput:
        """Return `logits` `(batch, num_labels)`, and `loss` where labels are given.

        Args:
            input_values: waveforms `(batch, num_samples)`.
            labels: label index of each clip, `(batch,)`.
            kwargs: `num_items_in_batch` from Trainer, by which the loss is divided under gradient accumulation.
        """
        hidden_states = input_values
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        logits = self.classifier(hidden_states)  # (batch, num_labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(loss=loss, logits=logits)

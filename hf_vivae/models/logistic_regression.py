"""Logistic regression on the waveform as a linear layer.

scikit-learn fits the weights (`hf_vivae.training`); this class holds them, so that the result is saved, loaded and
scored like every other model.
"""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class LogisticRegressionConfig(PreTrainedConfig):
    """Configuration of `LogisticRegressionForAudioClassification`.

    Args:
        num_samples: length of the waveform, in samples.
        max_iterations: largest number of iterations of the solver (100 in the paper).
        inverse_regularization: scikit-learn's `C`, the inverse strength of the L2 penalty.
        kwargs: arguments of `PreTrainedConfig`, such as `id2label`.
    """

    model_type = "vivae_logistic_regression"

    def __init__(
        self,
        num_samples: int = 44100,
        max_iterations: int = 100,
        inverse_regularization: float = 1.0,
        **kwargs,
    ) -> None:
        self.num_samples = num_samples
        self.max_iterations = max_iterations
        self.inverse_regularization = inverse_regularization
        super().__init__(**kwargs)


class LogisticRegressionForAudioClassification(PreTrainedModel):
    """Logistic regression on the waveform, the simplest baseline of the paper.

    Source: D. Pak, "Emotion Classification using Various Transformer Architectures" (2022). Takes waveforms
    `(batch, num_samples)` and returns logits `(batch, num_labels)`; 264,606 parameters by default with six labels.
    """

    config_class = LogisticRegressionConfig
    base_model_prefix = "classifier"
    main_input_name = "input_values"

    def __init__(self, config: LogisticRegressionConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(config.num_samples, config.num_labels)
        self.post_init()

    def forward(
        self, input_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> SequenceClassifierOutput:
        """Return `logits` `(batch, num_labels)`, and `loss` where labels are given.

        Args:
            input_values: waveforms `(batch, num_samples)`.
            labels: label index of each clip, `(batch,)`.
            kwargs: `num_items_in_batch` from Trainer, by which the loss is divided under gradient accumulation.
        """
        logits = self.classifier(input_values)  # (batch, num_labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(loss=loss, logits=logits)

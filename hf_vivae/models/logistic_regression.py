"""Logistic regression on the waveform: the report's simplest baseline, as one linear layer.

scikit-learn finds the weights (`hf_vivae.training`); this class holds them, so that the result is saved, loaded and
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
        max_iterations: of the solver (the report: 100).
        inverse_regularization: scikit-learn's `C`, the inverse strength of the L2 penalty.
        kwargs: the library's, such as `id2label`.
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
    """One linear layer from the samples of a clip to its label."""

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
        """Scores of each label.

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

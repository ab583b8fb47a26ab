"""Logistic regression on standardised acoustic functionals of a clip, such as eGeMAPS.

scikit-learn fits the weights (`hf_vivae.training`); this class holds them with the scaler, so that the result is
saved, loaded and scored like every other model.
"""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class FunctionalsConfig(PreTrainedConfig):
    """Configuration of `FunctionalsForAudioClassification`.

    Args:
        num_features: number of functionals of a clip.
        inverse_regularization: scikit-learn's `C`; None until it is selected on validation clips.
        max_iterations: largest number of iterations of the solver.
        refit: fit the weights again on training and validation clips together, after the selection.
        kwargs: arguments of `PreTrainedConfig`, such as `id2label`.

    Raises:
        ValueError: for an inverse_regularization of 0 or less.
    """

    model_type = "vivae_functionals"

    def __init__(
        self,
        num_features: int = 88,
        inverse_regularization: float | None = None,
        max_iterations: int = 1000,
        refit: bool = True,
        **kwargs,
    ) -> None:
        if not (inverse_regularization is None or inverse_regularization > 0):
            raise ValueError(
                f"expected inverse_regularization above 0, found {inverse_regularization}; leave it out to have "
                "it selected on validation clips."
            )
        self.num_features = num_features
        self.inverse_regularization = inverse_regularization
        self.max_iterations = max_iterations
        self.refit = refit
        super().__init__(**kwargs)


class FunctionalsForAudioClassification(PreTrainedModel):
    """Logistic regression on the functionals of a clip, the classic baseline of psychology and of affective computing.

    Takes functionals `(batch, num_features)`, as `OpenSmileFeatureExtractor` returns them, and returns logits
    `(batch, num_labels)`.
    """

    config_class = FunctionalsConfig
    base_model_prefix = "classifier"
    main_input_name = "input_values"

    def __init__(self, config: FunctionalsConfig) -> None:
        super().__init__(config)
        # statistics of the training clips, since functionals have units from Hz to dB
        self.register_buffer("mean", torch.zeros(config.num_features))
        self.register_buffer("std", torch.ones(config.num_features))
        self.classifier = nn.Linear(config.num_features, config.num_labels)
        self.post_init()

    def forward(
        self, input_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> SequenceClassifierOutput:
        """Return `logits` `(batch, num_labels)`, and `loss` where labels are given.

        Args:
            input_values: functionals `(batch, num_features)`, not standardised.
            labels: label index of each clip, `(batch,)`.
            kwargs: `num_items_in_batch` from Trainer, by which the loss is divided under gradient accumulation.
        """
        logits = self.classifier((input_values.to(self.mean.dtype) - self.mean) / self.std)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(loss=loss, logits=logits)

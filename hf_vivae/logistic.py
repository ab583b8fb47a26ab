"""Logistic regression: scikit-learn finds the weights, a `PreTrainedModel` keeps them."""

import warnings
from typing import Any

import numpy as np
import torch

from .models import LogisticRegressionForAudioClassification


def fit_logistic_regression(
    model: LogisticRegressionForAudioClassification, inputs: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Copy scikit-learn's L2-penalised solution into the model; the solver's iterations and whether it converged.

    Args:
        model: its `max_iterations` and `inverse_regularization` are the solver's.
        inputs: waveforms `(clips, num_samples)`.
        labels: label index of each clip, `(clips,)`; a label that is absent gets a bias
            20 below the least, so that it is practically never predicted.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(C=model.config.inverse_regularization, max_iter=model.config.max_iterations)
    with warnings.catch_warnings():
        # stopping at max_iterations is the report's setting; the returned entry says whether it happened
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(inputs, labels)
    weight, bias = solver.coef_, solver.intercept_
    if len(solver.classes_) == 2:  # one sigmoid stands for two softmax rows
        weight, bias = np.concatenate((0 * weight, weight)), np.concatenate((0 * bias, bias))
    classifier = model.classifier
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.fill_(float(bias.min()) - 20)
        classifier.weight[solver.classes_] = torch.as_tensor(weight).to(classifier.weight)
        classifier.bias[solver.classes_] = torch.as_tensor(bias).to(classifier.bias)
    iterations = int(solver.n_iter_.max())
    return {"iterations": iterations, "converged": iterations < solver.max_iter}

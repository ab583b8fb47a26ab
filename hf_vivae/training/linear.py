"""Models fitted without epochs: logistic regression on waveforms or functionals, and the probe of a frozen encoder."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from threadpoolctl import threadpool_limits

from ..models import FunctionalsForAudioClassification, LogisticRegressionForAudioClassification
from ..models.probe import ProbeForAudioClassification
from ..validation import UserError
from .trainer import VivaeTrainer

ROWS = 1000  # of embeddings in memory at once, of all layers
# scikit-learn's C for standardised embeddings of one layer; divided by how many times as many values a probe takes,
# since their inner products grow with their number
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
STRENGTHS_OF_FUNCTIONALS = (0.0001, 0.001, 0.01, 0.1, 1.0)  # 6,373 of them need a stronger penalty
Standardized = ProbeForAudioClassification | FunctionalsForAudioClassification  # models whose strength is selected


def select_regularization(trainer: VivaeTrainer) -> list[dict[str, float]]:
    """Fit the model with each strength on the training clips, and keep the one with the least cross entropy.

    UAR is not the criterion: on a hundred clips it differs by one or two clips between strengths, while every clip
    changes the cross entropy.

    Args:
        trainer: its model is changed in place; its `eval_dataset` selects. A strength in the model's configuration is
            used as it is.

    Returns:
        For each strength the scores on the selecting clips (`eval_*`), `inverse_regularization`, and the solver's
        `iterations` and whether it `converged`; of equal strengths, the strongest regularisation is kept.
    """
    config = trainer.model.config
    if config.inverse_regularization is not None:
        strengths = [config.inverse_regularization]
    elif isinstance(trainer.model, ProbeForAudioClassification):
        times = trainer.model.classifier.in_features / config.encoder.hidden_size
        strengths = [strength / times for strength in STRENGTHS]
    else:
        strengths = STRENGTHS_OF_FUNCTIONALS
    entries, clips = [], _read(trainer.model, trainer.train_dataset)
    for config.inverse_regularization in strengths:
        solution = _solve(trainer.model, *clips)
        scores = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval").metrics
        entries.append({"inverse_regularization": config.inverse_regularization, **solution, **scores})
    best = min(entries, key=lambda entry: entry["eval_loss"])
    config.inverse_regularization = best["inverse_regularization"]
    _solve(trainer.model, *clips)
    return entries


def refit_on_train_and_validation(trainer: VivaeTrainer, clips: Dataset) -> None:
    """Fit the model with its selected strength on the clips of training and validation together.

    A solver needs no validation clips to stop, and every further speaker helps.
    """
    _solve(trainer.model, *_read(trainer.model, clips))


def embedding_distances(model: ProbeForAudioClassification, clips: Dataset, indices: Sequence[int]) -> list[float]:
    """Return the distance of clips from the training clips, as `ProbeForAudioClassification.measure_distance`.

    Args:
        model: with the statistics of its training clips.
        clips: with their embeddings.
        indices: of clips.
    """
    batches = clips.select(indices).with_format("torch").iter(batch_size=ROWS)
    values = (model.standardize(batch["embeddings"].to(model.device)) for batch in batches)
    return torch.cat([model.measure_distance(batch) for batch in values]).tolist() if len(indices) else []


def _read(model: Standardized, clips: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings that a probe uses, or the functionals, `(clips, width)`, and the labels `(clips,)`."""
    batches = clips.with_format("torch").iter(batch_size=ROWS)
    if isinstance(model, ProbeForAudioClassification):
        inputs = [model.select_layer(batch["embeddings"]) for batch in batches]
    else:
        inputs = [batch["input_values"] for batch in batches]
    return torch.cat(inputs).numpy(), np.asarray(clips["labels"])


def _solve(model: Standardized, embeddings: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(embeddings)
    model.mean.copy_(torch.as_tensor(scaler.mean_))
    model.std.copy_(torch.as_tensor(scaler.scale_))
    # the solver's many small products are several times slower on two threads than on one
    with threadpool_limits(limits=1):
        return fit_logistic_regression(model, scaler.transform(embeddings), labels)


def fit_logistic_regression(
    model: LogisticRegressionForAudioClassification, inputs: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Fit scikit-learn's logistic regression with L2 penalty, and copy its weights into the model.

    Args:
        model: its configuration has `max_iterations` and `inverse_regularization` of the solver.
        inputs: waveforms or embeddings, `(clips, values)`.
        labels: label index of each clip, `(clips,)`; an absent label gets a bias 20 below the least, so that it is
            practically never predicted.

    Returns:
        The solver's `iterations`, and whether it `converged`.

    Raises:
        UserError: where all clips have one label, as those of a few speakers may.
    """
    if len(present := np.unique(labels)) < 2:
        raise UserError(
            f"expected training clips of at least 2 labels, found only {model.config.id2label[int(present[0])]} in "
            f"{len(labels)}; train on more clips or speakers."
        )
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(C=model.config.inverse_regularization, max_iter=model.config.max_iterations)
    with warnings.catch_warnings():
        # the paper stops at max_iterations; the returned entry states if that happened
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

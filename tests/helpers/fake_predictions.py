"""Predictions without a model: made from labels and what was predicted, or at random."""

from collections.abc import Sequence

import numpy as np

from hf_vivae.evaluation.runs import Predictions


def make_predictions(labels: Sequence[int], logits: Sequence[Sequence[float]], **columns: Sequence) -> Predictions:
    """Clips c0000.wav, c0001.wav, ... of one fold, without speaker, intensity or duration unless they are given."""
    number = len(labels)
    empty = np.full(number, "")
    filled = {
        "files": [f"c{index:04d}.wav" for index in range(number)],
        "folds": np.full(number, "all"),
        "speakers": empty,
        "intensities": empty,
        "durations": np.full(number, np.nan),
        **columns,
    }
    return Predictions(
        labels=np.asarray(labels, dtype=int),
        logits=np.asarray(logits, dtype=float),
        **{name: np.asarray(values) for name, values in filled.items()},
    )


def said(
    labels: Sequence[int], predicted: Sequence[int], number_of_labels: int = 3, **columns: Sequence
) -> Predictions:
    """Clips whose largest logit is that of the label they were given."""
    return make_predictions(labels, np.eye(number_of_labels)[np.asarray(predicted, dtype=int)], **columns)


def random_predictions(
    seed: int, clips: int = 60, labels: int = 3, speakers: int = 8, lean: float = 1.0
) -> Predictions:
    """Clips of several speakers and two folds, with logits that lean to the label; only these depend on the seed."""
    rng = np.random.default_rng(0)
    truth = rng.integers(labels, size=clips)
    by_speaker = rng.integers(speakers, size=clips)
    logits = np.random.default_rng(seed).normal(size=(clips, labels)) + lean * np.eye(labels)[truth]
    return make_predictions(
        truth,
        logits,
        speakers=[f"S{speaker}" for speaker in by_speaker],
        folds=[f"{speaker % 2 + 1}-of-2" for speaker in by_speaker],
    )


def chosen(predictions: Predictions, rows: np.ndarray) -> Predictions:
    """Some rows of the predictions, or the same in another order."""
    return Predictions(**{name: column[rows] for name, column in vars(predictions).items()})

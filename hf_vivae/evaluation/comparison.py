"""Two systems on the same clips: how far their scores differ, and whether that can be chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..validation import UserError
from .predictions import Predictions
from .resampling import RESAMPLES, Clips, Estimate, different_clips, estimates
from .statistics import label_point_scores, mean_over_seeds
from .weighted_scores import label_scores

SCORES = ("accuracy", "uar")
EXACT_BELOW = 25  # discordant clips; from here on chi-squared with continuity correction is close


@dataclass(frozen=True)
class Comparison:
    """The first system against the second.

    Args:
        clips: number of different clips that both tested.
        accuracy: of the first minus the second, means over seeds.
        uar: the same of UAR.
        only_first: clips that only the first has right; None with several seeds.
        only_second: clips that only the second has right; None with several seeds.
        p_value: McNemar's, of the hypothesis that either is right alone equally often; it takes the clips as
            independent, so where speakers differ, trust the bounds over speakers more. None with several seeds.
    """

    clips: int
    accuracy: Estimate
    uar: Estimate
    only_first: int | None
    only_second: int | None
    p_value: float | None


def compare(
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    names: tuple[str, str],
    label_names: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Difference of two systems, with a paired bootstrap and, for one seed each, McNemar's test.

    A resample draws clips, or speakers, once for both systems and all seeds.

    Args:
        first: the test clips of each seed of a system, over all folds.
        second: those of the other system, seed by seed on the same clips.
        names: of the systems, for errors.
        label_names: name of each label, in the order of the logits.
        resamples: number of draws, of clips and again of speakers.
        seed: of the draws.

    Raises:
        ValueError: the systems have different numbers of seeds, or seeds in the same place tested different clips or
            gave a clip different labels.
    """
    _check_seeds(first, second, names)
    clips = different_clips([*first, *second])
    values = [
        mean_over_seeds([label_point_scores(run.labels, run.predicted) for run in system])
        for system in (first, second)
    ]
    differences = estimates(
        {score: values[0][score] - values[1][score] for score in SCORES},
        _difference(first, second, clips, len(label_names)),
        clips,
        resamples,
        seed,
    )
    alone = _discordant(first[0], second[0]) if len(first) == 1 else (None, None)
    p_value = mcnemar_p_value(*alone) if len(first) == 1 else None
    return Comparison(len(clips), differences["accuracy"], differences["uar"], *alone, p_value)


def _difference(
    first: Sequence[Predictions], second: Sequence[Predictions], clips: Clips, labels: int
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    of_runs = [
        label_scores(run, places, len(clips), labels)
        for run, places in zip([*first, *second], clips.places, strict=True)
    ]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores = [of_run(weights) for of_run in of_runs]
        by_name = {name: np.array([of_run[name] for of_run in scores]) for name in SCORES}
        return {
            name: found[: len(first)].mean(axis=0) - found[len(first) :].mean(axis=0)
            for name, found in by_name.items()
        }

    return statistic


def _check_seeds(first: Sequence[Predictions], second: Sequence[Predictions], names: tuple[str, str]) -> None:
    if len(first) != len(second):
        raise UserError(
            f"expected as many seeds of {names[0]} as of {names[1]}, found {len(first)} and {len(second)}: "
            "compare the seeds that both have"
        )
    for number, pair in enumerate(zip(first, second, strict=True), start=1):
        _check_clips(*pair, names if len(first) == 1 else tuple(f"seed {number} of {name}" for name in names))


def _check_clips(first: Predictions, second: Predictions, names: tuple[str, str]) -> None:
    labels = [dict(zip(run.files.tolist(), run.labels.tolist(), strict=True)) for run in (first, second)]
    only = [sorted(labels[0].keys() - labels[1].keys()), sorted(labels[1].keys() - labels[0].keys())]
    if only[0] or only[1]:
        found = " and ".join(f"{_count(files)} only in {name}" for files, name in zip(only, names, strict=True))
        raise UserError(
            f"expected the same clips in {names[0]} and {names[1]}, found {found}: "
            "compare runs of one protocol, seed and corpus"
        )
    differ = sorted(file for file, label in labels[0].items() if labels[1][file] != label)
    if differ:
        raise UserError(
            f"expected the same labels in {names[0]} and {names[1]}, found different ones for {_count(differ)}: "
            "compare runs of one task and corpus"
        )


def _count(files: Sequence[str]) -> str:
    first = f" (first: {', '.join(files[:3])})" if files else ""
    return f"{len(files)} {'clip' if len(files) == 1 else 'clips'}{first}"


def _discordant(first: Predictions, second: Predictions) -> tuple[int, int]:
    right = [(run.predicted == run.labels)[np.argsort(run.files)] for run in (first, second)]
    return int(np.sum(right[0] & ~right[1])), int(np.sum(right[1] & ~right[0]))


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """P-value of McNemar's test (1947): exact below 25 discordant clips, else chi-squared with continuity correction.

    Args:
        only_first: clips that only the first has right.
        only_second: clips that only the second has right; 1 where it has none and the first has none.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    exact = only_first + only_second < EXACT_BELOW
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=exact, correction=True).pvalue)


def adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """P-values of several comparisons, adjusted so that the chance of any false finding stays as stated (Holm, 1979).

    Args:
        p_values: of all comparisons that are made; the adjusted ones come in the same order.
    """
    from statsmodels.stats.multitest import multipletests

    return multipletests(p_values, method="holm")[1].tolist() if len(p_values) else []

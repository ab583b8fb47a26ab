"""All numbers of an evaluation, for its `results.json`."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .evaluated import System
from .evaluation_rows import mean_majority
from .group_scores import GroupScores, Pair
from .system_scores import SystemScores


def evaluation_results(groups: Sequence[GroupScores], left_out: Sequence[str]) -> dict[str, Any]:
    """Names and unrounded numbers of each group, its systems and their comparisons.

    Args:
        groups: in their order.
        left_out: a sentence for each run folder that is not evaluated.
    """
    return {"groups": [_group(group) for group in groups], "left_out": list(left_out)}


def _group(group: GroupScores) -> dict[str, Any]:
    labels = group.group.labels
    chance = {"accuracy": 1 / len(labels), "uar": 1 / len(labels), "macro_auc": 0.5, "loss": math.log(len(labels))}
    return {
        **asdict(group.group.clips),
        "labels": labels,
        "chance": chance,
        "majority": mean_majority(group),
        "systems": [_system(scores) for scores in group.systems],
        "comparisons": [_pair(pair) for pair in group.pairs],
        "not_compared": group.not_compared,
    }


def _system(scores: SystemScores) -> dict[str, Any]:
    system, calibration = scores.system, scores.calibration
    return {
        "name": system.name,
        "marked": system.habits,
        "selection": system.selection,
        "folds": system.covered,
        **_made_of(system),
        "clips": scores.clips,
        "scores": {name: asdict(estimate) for name, estimate in scores.estimates.items()},
        "wilson": scores.wilson,
        "majority": scores.majority,
        "by_seed": scores.by_seed,
        "by_fold": scores.by_fold,
        **{f"by_{name}": [asdict(found) for found in groups] for name, groups in scores.groups.items()},
        "calibration": {
            **calibration.scores,
            "temperatures": calibration.temperatures,
            "at_bound": calibration.at_bound,
            "reliability": calibration.plain.bins,
            "reliability_scaled": calibration.scaled and calibration.scaled.bins,
        },
        "confusion_matrix": scores.confusion.tolist(),
    }


def _made_of(system: System) -> dict[str, Any]:
    """Settings and run folders; of an ensemble, the systems that have these."""
    if system.members:
        return {"members": system.members, "runs": [{"seed": run.seed} for run in system.runs]}
    runs = [{"seed": run.seed, "folders": {fold.fold: str(fold.path) for fold in run.folds}} for run in system.runs]
    return {"settings": {name: json.loads(value) for name, value in system.folds[0].settings}, "runs": runs}


def _pair(pair: Pair) -> dict[str, Any]:
    names = {"first": pair.first.name, "second": pair.second.name, "seeds": pair.seeds}
    return {**names, **asdict(pair.comparison), "p_value_adjusted": pair.adjusted}

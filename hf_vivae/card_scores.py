"""The scores of a model card as text: pooled and by group, whose weights are published, and those of its siblings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .card_facts import duration
from .card_metadata import METRICS, dataset_name
from .evaluation.groups import GroupScore
from .evaluation.predictions import Predictions, read_part
from .evaluation.resampling import Bounds
from .evaluation.system_scores import SystemScores
from .models import short_name
from .protocols import PROTOCOLS
from .publication import Publication
from .runs import read_json

MOST_SHOWN = 30  # speakers in a table or a figure
MOST_NAMED = 12  # speakers in a sentence
AUC = "macro_auc"  # the one score that is no share of clips


@dataclass(frozen=True)
class Sibling:
    """Another model of the same study.

    Args:
        repo: its Hub id.
        publication: its checkpoint and scores.
    """

    repo: str
    publication: Publication


def score_facts(publication: Publication, scores: SystemScores) -> dict[str, Any]:
    """Tables and sentences on what a system scores, for the template."""
    run, system = publication.record["run"], scores.system
    return {
        "protocol": PROTOCOLS[run["protocol"]],
        "protocol_name": run["protocol"],
        "scores": _score_rows(scores, len(publication.labels)),
        "habits": system.habits,
        "groups": {kind: _group_rows(found) for kind, found in shown_groups(scores).items()},
        "many_speakers": _quartiles(scores.groups["speaker"]),
        "absent": any(group.absent for found in shown_groups(scores).values() for group in found),
        "tested": scores.clips,
        "models": len(system.folds),
        "folds": system.covered,
        "seeds": len(system.runs),
        "ece": f"{100 * scores.calibration.scores['ece']:.1f}",
        "weights": _weights(publication.checkpoint, scores, PROTOCOLS[run["protocol"]].speaker_disjoint),
        "all_time": duration(sum(fold.seconds for fold in system.folds)),
    }


def shown_groups(scores: SystemScores) -> dict[str, list[GroupScore]]:
    """Speakers and intensities that a table and a figure have room for; without those that are unknown."""
    found = {kind: scores.groups[kind] for kind in ("speaker", "intensity")}
    return {kind: groups for kind, groups in found.items() if 0 < len(groups) <= MOST_SHOWN}


def _score_rows(scores: SystemScores, labels: int) -> list[dict[str, str]]:
    chance = {"uar": 1 / labels, "accuracy": 1 / labels, "macro_f1": None, AUC: 0.5}
    star = " *" if scores.system.habits else ""
    return [
        {
            "name": METRICS[key][1] + star,
            "value": _text(key, estimate.value),
            "speakers": _range(key, estimate.speakers),
            "clips": _range(key, estimate.clips),
            "chance": _text(key, chance[key]),
            "majority": _text(key, scores.majority[key]),
        }
        for key, estimate in ((key, scores.estimates[key]) for key in METRICS)
    ]


def _group_rows(groups: Sequence[GroupScore]) -> list[dict[str, Any]]:
    return [
        {
            "name": group.name,
            "clips": group.clips,
            "accuracy": _text("accuracy", group.accuracy),
            "bounds": _range("accuracy", (group.low, group.high)),
            "uar": _text("uar", group.uar),
        }
        for group in groups
    ]


def _quartiles(speakers: Sequence[GroupScore]) -> dict[str, Any] | None:
    """How the accuracies of more speakers than a table has room for are spread."""
    if len(speakers) <= MOST_SHOWN:
        return None
    low, middle, high = np.quantile([group.accuracy for group in speakers], (0.25, 0.5, 0.75))
    return {"number": len(speakers), "low": f"{low:.1%}", "middle": f"{middle:.1%}", "high": f"{high:.1%}"}


def _text(key: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if key == AUC else f"{value:.1%}"


def _range(key: str, bounds: Bounds | None) -> str:
    return "-" if bounds is None else f"{_text(key, bounds[0])} to {_text(key, bounds[1])}"


def _weights(checkpoint: Path, scores: SystemScores, disjoint: bool) -> dict[str, Any]:
    """Which of the scored models is published, what trained and chose it, and what it scores by itself.

    Speakers are named where each is on one side only.
    """
    run = scores.system.runs[0]
    fold = run.folds[0].fold
    parts = {part: read_part([checkpoint], part) for part in ("train", "validation", "test")}
    chosen = read_json(checkpoint / "results.json")["selection"]
    return {
        "fold": fold,
        "seed": run.seed,
        "uar": _text("uar", scores.by_fold[run.seed][fold]["uar"]),
        "chosen": chosen and {"refit": False, **chosen, "metric": _metric_name(chosen["metric"])},
        **{part: found and _clips(found, MOST_NAMED if disjoint else 0) for part, found in parts.items()},
    }


def _metric_name(metric: str) -> str:
    name = metric.removeprefix("eval_")
    return METRICS[name][1] if name in METRICS else name


def _clips(part: Predictions, most_named: int) -> str:
    """How many clips, and by whom where that is known."""
    speakers, clips = sorted(set(part.speakers.tolist())), f"{len(part)} clips"
    if "" in speakers:
        return clips
    return f"{clips} by {', '.join(speakers) if len(speakers) <= most_named else f'{len(speakers)} speakers'}"


def study_rows(this: Sibling, others: Sequence[Sibling]) -> list[dict[str, Any]]:
    """The models of a study, the best UAR of each corpus and protocol first; nothing where there is no other."""
    siblings = {other.repo: other for other in others} | {this.repo: this}
    if len(siblings) == 1:
        return []
    return [_study_row(one, one is this) for one in sorted(siblings.values(), key=_place)]


def _place(one: Sibling) -> tuple:
    record, scores = one.publication.record, one.publication.scores
    value = scores.estimates["uar"].value if scores else 0.0
    return record["corpus"]["name"], record["run"]["protocol"], -value, one.repo


def _study_row(one: Sibling, this: bool) -> dict[str, Any]:
    record, scores = one.publication.record, one.publication.scores
    estimates = scores.estimates if scores else {}
    star = " *" if scores and scores.system.habits else ""
    return {
        "repo": one.repo,
        "name": short_name(record["run"]["model"]),
        "this": this,
        "clips": dataset_name(record["corpus"]),
        "protocol": record["run"]["protocol"],
        "uar": f"{_text('uar', estimates['uar'].value)}{star}" if scores else "-",
        "bounds": _range("uar", estimates["uar"].speakers) if scores else "-",
        "accuracy": f"{_text('accuracy', estimates['accuracy'].value)}{star}" if scores else "-",
        "habits": scores.system.habits if scores else [],
    }

"""The scores of a model card as text: pooled and by group, whose weights are published, and those of its siblings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .card_facts import counted, duration
from .card_metadata import METRICS, dataset_name
from .evaluation.evaluated import Run
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
FEWEST_CLIPS = 10  # of the median speaker, for whose accuracy fewer say nothing
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
        "scores": _score_rows(scores, len(publication.labels)),
        "habits": system.habits,
        "groups": {kind: _group_rows(found) for kind, found in shown_groups(scores).items()},
        "many_speakers": _quartiles(scores.groups["speaker"]),
        "absent": any(group.absent for found in shown_groups(scores).values() for group in found),
        "heard": _heard_again(system.runs[0]),
        "tested": scores.clips,
        "models": len(system.folds),
        "folds": system.covered,
        "seeds": len(system.runs),
        "ece": f"{100 * scores.calibration.scores['ece']:.1f}",
        "weights": _weights(publication.checkpoint, scores, PROTOCOLS[run["protocol"]].speaker_disjoint),
        "all_time": duration(sum(fold.seconds for fold in system.folds)),
    }


def shown_groups(scores: SystemScores) -> dict[str, list[GroupScore]]:
    """Speakers and intensities that a table and a figure have room for; without those that are unknown.

    Speakers of a folder have numbers in place of their names, since these may be people's own.
    """
    found = {kind: scores.groups[kind] for kind in ("speaker", "intensity")}
    if _of_folder(scores):
        found["speaker"] = [replace(one, name=f"speaker {n}") for n, one in enumerate(found["speaker"], start=1)]
    return {kind: groups for kind, groups in found.items() if 0 < len(groups) <= MOST_SHOWN}


def _of_folder(scores: SystemScores) -> bool:
    return scores.system.folds[0].clips.corpus == "folder"


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
    if len(speakers) <= MOST_SHOWN or np.median([group.clips for group in speakers]) < FEWEST_CLIPS:
        return None
    low, middle, high = np.quantile([group.accuracy for group in speakers], (0.25, 0.5, 0.75))
    return {"number": len(speakers), "low": f"{low:.1%}", "middle": f"{middle:.1%}", "high": f"{high:.1%}"}


def _heard_again(run: Run) -> dict[str, int] | None:
    """How many speakers are tested, and of them how many are heard in training too; None where one is unknown."""
    train, test = (
        set(zip(part.folds.tolist(), part.speakers.tolist(), strict=True))
        for part in (run.read("train"), run.read("test"))
    )
    if "" in {speaker for _, speaker in train | test}:
        return None
    again, tested = (len({speaker for _, speaker in pairs}) for pairs in (train & test, test))
    return {"again": again, "tested": tested}


def _text(key: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if key == AUC else f"{value:.1%}"


def _range(key: str, bounds: Bounds | None) -> str:
    return "-" if bounds is None else f"{_text(key, bounds[0])} to {_text(key, bounds[1])}"


def _weights(checkpoint: Path, scores: SystemScores, disjoint: bool) -> dict[str, Any]:
    """Which of the scored models is published, what trained and chose it, and what it scores by itself.

    Speakers are named where each is on one side only, but not those of a folder, after whom folds may be named too.
    """
    run = scores.system.runs[0]
    fold = run.folds[0].fold
    parts = {part: read_part([checkpoint], part) for part in ("train", "validation", "test")}
    chosen = read_json(checkpoint / "results.json")["selection"]
    epoch = chosen and chosen.get("epoch")
    disjoint = disjoint and not _of_folder(scores)
    return {
        "fold": "1" if _of_folder(scores) else fold,
        "seed": run.seed,
        "uar": _text("uar", scores.by_fold[run.seed][fold]["uar"]),
        "chosen": chosen and {"refit": False, **chosen, "metric": _metric_name(chosen["metric"])},
        "when": None if epoch is None else _when(checkpoint, epoch),
        **{part: found and _clips(found, MOST_NAMED if disjoint else 0) for part, found in parts.items()},
    }


def _when(checkpoint: Path, epoch: float) -> str:
    """The epoch that was selected, or the step where that is within one."""
    if epoch.is_integer():
        return f"Epoch {epoch:g}"
    history = checkpoint / "history.jsonl"  # which evaluation and cards do without where it was not copied along
    entries = map(json.loads, history.read_text(encoding="utf-8").splitlines() if history.is_file() else ())
    return next((f"Step {entry['step']}" for entry in entries if entry.get("epoch") == epoch), f"Epoch {epoch:.3g}")


def _metric_name(metric: str) -> str:
    name = metric.removeprefix("eval_")
    return METRICS[name][1] if name in METRICS else name


def _clips(part: Predictions, most_named: int) -> str:
    """How many clips, and by whom where that is known."""
    speakers, clips = sorted(set(part.speakers.tolist())), counted(len(part), "clip")
    if "" in speakers:
        return clips
    return f"{clips} by {', '.join(speakers) if len(speakers) <= most_named else counted(len(speakers), 'speaker')}"


def study_rows(this: Sibling, others: Sequence[Sibling]) -> list[dict[str, Any]]:
    """The models of a study, the best UAR of each corpus, task and protocol first; nothing where there is no other."""
    siblings = {other.repo: other for other in others} | {this.repo: this}
    if len(siblings) == 1:
        return []
    return [_study_row(one, one is this) for one in sorted(siblings.values(), key=_place)]


def _place(one: Sibling) -> tuple:
    record, scores = one.publication.record, one.publication.scores
    value = scores.estimates["uar"].value if scores else 0.0
    return record["corpus"]["name"], record["run"]["task"], record["run"]["protocol"], -value, one.repo


def _study_row(one: Sibling, this: bool) -> dict[str, Any]:
    record, scores = one.publication.record, one.publication.scores
    estimates = scores.estimates if scores else {}
    star = " *" if scores and scores.system.habits else ""
    return {
        "repo": one.repo,
        "name": short_name(record["run"]["model"]),
        "this": this,
        "clips": dataset_name(record["corpus"]),
        "task": record["run"]["task"],
        "protocol": record["run"]["protocol"],
        "uar": f"{_text('uar', estimates['uar'].value)}{star}" if scores else "-",
        "bounds": _range("uar", estimates["uar"].speakers) if scores else "-",
        "accuracy": f"{_text('accuracy', estimates['accuracy'].value)}{star}" if scores else "-",
        "habits": scores.system.habits if scores else [],
    }

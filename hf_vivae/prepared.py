"""A corpus that is ready for a run: measured, labelled and split; and what the run's files say of both."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import machine
from .arguments import RunArguments, VivaeTrainingArguments
from .checkpoints import starting_point
from .corpus.download import bare_address
from .corpus.schema import Corpus
from .corpus.tasks import task_labels
from .features import clip_digests, corpus_digest, describe_clips, measure_peaks
from .splits import PARTS, Fold, make_folds


@dataclass(frozen=True)
class Prepared:
    """A corpus that is ready for a run.

    Args:
        corpus: its usable clips.
        digest: what tells it, its speakers and labels from others.
        peaks: largest absolute sample of each clip, `(clips,)`.
        labels: index of the label of each clip, `(clips,)`.
        label_names: name of each label.
        described: name, digest, speaker, intensity and duration of each clip.
        folds: of the protocol.
        duplicates: number of clips that are copies of another.
    """

    corpus: Corpus
    digest: str
    peaks: np.ndarray
    labels: list[int]
    label_names: list[str]
    described: list[dict[str, Any]]
    folds: list[Fold]
    duplicates: int


def prepare(run: RunArguments, seed: int, corpus: Corpus) -> Prepared:
    """Measure, label and split the corpus."""
    labels, label_names = task_labels(corpus.dataset, run.task)
    peaks = measure_peaks(corpus.dataset)
    digests = clip_digests(corpus.dataset)
    folds = make_folds(corpus.dataset, run.protocol, labels, seed, run.num_groups, digests, run.duplicates)
    digest, described = corpus_digest(corpus, labels), describe_clips(corpus.dataset)
    copies = len(digests) - len(set(digests))
    return Prepared(corpus, digest, peaks, labels, label_names, described, folds, copies)


def fold_parts(fold: Fold, select_on: str) -> dict[str, tuple[int, ...]]:
    """Row indices of each part; where those of validation do not select, they train."""
    if select_on == "validation":
        return {part: getattr(fold, part) for part in PARTS}
    return {"train": tuple(sorted(fold.train + fold.validation)), "test": fold.test}


def untrained_labels(prepared: Prepared, folds: Iterable[Fold], select_on: str) -> dict[str, list[str]]:
    """Labels of the corpus without a training clip in some of these folds, each with the names of those folds."""
    untrained: dict[str, list[str]] = {}
    for fold in folds:
        trained = {prepared.labels[row] for row in fold_parts(fold, select_on)["train"]}
        for index, label in enumerate(prepared.label_names):
            if index not in trained:
                untrained.setdefault(label, []).append(fold.name)
    return untrained


def identity(run: RunArguments, args: VivaeTrainingArguments, prepared: Prepared) -> dict[str, Any]:
    """What `results.json` says of the run before its scores."""
    return {
        "model": run.model,
        "recipe": run.recipe,
        "as_coded": run.as_coded,
        "data": prepared.corpus.name,
        "protocol": run.protocol,
        "of_folds": len(prepared.folds),
        "task": run.task,
        "seed": args.seed,
        "labels": prepared.label_names,
    }


def run_record(run: RunArguments, args: VivaeTrainingArguments, prepared: Prepared) -> dict[str, Any]:
    """The content of `run.json` before the run."""
    corpus = prepared.corpus
    source = starting_point(run.model, run.model_name_or_path)
    return {
        "run": asdict(run) | {"data_url": run.data_url and bare_address(run.data_url)},
        "from_folder": source is not None and Path(source).is_dir(),  # what looks like a Hub id may be one elsewhere
        "training": args.to_dict(),
        "corpus": {
            "name": corpus.name,
            "clips": len(corpus.dataset),
            "digest": prepared.digest,
            "problems": list(corpus.problems),
        },
        "duplicates": prepared.duplicates,
        "processes": args.world_size,
        "environment": machine.environment(),
        "finished": False,
    }


def fold_record(record: dict[str, Any], prepared: Prepared, fold: Fold) -> dict[str, Any]:
    """The record of a run as that of one of its folds, which names the clips of each part."""
    parts = fold_parts(fold, record["run"]["select_on"])
    names = {part: [prepared.described[row]["file"] for row in parts.get(part, ())] for part in PARTS}
    return {**record, "fold": names}

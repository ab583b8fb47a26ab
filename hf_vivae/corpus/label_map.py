"""Label maps: the labels of a corpus replaced by those of another one, or left out."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ..files import read_yaml
from ..validation import UserError, did_you_mean
from .schema import Corpus, LabelMap, first_names

logger = logging.getLogger(__name__)


def read_label_map(path: str | Path) -> LabelMap:
    """Read a label map from a YAML file, whose name without its suffix is the map's name.

    Raises:
        UserError: for a file that is not a mapping from labels to labels or null.
    """
    targets = read_yaml(Path(path))
    if not all(isinstance(label, str) and isinstance(target, str | None) for label, target in targets.items()):
        raise UserError(
            f"expected lines `label: new label` or `label: null` in {path}, found other values; put labels that are "
            "numbers or yes and no into quotes."
        )
    return LabelMap(Path(path).stem, targets)


def apply_label_map(corpus: Corpus, label_map: LabelMap) -> Corpus:
    """Return the clips of a corpus whose labels the map keeps, with their new labels, and log their numbers.

    The map may name labels that the corpus does not have, such as those that a part of it lacks.

    Raises:
        UserError: for labels that the map does not name, and for a map that leaves fewer than two labels.
    """
    names = corpus.dataset.features["emotion"].names
    unnamed = [name for name in names if name not in label_map.targets]
    if len(unnamed) == len(names):
        raise UserError(
            f"expected a label map for the {corpus.name} clips, whose labels are {first_names(names)}, found none of "
            f"them in {label_map.name}, which names {first_names(list(label_map.targets)) or 'no label'}; give the "
            "--label_map of these clips."
        )
    if unnamed:
        raise UserError(
            f"expected every label of the {corpus.name} clips in the label map {label_map.name}, found none for "
            f"{', '.join(unnamed)}{did_you_mean(unnamed[0], label_map.targets)}; add them, with null to leave "
            "their clips out."
        )
    targets = [label_map.targets[name] for name in names]
    labels = sorted({target for target in targets if target is not None})
    if len(labels) < 2:
        raise UserError(
            f"expected a label map that keeps at least two labels, found {', '.join(labels) or 'none'} in "
            f"{label_map.name}; correct it."
        )
    from datasets import ClassLabel

    dataset = corpus.dataset
    emotions = dataset["emotion"][:]
    counts = Counter(emotions)
    kept = [f"{names[i]} -> {targets[i]} {counts[i]}" for i in range(len(names)) if targets[i] is not None]
    left_out = [f"{names[i]} {counts[i]}" for i in range(len(names)) if targets[i] is None]
    logger.warning(
        "%s clips by the label map %s: %s; left out: %s.",
        corpus.name, label_map.name, ", ".join(kept), ", ".join(left_out) or "none",
    )  # fmt: skip
    new = [None if targets[emotion] is None else labels.index(targets[emotion]) for emotion in emotions]
    columns = dataset.column_names
    dataset = dataset.remove_columns("emotion").add_column("emotion", new, feature=ClassLabel(names=labels))
    # selected last: a column is added to all rows, and `add_column` would copy the sound of selected ones
    rows = [row for row, label in enumerate(new) if label is not None]
    return replace(corpus, dataset=dataset.select_columns(columns).select(rows), label_map=label_map)

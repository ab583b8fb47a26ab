"""Label maps: the labels of a corpus replaced by those of another one, or left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..files import read_yaml
from ..validation import UserError, did_you_mean
from .schema import Corpus, LabelMap


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
    """Return the clips of a corpus whose labels the map keeps, with their new labels.

    Raises:
        UserError: for labels that the map does not name, and for a map that leaves fewer than two labels.
    """
    names = corpus.dataset.features["emotion"].names
    if unnamed := [name for name in names if name not in label_map.targets]:
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
    rows = [row for row, emotion in enumerate(emotions) if targets[emotion] is not None]
    new = [labels.index(targets[emotions[row]]) for row in rows]
    position = dataset.column_names.index("emotion")
    kept = dataset.select(rows).remove_columns("emotion").add_column("emotion", new, feature=ClassLabel(names=labels))
    order = [name for name in kept.column_names if name != "emotion"]
    order.insert(position, "emotion")
    return replace(corpus, dataset=kept.select_columns(order), label_map=label_map)

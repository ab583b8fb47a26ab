"""Classification tasks: label indices and names of each task, from the columns of a corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..validation import UserError, check_choice
from .schema import EMOTIONS, INTENSITIES

if TYPE_CHECKING:
    from datasets import Dataset


TASKS = ("emotion", "intensity", "emotion_intensity", "valence")
VALENCES = ("negative", "positive")
POSITIVE = ("achievement", "pleasure", "surprise")


def task_labels(dataset: Dataset, task: str) -> tuple[list[int], list[str]]:
    """Return the label index of each row, and the names of the labels.

    The labels of `emotion_intensity` are in emotion-major order ("anger_low", "anger_moderate", ...). `valence`
    follows Holz, Larrouy-Maestri and Poeppel (2021, Scientific Reports 11:9663), who recorded three positive states
    (achievement, pleasure, surprise) and three negative ones (anger, fear, pain).

    Raises:
        UserError: for an unknown task, or one whose labels the corpus does not have.
    """
    check_choice("the task", task, TASKS)
    emotions = dataset.features["emotion"].names
    emotion = list(dataset["emotion"])
    if task == "emotion":
        return emotion, list(emotions)
    if task == "valence":
        unknown = [name for name in emotions if name not in EMOTIONS]
        if unknown:
            raise UserError(
                f"expected only the emotions {', '.join(EMOTIONS)} for the task valence, "
                f"found {', '.join(unknown)}; use --task emotion."
            )
        return [int(emotions[index] in POSITIVE) for index in emotion], list(VALENCES)
    intensity = list(dataset["intensity"])
    if unlabelled := intensity.count(None):
        raise UserError(
            f"expected an intensity ({', '.join(INTENSITIES)}) for every clip for the task {task}, "
            f"found none for {unlabelled} of {len(intensity)} clips; "
            "add the column intensity to the metadata file, or use --task emotion."
        )
    if task == "intensity":
        return intensity, list(INTENSITIES)
    names = [f"{name}_{strength}" for name in emotions for strength in INTENSITIES]
    return [e * len(INTENSITIES) + i for e, i in zip(emotion, intensity, strict=True)], names

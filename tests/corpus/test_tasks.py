"""Tasks: the label of each row, and the names of the labels."""

import re

import pytest

from hf_vivae.corpus import EMOTIONS, TASKS, task_labels
from hf_vivae.corpus.schema import build_dataset


def corpus(labels, emotions=EMOTIONS):
    rows = [
        {
            "audio": {"bytes": None, "path": f"{index}.wav"},
            "file": f"{index}.wav",
            "speaker": None,
            "emotion": emotion,
            "intensity": intensity,
            "item": "1",
            "duration": 1.0,
        }
        for index, (emotion, intensity) in enumerate(labels)
    ]
    return build_dataset(rows, emotions)


LABELS = [("surprise", "low"), ("achievement", "peak"), ("pain", "strong"), ("anger", "moderate"), ("pleasure", "low")]


def test_each_task_names_every_row_as_it_is():
    dataset = corpus([*LABELS, ("fear", "peak")])
    named = {}
    for task in TASKS:
        labels, names = task_labels(dataset, task)
        named[task] = [names[label] for label in labels]
    assert named == {
        "emotion": ["surprise", "achievement", "pain", "anger", "pleasure", "fear"],
        "intensity": ["low", "peak", "strong", "moderate", "low", "peak"],
        "emotion_intensity": [
            "surprise_low",
            "achievement_peak",
            "pain_strong",
            "anger_moderate",
            "pleasure_low",
            "fear_peak",
        ],
        "valence": ["positive", "positive", "negative", "negative", "positive", "negative"],
    }


def test_names_have_a_fixed_order():
    names = {task: task_labels(corpus(LABELS), task)[1] for task in TASKS}
    assert names["emotion"] == ["achievement", "anger", "fear", "pain", "pleasure", "surprise"]
    assert names["intensity"] == ["low", "moderate", "strong", "peak"]
    assert names["valence"] == ["negative", "positive"]
    assert len(names["emotion_intensity"]) == 24
    assert names["emotion_intensity"][3:5] == ["achievement_peak", "anger_low"]


def test_other_corpora_have_other_emotions():
    labels, names = task_labels(corpus([("yawn", None), ("cry", None)], ["cry", "yawn"]), "emotion")
    assert (labels, names) == ([1, 0], ["cry", "yawn"])


@pytest.mark.parametrize("task", ["intensity", "emotion_intensity"])
def test_intensity_must_be_known_for_every_clip(task):
    message = (
        f"expected an intensity (low, moderate, strong, peak) for every clip for the task {task}, found none for "
        "1 of 2 clips; add the column intensity to the metadata file, or use --task emotion."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        task_labels(corpus([("cry", None), ("yawn", "low")], ["cry", "yawn"]), task)


def test_valence_is_known_for_the_six_emotions_only():
    message = (
        "expected only the emotions achievement, anger, fear, pain, pleasure, surprise for the task valence, "
        "found cry; use --task emotion."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        task_labels(corpus([("cry", None), ("fear", None)], ["cry", "fear"]), "valence")
    labels, names = task_labels(corpus([("pleasure", None), ("fear", None)], ["fear", "pleasure"]), "valence")
    assert [names[label] for label in labels] == ["positive", "negative"]


def test_a_misspelt_task_names_the_nearest():
    message = (
        "expected the task to be one of emotion, intensity, emotion_intensity, valence, "
        "found 'valance' (did you mean valence?)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        task_labels(corpus(LABELS), "valance")

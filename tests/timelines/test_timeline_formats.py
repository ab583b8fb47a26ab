"""Files of a timeline: all formats have the same segments."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from hf_vivae.annotations.segment import Segment
from hf_vivae.inference.timeline import Recording, Timeline
from hf_vivae.timelines.formats import FORMATS, format_of, write_timeline


def timeline_of(labels: list[int | None], seconds: float, path: Path = Path("x.wav")) -> Timeline:
    rows = np.full((len(labels), 3), np.nan)
    for row, label in zip(rows, labels, strict=True):
        if label is not None:
            row[:] = 0.1
            row[label] = 0.8
    return Timeline(Recording(path, seconds, 44100), ["a", "b<", "c"], 0.25, rows, np.zeros(len(labels)))


def test_all_formats_say_the_same(tmp_path):
    timeline = timeline_of([0, 0, 1, None, 2], 3661.2)
    segments = [Segment(0.0, 0.5, "a", 0.8), Segment(3660.5, 3661.2, "b<", 0.76)]
    for suffix in ("csv", "json", "txt", "vtt"):
        write_timeline(tmp_path / f"x.{suffix}", timeline, segments)
    with open(tmp_path / "x.csv", newline="") as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == [
            ("0.000", "0.500", "a", "0.8000"), ("3660.500", "3661.200", "b<", "0.7600"),
        ]  # fmt: skip
    assert (tmp_path / "x.txt").read_text().splitlines()[1] == "3660.500000\t3661.200000\tb< 0.76"
    assert (tmp_path / "x.vtt").read_text() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:00.500\na 80%\n\n01:01:00.500 --> 01:01:01.200\nb&lt; 76%\n"
    )
    write_timeline(tmp_path / "y.json", timeline_of([0], 1.0, Path(os.fsdecode(b"lach\xe9.wav"))), [])
    assert json.loads((tmp_path / "y.json").read_text())["file"] == "lach\\xe9.wav"
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["segments"][1] == {"start": 3660.5, "end": 3661.2, "label": "b<", "score": 0.76}
    assert content["probabilities"][2:4] == [[0.1, 0.8, 0.1], None]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *((f"x.y{suffix}", suffix) for suffix in FORMATS),
        ("x.textgrid", ".TextGrid"), ("x.selections.txt", ".selections.txt"), ("x.doc", None), ("folder", None),
    ],
)  # fmt: skip
def test_the_end_of_a_name_is_the_format(name, suffix):
    assert format_of(Path(name)) == suffix

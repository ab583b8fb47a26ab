"""Thresholds of a timeline in config.json: read, refused where they are none, and written without other changes."""

import json
import math
import re

import pytest
from checkpoints_of import write_checkpoint
from transformers import PreTrainedConfig, ViTConfig

from hf_vivae.checkpoints.timeline_settings import (
    TimelineSettings,
    check_thresholds,
    fitted_recordings,
    store_timeline_settings,
    timeline_settings,
)


def test_a_flag_wins_over_the_checkpoint_and_that_over_the_default():
    config = PreTrainedConfig(timeline_gate_db=30, timeline_min_score=0.4)
    assert timeline_settings(config, gate_db=None, min_score=0.0) == TimelineSettings(30, 0.0, 0.0)
    assert timeline_settings(PreTrainedConfig(), min_seconds=0.5) == TimelineSettings(40.0, 0.0, 0.5)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gate_db", 0, "a number above 0"),
        ("gate_db", math.inf, "a number above 0"),
        ("min_score", 1.5, "a number from 0 to 1"),
        ("min_score", "0.5", "a number from 0 to 1"),
        ("min_score", True, "a number from 0 to 1"),
        ("min_seconds", -1, "a number of at least 0"),
        ("min_seconds", math.nan, "a number of at least 0"),
    ],
)
def test_what_is_no_threshold_is_refused(name, value, expected):
    sentence = f"expected {expected} as timeline_{name} in config.json, found {value!r}; correct or remove it."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        timeline_settings(PreTrainedConfig(**{f"timeline_{name}": value}))
    if isinstance(value, float):  # as the command line gives it
        sentence = f"expected {expected} as --{name}, found {value:g}; the default is "
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
            check_thresholds(**{name: value})


@pytest.mark.parametrize("record", [[], {}, {"sha256": "ab"}, {"sha256": [1]}])
def test_a_record_of_the_fit_without_digests_is_refused(record):
    with pytest.raises(ValueError, match="expected a list of sha256 in timeline_fitted_on"):
        fitted_recordings(PreTrainedConfig(timeline_fitted_on=record))


def test_nothing_but_the_thresholds_is_written(tmp_path):
    write_checkpoint(tmp_path)
    file = tmp_path / "config.json"
    before = json.loads(file.read_text()) | {"odd": {"__float__": "Infinity"}, "label": "笑"}
    file.write_text(json.dumps(before))
    store_timeline_settings(tmp_path, TimelineSettings(20.0, 0.5, 0.25, 2.0, 0.5), {"recordings": 1, "sha256": ["ab"]})
    after = json.loads(file.read_text())
    assert {key: value for key, value in after.items() if not key.startswith("timeline_")} == before
    config = ViTConfig.from_pretrained(tmp_path)
    assert timeline_settings(config) == TimelineSettings(20.0, 0.5, 0.25, 2.0, 0.5)
    assert fitted_recordings(config) == {"ab"}
    assert fitted_recordings(PreTrainedConfig()) == frozenset()
    config.save_pretrained(tmp_path / "copy")  # as a fine-tuning or a push does
    assert timeline_settings(ViTConfig.from_pretrained(tmp_path / "copy"), hop=0.1) == TimelineSettings(
        20.0, 0.5, 0.25, 2.0, 0.1
    )
    assert sorted(path.name for path in tmp_path.iterdir() if "config" in path.name) == [
        "config.json", "preprocessor_config.json",
    ]  # fmt: skip

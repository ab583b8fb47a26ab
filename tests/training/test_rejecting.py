"""Training with a class of background, and with a threshold fitted on validation clips."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from runner import flags, run

from hf_vivae.checkpoints.open_set import fit_threshold
from hf_vivae.checkpoints.timeline_settings import TIMELINE_FIELDS, TimelineSettings, store_timeline_settings
from hf_vivae.files import read_json
from hf_vivae.inference.scorer import Scorer
from hf_vivae.run_folder import read_predictions
from hf_vivae.validation import UserError

pytestmark = pytest.mark.usefixtures("no_pictures")


def folder_flags(tiny_vivae: Path, root: Path, names: dict[str, str], *more: str) -> list[str]:
    """Command line of an MLP trained on the clips of some emotions in folders of new names."""
    for emotion, name in names.items():
        (root / "clips" / name).mkdir(parents=True, exist_ok=True)
        for file in (tiny_vivae / "full_set").glob(f"*_{emotion}_*"):
            shutil.copy(file, root / "clips" / name)
    argv = flags(tiny_vivae, root / "run", "mlp")
    argv[argv.index("vivae")] = "folder"
    argv[argv.index(str(tiny_vivae))] = str(root / "clips")
    place = argv.index("--allow_partial")
    return [*argv[:place], *argv[place + 2 :], "--speaker_pattern", "^(S..)_", *more]


def test_a_folder_named_noise_trains_as_a_class_and_is_no_label(tiny_vivae, tmp_path, caplog):
    names = {"anger": "anger", "fear": "fear", "pain": "Noise"}
    with caplog.at_level(logging.WARNING):
        results = run(folder_flags(tiny_vivae, tmp_path, names))
    assert "Clips of Noise train as background, whose label is unknown" in caplog.text
    assert "rename it with --label_map" in caplog.text
    assert results["labels"] == ["Noise", "anger", "fear"], "scores of the training count it as a class"
    config = read_json(tmp_path / "run" / "S01" / "config.json")
    assert config["background_labels"] == ["Noise"]
    assert "open_set" not in config
    assert Scorer(str(tmp_path / "run" / "S01"), device="cpu").labels == ["anger", "fear", "unknown"]


def test_a_threshold_is_fitted_on_validation_clips_and_does_not_outlive_its_training(tiny_vivae, tmp_path):
    run(flags(tiny_vivae, tmp_path / "parent", "mlp", "--reject_rate", "0.2"))
    folder = tmp_path / "parent" / "S01"
    logits = [row["logits"] for row in read_predictions(folder) if row["split"] == "validation"]
    config = read_json(folder / "config.json")
    assert config["open_set"] == {
        "score": "max_logit", "threshold": fit_threshold(np.max(logits, axis=1), 0.2), "rate": 0.2, "clips": 12,
    }  # fmt: skip
    assert "background_labels" not in config
    assert Scorer(str(folder), device="cpu").labels[-1] == "unknown"
    store_timeline_settings(folder, TimelineSettings(30.0, 0.5, 0.25), {"sha256": []})
    run(flags(tiny_vivae, tmp_path / "child", "mlp", "--model_name_or_path", str(folder)))
    config = read_json(tmp_path / "child" / "S01" / "config.json")
    assert not config.keys() & {"open_set", "background_labels", *TIMELINE_FIELDS}


@pytest.mark.parametrize(
    ("names", "more", "sentence"),
    [
        ({"anger": "other", "fear": "fear"}, ["0.5"], "expected no background class with --reject_rate, found other"),
        ({"anger": "unknown", "fear": "fear"}, ["0.5"], "expected no label unknown with --reject_rate"),
        ({"anger": "unknown", "fear": "noise"}, [None], "expected no label unknown with the background class noise"),
        ({"anger": "anger", "fear": "fear"}, ["0.1"], "expected at least 9 validation clips .*, found 4 in fold S01"),
        ({"anger": "anger", "fear": "fear"}, ["0.5", "--select_on", "none"], "expected --select_on validation with"),
        ({"anger": "anger", "fear": "fear"}, ["1.5"], "expected --reject_rate above 0 and below 1, found 1.5"),
        (
            {"anger": "anger", "fear": "fear"}, ["0.5", "--model", "logistic-regression"],
            "expected at least 3 labels with --reject_rate and --model logistic-regression, found 2",
        ),
    ],
)  # fmt: skip
def test_corpora_and_arguments_without_a_threshold_are_refused(names, more, sentence, tiny_vivae, tmp_path):
    argv = folder_flags(tiny_vivae, tmp_path, names)
    if more[0]:
        argv += ["--reject_rate", *more]
    if "logistic-regression" in more:
        argv[argv.index("--model_config") + 1] = json.dumps({"num_samples": 2000})
    with pytest.raises(UserError, match=sentence):
        run(argv)

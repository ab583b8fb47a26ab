"""Difficulty of the synthetic clips: accuracy on unseen speakers lies between chance and perfect."""

import json

import pytest
from runner import run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "recipe", "least", "most"),
    [("logistic-regression", "paper", 0, 0.30), ("mlp", "paper", 0, 0.30), ("vit-32-30", "quick", 0.60, 0.95)],
)
def test_accuracy_on_unseen_synthetic_speakers(model, recipe, least, most, tmp_path):
    run(["--model", model, "--recipe", recipe, "--data", "synthetic", "--protocol", "speaker-k-fold", "--folds", "0",
         "--output_dir", str(tmp_path)])  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["data"] == "synthetic"
    assert least <= results["test"]["accuracy"] <= most

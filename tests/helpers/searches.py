"""Searches of a tiny model on the tiny corpus, and what they have written."""

import csv
import json
from pathlib import Path
from typing import Any

from runner import ROOT, flags

RECIPES = ROOT / "recipes"
SPACE = """
learning_rate: {low: 1e-4, high: 1e-1, log: true}
per_device_train_batch_size: {choices: [6, 12]}
model_config.hidden_sizes: {choices: [[16, 8], [12]]}
normalization: {choices: [none, mean_std]}
"""


def command(corpus: Path, output: Path) -> list[str]:
    """Flags of a search of 3 trials, whose space is written beside its folder; S01 would test, S02 validates."""
    space = output.with_name("space.yaml")
    space.write_text(SPACE)
    more = ["--metric_for_best_model", "uar", "--space", str(space), "--trials", "3"]
    return [*flags(corpus, output, "mlp"), *more]


def results(folder: Path) -> dict[str, Any]:
    """The content of `results.json`."""
    return json.loads((folder / "results.json").read_text())


def rows(folder: Path) -> list[dict[str, str]]:
    """The lines of `trials.csv`."""
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def histories(folder: Path) -> list[list[dict[str, Any]]]:
    """The entries of `history.jsonl` of each trial."""
    return [
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in sorted(folder.glob("trials/*/history.jsonl"))
    ]


def losses(history: list[dict[str, Any]]) -> list[float]:
    """Validation loss after each epoch."""
    return [entry["eval_loss"] for entry in history if "eval_loss" in entry]

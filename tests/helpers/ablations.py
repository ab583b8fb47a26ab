"""Recipes with a few ingredients of the smallest model, for tests of ablations."""

import shutil
from pathlib import Path

from runner import ROOT

RECIPES = ROOT / "recipes"
INGREDIENTS = """
without:
  normalization: {normalization: none}
  weight decay: {weight_decay: 0}
with:
  a wider layer: {model_config: {hidden_sizes: [24, 8]}}
kept:
  learning_rate: a value to search
"""


def recipes(folder: Path, content: str = INGREDIENTS, name: str = "mlp") -> Path:
    """The recipes, with ingredients for a model."""
    shutil.copytree(RECIPES, folder / "recipes")
    (folder / "recipes" / "ablation" / f"{name}.yaml").write_text(content)
    return folder / "recipes"

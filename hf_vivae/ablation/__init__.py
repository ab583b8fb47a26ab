"""Ablation of a recipe, opened by `recipes/ablate.py`."""

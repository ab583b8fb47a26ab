"""Ablation of a recipe, started by `recipes/ablate.py`."""

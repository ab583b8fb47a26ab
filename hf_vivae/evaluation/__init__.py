"""Comparison of finished runs, opened by `recipes/evaluate.py`."""

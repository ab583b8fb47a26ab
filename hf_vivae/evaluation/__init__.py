"""Comparison of finished runs, started by `recipes/evaluate.py`."""

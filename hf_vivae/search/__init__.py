"""Hyperparameter search, opened by `recipes/search.py`."""

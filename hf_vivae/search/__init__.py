"""Hyperparameter search, started by `recipes/search.py`."""

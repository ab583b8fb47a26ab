"""Reproduction of the paper, opened by `recipes/reproduce.py`."""

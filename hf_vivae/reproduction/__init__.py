"""Reproduction of the paper, started by `recipes/reproduce.py`."""

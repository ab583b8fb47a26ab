"""Score against the number of training speakers, started by `recipes/curve.py`."""

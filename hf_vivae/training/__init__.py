"""Training of one run, started by `recipes/train.py`."""

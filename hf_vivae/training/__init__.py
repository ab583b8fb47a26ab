"""Training of one run, opened by `recipes/train.py`."""

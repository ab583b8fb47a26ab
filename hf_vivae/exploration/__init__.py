"""Description of a corpus in numbers and figures, started by `recipes/explore.py`."""

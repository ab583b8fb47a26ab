"""Description of a corpus, opened by `recipes/explore.py`."""

"""Models, cards, datasets and Spaces on the Hub, opened by `recipes/push.py`."""

"""Models, cards, datasets and Spaces on the Hub, started by `recipes/push.py`."""

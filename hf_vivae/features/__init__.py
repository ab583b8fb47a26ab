"""Clips to model inputs: extraction, cache and augmentation."""

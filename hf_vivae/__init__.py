"""Emotion in non-verbal vocalisation, on the Hugging Face stack."""

from .version import __version__

__all__ = ["__version__"]

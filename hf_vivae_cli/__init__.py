"""The command `hf-vivae`. A package of its own, since importing `hf_vivae` brings torch, which help does not need."""

from .app import app

__all__ = ["app"]

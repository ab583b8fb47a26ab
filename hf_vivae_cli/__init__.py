"""The command `hf-vivae`. A package of its own, since importing `hf_vivae` brings torch, which help does not need."""

from . import checkpoint
from .main import app

__all__ = ["app", "checkpoint"]

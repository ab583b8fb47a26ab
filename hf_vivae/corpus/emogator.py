"""EmoGator: its clips in a folder or archive, compared with its 32,130 names, and the address of its archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .schema import Corpus

if TYPE_CHECKING:
    from datasets import Dataset


def load_emogator(
    path: str | Path | None = None,
    categories: str | Sequence[str] = "vivae",
    allow_partial: bool = False,
    on_bad_audio: str = "error",
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Return the `Dataset` of `read_emogator`, with one warning for files that are missing or left out."""
    corpus = read_emogator(path, categories, allow_partial, on_bad_audio, cache_dir)
    corpus.log_problems()
    return corpus.dataset


def read_emogator(
    path: str | Path | None = None,
    categories: str | Sequence[str] = "vivae",
    allow_partial: bool = False,
    on_bad_audio: str = "error",
    cache_dir: str | Path | None = None,
) -> Corpus:
    """Read EmoGator."""
    raise NotImplementedError

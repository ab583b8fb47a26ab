"""Audio datasets of the Hub, or of a folder or Parquet file that `datasets` loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .schema import Corpus

if TYPE_CHECKING:
    from datasets import Dataset


def load_hub_dataset(
    name: str,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    audio_column: str | None = None,
    label_column: str | None = None,
    speaker_column: str | None = None,
    on_bad_audio: str = "error",
) -> Dataset:
    """Return the `Dataset` of `read_hub_dataset`, with one warning for clips that are left out."""
    corpus = read_hub_dataset(name, config, split, revision, audio_column, label_column, speaker_column, on_bad_audio)
    corpus.log_problems()
    return corpus.dataset


def read_hub_dataset(
    name: str,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    audio_column: str | None = None,
    label_column: str | None = None,
    speaker_column: str | None = None,
    on_bad_audio: str = "error",
) -> Corpus:
    """Read a dataset of the Hub."""
    raise NotImplementedError

"""Explored corpora: the tiny VIVAE, and clips in a folder."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from exploring import clips_in

from hf_vivae.corpus import load_corpus
from hf_vivae.corpus.schema import Corpus
from hf_vivae.exploration.describe import explore


@pytest.fixture(scope="module")
def tiny(tiny_vivae: Path) -> Corpus:
    return load_corpus("vivae", data_dir=tiny_vivae, allow_partial=True)


@pytest.fixture(scope="module")
def explored(tiny: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict[str, Path], Path]:
    folder = tmp_path_factory.mktemp("explored")
    return *explore(tiny, folder), folder


@pytest.fixture
def folder_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    return partial(clips_in, tmp_path / "clips")

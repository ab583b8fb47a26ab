"""Corpora and their dataset repositories."""

from pathlib import Path

import pytest

from hf_vivae.corpus import Corpus


@pytest.fixture(params=["vivae", "synthetic", "folder"])
def repo(request, dataset_repos) -> tuple[Corpus, Path]:
    return dataset_repos[request.param]


@pytest.fixture
def vivae(dataset_repos) -> Corpus:
    return dataset_repos["vivae"][0]


@pytest.fixture
def synthetic(dataset_repos) -> Corpus:
    return dataset_repos["synthetic"][0]

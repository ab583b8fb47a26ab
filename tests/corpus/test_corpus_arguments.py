"""The arguments that select a corpus: the clips that they load, their warning, the folder in run.json."""

import logging

import pytest

from hf_vivae.cli_parser import parse_flags
from hf_vivae.corpus.arguments import CorpusArguments
from hf_vivae.validation import UserError


def test_they_load_the_corpus_with_one_warning_for_missing_files(tiny_vivae, caplog):
    arguments = parse_flags(CorpusArguments, ["--data_dir", str(tiny_vivae), "--allow_partial"], "")
    with caplog.at_level(logging.WARNING):
        corpus = arguments.load()
    assert len(corpus.dataset) == 48
    assert f"vivae clips: {len(corpus.problems)} files are missing, left out or not as expected (" in caplog.text
    assert f" and {len(corpus.problems) - 10} more)." in caplog.text


def test_the_folder_is_kept_as_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CorpusArguments(data_dir="here").data_dir == str(tmp_path / "here")


def test_a_circle_of_links_is_no_folder(tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(UserError, match=r"^expected a folder of labelled clips at .*circle, found Too many levels of"):
        CorpusArguments(data="folder", data_dir=str(tmp_path / "circle")).load()

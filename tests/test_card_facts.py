"""What cards say of checkpoints and trainings, without a folder of a machine, and which sources they refuse."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_publications import publish
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from hf_vivae.card import render_card
from hf_vivae.card_facts import duration, shown_command

CARDS, REPO = Path(__file__).parents[1] / "model_cards", "someone/bursts"


@pytest.fixture(scope="module")
def publication(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("run"), corpus="vivae")


names = st.text(st.characters(categories=("L", "N"), include_characters=" ._-"), min_size=1).filter(str.strip)


@given(st.lists(names, min_size=1), names, st.sampled_from(("", "--data_dir=", "--model=probe:", "probe:", '{"a": "')))
def test_of_a_path_only_its_last_part_is_shown(folders, name, before):
    path = "".join(f"/{folder}" for folder in ["secret", *folders, name])
    after = '"}' if before.startswith("{") else ""
    shown = shlex.split(shown_command(["train.py", f"{before}{path}{after}"]))
    assert shown == ["python", "recipes/train.py", f"{before}{name}{after}"]


@pytest.mark.parametrize(
    "argument",
    [
        "--data_url=https://zenodo.org/records/4066235/files/VIVAE.zip",
        "some/hubert",
        "runs/a",
        "^([A-Z]+)_",
        "<hidden>",
    ],
)
def test_what_is_no_path_of_the_machine_is_shown_as_it_was(argument):
    assert shlex.split(shown_command(["mine.py", argument])) == ["python", "mine.py", argument]


@pytest.mark.parametrize(("path", "name"), [("~/clips", "clips"), ("C:\\Users\\anna\\clips", "clips"), ("/a/b/", "b")])
def test_paths_of_other_machines_are_shortened_too(path, name):
    assert shlex.split(shown_command(["reproduce.py", path])) == ["python", "recipes/reproduce.py", name]


SOURCE = {"what": "A.", "intended_use": "B.", "limits": "C.", "ethics": None, "base_model": None}


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            {**SOURCE, "limit": "D."},
            r"expected the keys what, .*, base_model in .*30.yaml, found also limit; correct it",
        ),
        ({"what": "A.", "ethics": None}, "found no base_model, intended_use, limits; correct it"),
        ([1], "expected `key: text` lines in .*, found list; mend it"),
        ({**SOURCE, "limits": None}, "expected a text as limits in .*, found None; write one"),
        ({**SOURCE, "ethics": ["E."]}, r"expected a text as ethics in .*, found \['E.'\]; write one"),
        ({**SOURCE, "what": "{{ config.depth }}"}, "expected fields of the checkpoint in .*'depth'; correct it"),
        ({**SOURCE, "what": "{{ config"}, "expected fields of the checkpoint in .*; correct it"),
        ("a: [", "expected YAML in .*vit-32-30.yaml, found other .*; mend it"),
        (None, "expected the source of the card in .*vit-32-30.yaml, found none; write one"),
    ],
)
def test_damaged_sources_are_named(source, sentence, publication, tmp_path):
    (tmp_path / "template.md").write_text("# {{ name }}")
    if source is not None:
        text = source if isinstance(source, str) else yaml.safe_dump(source)
        (tmp_path / "vit-32-30.yaml").write_text(text)
    with pytest.raises(ValueError, match=sentence) as caught:
        render_card(tmp_path, REPO, publication)
    assert "\n" not in str(caught.value)


def test_a_licence_that_vivae_forbids_is_refused(publication):
    with pytest.raises(ValueError, match="expected a non-commercial licence"):
        render_card(CARDS, REPO, publication, "mit")
    assert "**Licence**: cc-by-nc-sa-4.0. VIVAE" in render_card(CARDS, REPO, publication, "cc-by-nc-sa-4.0")


def test_what_the_weights_started_from_is_said(tmp_path):
    own = {"model_name_or_path": "/home/anna/base"}
    text = render_card(CARDS, REPO, publish(tmp_path / "a", "wav2vec2", "vivae", settings=own))
    assert "the weights in a folder named base, whose own licence and limits hold too." in text
    assert "LibriSpeech" not in text
    assert ModelCard(text).data.base_model is None
    text = render_card(CARDS, REPO, publish(tmp_path / "b", "wav2vec2", settings={"from_scratch": True}))
    assert "- **Starts from** random weights." in text
    assert "**Licence**: apache-2.0." in text


def test_code_of_others_is_not_said_to_load_with_ours(tmp_path):
    publication = publish(tmp_path, "someone/hubert-tiny", "vivae")
    config = publication.checkpoint / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoConfig": "mine.Config"}}))
    text = render_card(CARDS, REPO, publication)
    assert text.count("```python") == 1
    assert "load_classifier" not in text
    assert "trust_remote_code=True" in text


def test_a_cut_is_exact_and_said_in_short(tmp_path):
    publication = publish(tmp_path, "someone/hubert-tiny", "vivae")
    extractor = publication.checkpoint / "preprocessor_config.json"
    extractor.write_text(json.dumps(json.loads(extractor.read_text()) | {"num_samples": 27787}))
    text = render_card(CARDS, REPO, publication)
    assert "its first 1.74 s, to which the lines below cut it." in text
    (cut,) = [line for line in text.splitlines() if line.startswith("samples = samples[")]
    kept = {"samples": np.zeros((40000, 1)), "sampling_rate": 16000}
    exec(cut, kept)
    assert len(kept["samples"]) == 27787


def test_an_installed_package_has_no_commit(publication):
    environment = {**publication.record["environment"], "git_commit": None}
    text = render_card(CARDS, REPO, replace(publication, record={**publication.record, "environment": environment}))
    assert "hf_vivae 0.1.0 as a package, whose commit is not known, Python" in text


@pytest.mark.parametrize(
    ("seconds", "words"), [(1.0, "1 s"), (99.4, "99.4 s"), (600, "10 min"), (9000.0, "2.5 h"), (8e6, "2,222.2 h")]
)
def test_a_duration_in_words(seconds, words):
    assert duration(seconds) == words

"""Model cards: facts of checkpoints and trainings without folders of the machine, and damaged sources."""

import json
import re
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

from hf_vivae.hub.model_card import counted, duration, render_card, shown_command

CARDS, REPO = Path(__file__).parents[2] / "model_cards", "someone/bursts"


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
        "--speaker_pattern=/([^/]+)_",
    ],
)
def test_what_is_no_path_of_the_machine_is_shown_as_it_was(argument):
    assert shlex.split(shown_command(["mine.py", argument])) == ["python", "mine.py", argument]


@pytest.mark.parametrize(
    ("path", "name"),
    [("~/clips", "clips"), ("C:\\Users\\anna\\clips", "clips"), ("/a/b/", "b"), ("../anna/clips", "clips")],
)
def test_paths_of_other_machines_are_shortened_too(path, name):
    assert shlex.split(shown_command(["reproduce.py", path])) == ["python", "recipes/reproduce.py", name]


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("--data_url=https://anna:secret@host.org/VIVAE.zip?token=abc", "--data_url=https://host.org/VIVAE.zip"),
        ("https://host.org/VIVAE.zip?X-Amz-Signature=abc&x=/home/anna", "https://host.org/VIVAE.zip"),
        ("file:///home/anna/VIVAE.zip", "file:VIVAE.zip"),
        ("//server/anna/clips", "clips"),
        ("--run_name=first /home/anna/try", "--run_name=first try"),
    ],
)
def test_addresses_identify_no_user(argument, shown):
    assert shlex.split(shown_command(["mine.py", argument])) == ["python", "mine.py", shown]


@pytest.mark.parametrize("flag", ["--speaker_pattern", "--speaker-pattern"])
def test_a_pattern_of_speakers_is_no_path(flag):
    shown = shlex.split(shown_command(["train.py", flag, "/x=([^/]+)_", "/home/anna"]))
    assert shown == ["python", "recipes/train.py", flag, "/x=([^/]+)_", "anna"]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["train.py", "--data", "vivae"], "The command that trained these weights, in a checkout of hf_vivae:\n"),
        (
            ["train.py", "--data_dir", "/a/clips"],
            "in a checkout of hf_vivae (only the last part of a folder is shown: insert yours):\n",
        ),
        (["mine.py"], "The command that trained these weights:\n"),
    ],
)
def test_the_command_is_introduced_by_what_it_needs(command, sentence, publication):
    environment = {**publication.record["environment"], "command": command}
    text = render_card(CARDS, REPO, replace(publication, record={**publication.record, "environment": environment}))
    assert sentence in text


SOURCE = {"what": "A.", "intended_use": "B.", "limits": "C.", "ethics": None, "base_model": None}


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            {**SOURCE, "limit": "D."},
            r"expected the keys what, .*, base_model in .*30.yaml, found also limit; correct it",
        ),
        ({"what": "A.", "ethics": None}, "found no base_model, intended_use, limits; correct it"),
        ([1], "expected .*`key: value` lines.*, found list; correct it"),
        ({**SOURCE, "limits": None}, "expected a text as limits in .*, found None; write one"),
        ({**SOURCE, "ethics": ["E."]}, r"expected a text as ethics in .*, found \['E.'\]; write one"),
        ({**SOURCE, "what": "{{ config.depth }}"}, "expected fields of the checkpoint in .*'depth'; correct it"),
        ({**SOURCE, "what": "{{ config"}, "expected fields of the checkpoint in .*; correct it"),
        ("a: [", "vit-32-30.yaml is not valid YAML .*; correct it"),
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
    text = render_card(CARDS, REPO, publication, "cc-by-nc-sa-4.0")
    assert "**Licence**: cc-by-nc-sa-4.0. VIVAE" in text
    assert "Name VIVAE's authors. The Python files here are those of hf_vivae, Apache-2.0.\n" in text


def test_incompatible_terms_are_stated(tmp_path):
    text = render_card(CARDS, REPO, publish(tmp_path, "microsoft/wavlm-large", "vivae"))
    assert "license: unknown\n" in text
    assert "the weights that training started from have terms that are incompatible with it, or not known" in text
    assert "this model is published under" not in text


def test_initial_weights_are_stated(tmp_path):
    own = {"model_name_or_path": "/home/anna/base"}
    text = render_card(CARDS, REPO, publish(tmp_path / "a", "wav2vec2", "vivae", settings=own))
    assert "the weights in a folder named base, whose licence and limits also apply." in text
    assert "license: unknown\n" in text
    assert "the weights that training started from have terms that are incompatible with it, or not known" in text
    assert "The network keeps what it has learned before" in text
    assert "LibriSpeech" not in text
    assert ModelCard(text).data.base_model is None
    text = render_card(CARDS, REPO, publish(tmp_path / "b", "wav2vec2", settings={"from_scratch": True}))
    assert "- **Starts from** random weights." in text
    assert "**Licence**: apache-2.0.\n" in text
    text = render_card(CARDS, REPO, publish(tmp_path / "c", "logistic-regression"))
    assert "- **Starts from** no pretrained weights." in text


@pytest.mark.parametrize("model", ["wav2vec2", "vit-base", "probe:someone/hubert-tiny", "someone/hubert-tiny"])
def test_random_weights_are_not_described_as_pretrained(model, tmp_path):
    text = render_card(CARDS, REPO, publish(tmp_path, model, "vivae", settings={"from_scratch": True}))
    assert "- **Starts from** random weights." in text
    assert not re.search("learned before|pretraining on speech|whether networks for photographs help", text)
    assert not re.search(r"^- *$|\*\*Intended use\*\*: *$", text, re.M), "an empty text"


def change(file: Path, **fields) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_results_of_the_paper_are_stated_for_their_patch_size_only(tmp_path):
    publication = publish(tmp_path)
    size, tall = "the one with patches of this size has the highest accuracy on VIVAE", "Its patches are tall"
    text = render_card(CARDS, REPO, publication)
    assert size in text
    assert tall in text
    change(publication.checkpoint / "config.json", patch_size=[8, 69], num_hidden_layers=1)
    text = render_card(CARDS, REPO, publication)
    assert "patches of 8 bands by 69 frames (100 ms), and has 1 layer with 2 heads" in text
    assert "the paper" not in text.partition("## ")[0]
    assert tall not in text


def test_a_wrapped_picture_is_not_described_as_stretched(tmp_path):
    publication = publish(tmp_path, "vit-base")
    stretched, middle = "stretched to the same contrast", "takes only the middle of the picture"
    text = render_card(CARDS, REPO, publication)
    assert stretched in text
    assert middle in text
    change(publication.checkpoint / "config.json", image_scaling="wrap", resize_size=None)
    text = render_card(CARDS, REPO, publication)
    assert stretched not in text
    assert middle not in text


def test_unresampled_sound_is_explained(tmp_path):
    publication = publish(tmp_path, "wav2vec2")
    sentence = "wav2vec2 expects 16,000 Hz, and takes clips of 44,100 Hz as if they had that rate."
    assert sentence not in render_card(CARDS, REPO, publication)
    change(publication.checkpoint / "preprocessor_config.json", sampling_rate=44100)
    assert sentence in render_card(CARDS, REPO, publication)


def test_a_step_within_an_epoch_is_named(tmp_path):
    publication = publish(tmp_path)
    selection = {"on": "validation", "metric": "uar", "epoch": 2 / 49}
    change(publication.checkpoint / "results.json", selection=selection)
    assert "\nEpoch 0.0408 was selected by" in render_card(CARDS, REPO, publication)
    lines = [{"epoch": 1 / 49, "step": 1}, {"epoch": 2 / 49, "step": 2}]
    (publication.checkpoint / "history.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "\nStep 2 was selected by" in render_card(CARDS, REPO, publication)


def test_code_of_others_is_not_loaded_with_ours(tmp_path):
    publication = publish(tmp_path, "someone/hubert-tiny", "vivae")
    change(publication.checkpoint / "config.json", auto_map={"AutoConfig": "mine.Config"})
    text = render_card(CARDS, REPO, publication)
    assert text.count("```python") == 1
    assert "load_classifier" not in text
    assert "trust_remote_code=True" in text
    assert "those of hf_vivae, Apache" not in text


def test_a_cut_is_exact_and_described_in_short(tmp_path):
    publication = publish(tmp_path, "someone/hubert-tiny", "vivae")
    change(publication.checkpoint / "preprocessor_config.json", num_samples=27787)
    text = render_card(CARDS, REPO, publication)
    assert "its first 1.74 s, to which the lines below cut it." in text
    (cut,) = [line for line in text.splitlines() if line.startswith("samples = samples[")]
    kept = {"samples": np.zeros((40000, 1)), "sampling_rate": 16000}
    exec(cut, kept)
    assert len(kept["samples"]) == 27787


@pytest.mark.parametrize(
    ("extractor", "words"),
    [
        (
            {"n_samples": 96000, "return_attention_mask": False},
            "its first 6 s; a shorter clip is padded with silence.",
        ),  # Whisper's window
        ({"n_samples": 480000, "cut_to_clips": True}, "its first 30 s.\n"),
        (
            {"max_length": 1024, "return_attention_mask": False},
            "its first 10.2 s; a shorter clip is padded with silence.",
        ),  # AST's
        ({"num_samples": 4000, "return_attention_mask": True, "auto_map": {}}, "its first 0.25 s.\n"),
    ],
)
def test_the_length_of_the_input_is_stated(extractor, words, tmp_path):
    publication = publish(tmp_path, "someone/hubert-tiny", "vivae")
    change(publication.checkpoint / "preprocessor_config.json", **extractor)
    assert f"16,000 Hz: {words}" in render_card(CARDS, REPO, publication)


def test_an_installed_package_has_no_commit(publication):
    environment = {**publication.record["environment"], "git_commit": None}
    text = render_card(CARDS, REPO, replace(publication, record={**publication.record, "environment": environment}))
    assert "hf_vivae 0.1.0 as a package, whose commit is not known, Python" in text


@pytest.mark.parametrize(
    ("seconds", "words"), [(1.0, "1 s"), (99.4, "99.4 s"), (600, "10 min"), (9000.0, "2.5 h"), (8e6, "2,222.2 h")]
)
def test_a_duration_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"), [(1, "1 epoch"), (1.0, "1 epoch"), (0.5, "0.5 epochs"), (2_000_000, "2000000 epochs")]
)
def test_one_is_singular(number, words):
    assert counted(number, "epoch") == words


def test_the_label_map_is_stated(tmp_path):
    publication = publish(tmp_path, corpus="folder")
    label_map = {"name": "to-vivae", "targets": {"Sob": "fear", "Glee_": "pleasure", "Awe": None}}
    assert "by the map" not in render_card(CARDS, REPO, publication)
    corpus = {**publication.record["corpus"], "label_map": label_map}
    text = render_card(CARDS, REPO, replace(publication, record={**publication.record, "corpus": corpus}))
    lines = r"- **Labels**: by the map to-vivae: Sob -\> fear, Glee\_ -\> pleasure; left out: Awe."
    assert f"\n{lines}\n- **Licence**" in text
    assert "name: other clips (labels by to-vivae)\n" in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"background_labels": ["pain"]}, "the probability of its background class (pain); how well"),
        (
            {"open_set": {"score": "distance", "threshold": 1.3, "scale": 0.1, "rate": 0.05, "clips": 40}},
            "by a threshold of the distance from the training clips that about 5 % of validation clips are above; how",
        ),
        (
            {"open_set": {"score": "max_logit", "threshold": 1.0, "rate": 0.05, "clips": 40}},
            "by a threshold of the largest logit that about 5 % of validation clips are below; how well",
        ),
    ],
)
def test_a_checkpoint_that_rejects_is_not_described_as_labelling_any_sound(fields, words, tmp_path):
    publication = publish(tmp_path, corpus="folder")
    config = publication.checkpoint / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | fields))
    text = render_card(CARDS, REPO, publication)
    assert words in text
    assert "and no others" not in text

"""Cards of EmoGator's clips and of models that were trained on them: licence, citation, and no terms of VIVAE."""

from pathlib import Path

import pytest
from dataset_repos import CARDS, write
from emogator_copies import FEW, names_of, write_folder
from fake_publications import publish
from huggingface_hub import DatasetCard, ModelCard
from loopback_hub.card_rules import check_card

from hf_vivae.corpus import emogator, read_emogator
from hf_vivae.hub.model_card import render_card

CITATION = ("author = {Buhl, Fred W. and others}", "eprint = {2301.00508}")
OF_VIVAE = ("CC BY-NC", "cc-by-nc", "non-commercial terms", "holz2020", "Holz", "zenodo", "portrayed")


@pytest.mark.parametrize(
    ("model", "license", "sentence"),
    [
        (
            "vit-32-30",
            "apache-2.0",
            "- **Licence**: apache-2.0. EmoGator is licensed Apache-2.0, which permits commercial use. Name "
            "EmoGator's authors. The Python files here are those of hf_vivae, Apache-2.0.",
        ),
        (
            "wav2vec2",
            "apache-2.0",
            "Name EmoGator's authors. The licence of the weights that training started from also applies.",
        ),
        (
            "probe:someone/hubert-tiny",
            "unknown",
            "- **Licence**: unknown: EmoGator is licensed Apache-2.0, and the terms of the weights that training "
            "started from are not known. Name EmoGator's authors.",
        ),
    ],
)
def test_the_card_of_a_model_states_the_licence_and_whom_to_cite(model, license, sentence, tmp_path):
    text = render_card(CARDS, "someone/bursts", publish(tmp_path, model, "emogator"))
    body = ModelCard(text).text.strip()
    assert body.startswith("**EmoGator, not VIVAE.** ")
    assert "on EmoGator\n" in body
    assert ModelCard(text).data.license == license
    assert sentence in body
    assert "72 vocal bursts without words, by speakers who recorded themselves" in body
    assert all(line in body for line in CITATION)
    assert not [word for word in OF_VIVAE if word in text]
    assert check_card(text, "model") == ([], [])


def test_the_card_of_a_model_of_a_part_says_that_clips_were_missing(tmp_path):
    publication = publish(tmp_path, corpus="emogator", problems=["missing: 000002-03-1.mp3"])
    assert "72 of its vocal bursts (others were missing or left out), without words" in render_card(
        CARDS, "someone/bursts", publication
    )


def test_the_card_of_a_dataset_states_the_licence_and_whom_to_cite(tmp_path, monkeypatch):
    monkeypatch.setattr(emogator, "SPEAKERS", FEW)
    corpus = read_emogator(write_folder(tmp_path / "clips", names_of()))
    card = DatasetCard.load(write(corpus, tmp_path / "repo") / "README.md")
    assert card.text.lstrip().startswith(
        "# EmoGator, repackaged as Parquet\n\n72 of the 32,130 non-verbal vocalisations "
    )
    assert (card.data.license, card.data.language) == ("apache-2.0", ["zxx"])
    assert "emogator" in card.data.tags
    assert "## Licence and citation" in card.text
    assert "permits commercial use" in card.text
    assert all(line in card.text for line in CITATION)
    assert not [word for word in OF_VIVAE if word in card.text]
    assert check_card(Path(tmp_path / "repo" / "README.md").read_text(), "dataset") == ([], [])

"""Metadata of model cards: scores, rules of the Hub, and the name VIVAE for models of VIVAE only."""

import numpy as np
import pytest
import yaml
from dataset_repos import CARDS
from fake_publications import publish
from fake_runs import SELECTED_ON_TEST
from huggingface_hub import ModelCard
from loopback_hub.card_rules import check_card
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score

from hf_vivae.hub.metadata import base_model, base_on_hub, check_metadata, is_hub_id, make_metadata
from hf_vivae.hub.model_card import render_card
from hf_vivae.hub.publication import Publication
from hf_vivae.models import MODELS
from hf_vivae.run_folder import read_predictions

GOOD = """---
license: mit
pipeline_tag: audio-classification
tags: [audio]
model-index:
- name: some
  results:
  - task: {type: audio-classification}
    dataset: {name: Some, type: some}
    metrics:
    - {type: accuracy, value: 0.5}
---
# Some
"""


def card(publication, license="cc-by-nc-4.0"):
    return f"---\n{make_metadata(publication, license).to_yaml()}\n---\n# Title\n"


def test_scores_are_those_of_the_test_clips_of_all_folds(tmp_path):
    publication = publish(tmp_path, corpus="vivae", count=96, checkpoint=False)
    rows = [row for folder in sorted(tmp_path.iterdir()) for row in read_predictions(folder) if row["split"] == "test"]
    truth, logits = (np.array([row[name] for row in rows]) for name in ("label", "logits"))
    predicted, probabilities = logits.argmax(axis=1), softmax(logits, axis=1)
    expected = {
        "UAR": recall_score(truth, predicted, average="macro"),
        "accuracy": accuracy_score(truth, predicted),
        "macro F1": f1_score(truth, predicted, average="macro"),
        "macro AUC": roc_auc_score(truth, probabilities, multi_class="ovr", average="macro"),
    }
    data = ModelCard(card(publication)).data
    scores = {result.metric_name: result.metric_value for result in data.eval_results}
    assert scores == pytest.approx(expected, abs=5e-5)
    assert len(rows) == 96
    assert data.metrics == [result.metric_type for result in data.eval_results]


def test_a_result_has_protocol_split_and_intervals(tmp_path):
    publication = publish(tmp_path, corpus="vivae", count=96, checkpoint=False)
    results = {result.metric_name: result for result in ModelCard(card(publication)).data.eval_results}
    uar, estimate = results["UAR"], publication.scores.estimates["uar"]
    assert uar.dataset_split == "test"
    assert uar.dataset_args == {
        "task": "emotion", "protocol": "speaker-k-fold", "folds": "3 of 3", "seeds": 1, "clips": 96,
    }  # fmt: skip
    assert uar.metric_args["protocol"] == "speaker-k-fold"
    for name, bounds in (("over_speakers", estimate.speakers), ("over_clips", estimate.clips)):
        low, high = bounds
        assert uar.metric_args[name] == {"level": 0.95, "low": pytest.approx(low, abs=5e-5), "high": round(high, 4)}
    assert "marked" not in uar.metric_args


def test_caveats_mark_every_result(tmp_path):
    publication = publish(tmp_path, settings={"select_on": "test"}, checkpoint=False)
    results = ModelCard(card(publication, "apache-2.0")).data.eval_results
    assert [result.metric_args["marked"] for result in results] == [[SELECTED_ON_TEST]] * 4


def test_a_score_that_is_undefined_is_left_out(tmp_path):
    rows = [
        {"file": f"{number}.wav", "label": 2, "speaker": None, "intensity": None, "duration": 1.0}
        for number in range(9)
    ]
    publication = publish(tmp_path, rows=rows, checkpoint=False)
    results = ModelCard(card(publication, "unknown")).data.eval_results
    assert [result.metric_name for result in results] == ["UAR", "accuracy", "macro F1"]
    assert all("over_speakers" not in result.metric_args for result in results)


@pytest.mark.parametrize("corpus", ["synthetic", "noise", "emogator", "folder"])
@pytest.mark.parametrize("model", ["vit-32-30", "someone/hubert-VIVAE", "probe:someone/hubert-vivae"])
def test_only_models_of_vivae_bear_its_name(tmp_path, corpus, model):
    text = card(publish(tmp_path, model, corpus, checkpoint=False), "unknown")
    found = yaml.safe_load(text.split("---")[1])
    for key in ("model-index", "tags", "datasets"):
        assert "vivae" not in yaml.dump(found.get(key)).lower()


def test_models_of_vivae_bear_its_name(tmp_path):
    data = ModelCard(card(publish(tmp_path, corpus="vivae", checkpoint=False))).data
    assert data.datasets == ["vivae"]
    assert {"vivae", "hf_vivae"} <= set(data.tags)
    assert {(result.dataset_type, result.dataset_name) for result in data.eval_results} == {("vivae", "VIVAE")}


def test_a_part_of_vivae_is_not_called_vivae(tmp_path):
    publication = publish(tmp_path, corpus="vivae", problems=["missing: S01_anger_low_01.wav"], checkpoint=False)
    data = ModelCard(card(publication)).data
    assert {result.dataset_name for result in data.eval_results} == {"VIVAE, 72 clips of it"}


@pytest.mark.parametrize(
    ("name", "datasets", "kind"), [("someone/clips", ["someone/clips"], "someone/clips"), ("my clips", None, "folder")]
)
def test_a_model_of_a_dataset_names_it_and_has_a_licence_of_its_terms(tmp_path, name, datasets, kind):
    publication = publish(tmp_path, corpus=name)
    publication.record["corpus"]["license"] = "cc-by-nc-sa-4.0"
    with pytest.raises(ValueError, match=f"expected a non-commercial licence for a model that was trained on {name}"):
        render_card(CARDS, "someone/vit", publication, "mit")
    text = render_card(CARDS, "someone/vit", publication)
    data = ModelCard(text).data
    assert (data.license, data.datasets) == ("cc-by-nc-sa-4.0", datasets)
    assert {(result.dataset_type, result.dataset_name) for result in data.eval_results} == {(kind, name)}
    assert f"was trained and tested on 72 clips of {name}." in text
    assert "speaker 1" in text, "their names may be those of people"
    assert check_card(text, "model") == ([], [])


def test_a_part_of_emogator_is_not_called_emogator(tmp_path):
    publication = publish(tmp_path, corpus="emogator", problems=["missing: 000002-03-1.mp3"], checkpoint=False)
    data = ModelCard(card(publication, "apache-2.0")).data
    assert {result.dataset_name for result in data.eval_results} == {"EmoGator, 72 clips of it"}
    assert "emogator" in data.tags


@pytest.mark.parametrize("corpus", ["vivae", "vivae-core", "emogator", "synthetic", "noise", "folder"])
def test_the_hub_accepts_it(tmp_path, corpus):
    publication = publish(tmp_path, corpus=corpus, settings={"select_on": "test"}, checkpoint=False)
    assert check_card(card(publication), "model") == ([], [])


def test_without_scores_there_are_no_results(tmp_path):
    done = publish(tmp_path, corpus="vivae", checkpoint=False)
    data = ModelCard(card(Publication(done.checkpoint, done.record, done.labels))).data
    assert data.eval_results is None
    assert data.metrics is None


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"model": "mlp"}, None),
        ({"model": "wav2vec2"}, MODELS["wav2vec2"].pretrained),
        ({"model": "wav2vec2", "from_scratch": True}, None),
        ({"model": "wav2vec2", "model_name_or_path": "some/one"}, "some/one"),
        ({"model": "some/hubert"}, "some/hubert"),
        ({"model": "probe:some/hubert"}, "some/hubert"),
    ],
)
def test_what_a_run_starts_from(run, expected):
    assert base_model({"from_scratch": False, "model_name_or_path": None, **run}) == expected


def test_weights_of_a_folder_are_linked_from_nowhere_even_if_it_is_gone():
    record = {"run": {"from_scratch": False, "model": "models/hubert", "model_name_or_path": None}}
    assert base_on_hub({**record, "from_folder": False}) == "models/hubert"
    assert base_on_hub({**record, "from_folder": True}) is None


def test_a_folder_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "hubert").mkdir(parents=True)
    assert is_hub_id("facebook/hubert")
    for text in (None, "models/hubert", "/models/hubert", "a/b/c", "hubert", "~/hubert", "some/--"):
        assert not is_hub_id(text)


def test_good_metadata_is_accepted_by_us_and_by_the_hub():
    check_metadata(GOOD)
    assert check_card(GOOD, "model") == ([], [])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "license: mit",
            "license: mitt",
            r"identifier of the Hub's list of licences, found 'mitt' \(did you mean mit\?\); choose",
        ),
        ("license: mit\n", "", "expected one license above the card, found None; give one, such as unknown"),
        ("license: mit", "license: other", "expected license_name with the license other, found none; give"),
        ("audio-classification\ntags", "singing\ntags", "expected the pipeline_tag audio-classification, found 'sing"),
        ("tags: [audio]", "tags: [1]", r"expected texts as tags, found \[1\]; correct them"),
        ("tags: [audio]", "datasets: [{a: b}]", r"expected texts as datasets, found \[\{'a': 'b'\}\]; correct"),
        ("tags: [audio]", "base_model: ../hubert", "expected a Hub id as base_model, found '../hubert'; leave it out"),
        ("value: 0.5", "value: .nan", "expected a number as the value of accuracy in model-index, found nan; leave"),
        ("value: 0.5", "value: null", "expected a number as the value of accuracy in model-index, found None; leave"),
        ("value: 0.5", "value: high", "expected a number as the value of accuracy in model-index, found 'high'"),
        (", value: 0.5", "", "expected YAML as in the Hub's modelcard.md above the card, found other"),
        ("name: Some, ", "", "expected YAML as in the Hub's modelcard.md above the card, found other"),
        ("name: Some, ", "name: '', ", "expected a text as dataset_name of each result in model-index, found none"),
        (
            "tags: [audio]",
            "tags: [audio",
            "expected YAML as in the Hub's modelcard.md above the card, found other",
        ),
        ("results:", "outcomes:", "expected YAML as in the Hub's modelcard.md above the card, found other"),
        (GOOD, "# Some\n", "expected YAML between two lines of --- above the card, found none; add license"),
    ],
)
def test_what_the_hub_would_refuse_or_list_wrongly(old, new, sentence):
    assert old in GOOD
    with pytest.raises(ValueError, match=sentence) as caught:
        check_metadata(GOOD.replace(old, new, 1))
    assert "\n" not in str(caught.value)

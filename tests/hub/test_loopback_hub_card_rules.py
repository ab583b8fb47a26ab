"""Errors and warnings of the loopback Hub about the metadata of a card."""

import pytest
from loopback_hub.card_rules import check_card

CARD = """---
license: other
license_name: vivae
tags: [audio]
datasets: [tester/clips]
pipeline_tag: audio-classification
model-index:
- name: vit
  results:
  - task: {type: audio-classification}
    dataset: {type: tester/clips, name: Clips, split: test}
    metrics: [{type: recall, value: 0.5, name: UAR}]
---
# A model
"""


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ("license: other", "license: asdf", '"license" must be one of [apache-2.0, mit'),
        ("license_name: vivae\n", "", '"license_name" is required'),
        ("tags: [audio]", "tags: audio", '"tags" must be an array'),
        ("tester/clips]", "a b]", '"datasets[0]" with value "a b" is not valid.'),
        ("license_name", "base_model: two words\nlicense_name", '"base_model" with value "two words" is not valid.'),
        ("license_name", "language: english\nlicense_name", '"language" with value "english" is not valid.'),
        ("- name: vit\n  results", "- results", '"model-index[0].name" is required'),
        ("  results:", "  scores:", '"model-index[0].results" is required'),
        ("type: recall, ", "", '"model-index[0].results[0].metrics[0].type" is required'),
        ("value: 0.5, ", "", '"model-index[0].results[0].metrics[0].value" is required'),
        ("name: Clips, ", "", '"model-index[0].results[0].dataset.name" is required'),
        ("split: test", "config: {fold: 1}", '"model-index[0].results[0].dataset.config" must be a string'),
        ("metrics: [{type", "metrics: {a: {type", "Invalid YAML in README.md: "),
        ("model-index:\n- name", "model-index:\n  name", '"model-index" must be an array'),
        ("name: UAR", "v1.0: UAR", 'You can\'t have a key with a "." or "$" character in your YAML metadata'),
    ],
)
def test_a_card_is_checked(before, after, error):
    assert before in CARD
    errors, _ = check_card(CARD.replace(before, after, 1), "model")
    assert [text[: len(error)] for text in errors] == [error]


def test_a_card_may_have_warnings_only():
    assert check_card(CARD, "model") == ([], [])
    assert check_card("# No metadata\n", "model") == ([], ["empty or missing yaml metadata in repo card"])
    errors, (warning,) = check_card(CARD.replace("audio-classification", "audio-guessing", 1), "model")
    assert errors == []
    assert warning.startswith('The pipeline tag "audio-guessing" is not in the official list: ')


def test_a_dataset_card_is_checked():
    good = "---\nlicense: cc-by-nc-4.0\nsize_categories: [1K<n<10K]\ntask_categories: [audio-classification]\n---\n"
    assert check_card(good, "dataset") == ([], [])
    bad = good.replace("[1K<n<10K]", "[1085]")
    assert check_card(bad, "dataset")[0][0].startswith('"size_categories[0]" must be one of [n<1K, ')

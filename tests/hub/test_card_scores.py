"""Model cards: scores, their caveats, and the table of a study."""

import re
from pathlib import Path

import numpy as np
import pytest
from fake_publications import publish
from fake_runs import SELECTED_ON_TEST, clips
from huggingface_hub import ModelCard

from hf_vivae.hub.model_card import card_pictures, render_card
from hf_vivae.hub.publication import Publication

CARDS, REPO = Path(__file__).parents[2] / "model_cards", "someone/bursts"


def paragraph(text: str, first: str) -> str:
    return next(" ".join(part.split()) for part in text.split("\n\n") if part.startswith(first))


@pytest.fixture(scope="module")
def publication(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("run"), corpus="vivae", count=216)


@pytest.fixture(scope="module")
def card(publication):
    return render_card(CARDS, REPO, publication)


def test_the_published_weights_are_described(card):
    text = paragraph(card, "**Published weights**")
    assert "one of the 3 models that the scores are pooled over" in text
    assert ": fold 1-of-3 and seed 1, trained on 72 clips by S03, S06 and tested on 72 clips by S01, S04." in text
    assert text.endswith("Epoch 2 was selected by the UAR of the validation clips (72 clips by S02, S05).")


def test_speakers_on_both_sides_are_counted_and_not_named(tmp_path):
    speakers = ["S01", "S02", "S03", "S04", "S05", "S05"]  # the last two of six are one, in training and test
    rows = [{**row, "speaker": speakers[index % 6]} for index, row in enumerate(clips(72))]
    text = render_card(CARDS, REPO, publish(tmp_path, rows=rows, settings={"protocol": "random-80-20"}))
    assert "trained on 24 clips by 2 speakers and tested on 24 clips by 2 speakers." in paragraph(text, "**Published")
    assert "**Speakers**: 1 of 5 test speakers are also in training. The scores are no estimate for unseen" in text
    assert "over whole speakers, which shows how much speakers differ and is no estimate for unseen ones," in text


def test_unknown_speakers_are_not_counted(tmp_path):
    rows = [{**row, "speaker": None} for row in clips(72)]
    text = render_card(
        CARDS, REPO, publish(tmp_path, corpus="folder", rows=rows, settings={"protocol": "random-80-20"})
    )
    assert "**Speakers**: not known, so the same people may be in both training and test." in text
    assert "How well further clips of the same collection are labelled." in text
    assert "The intervals are 95 % bootstrap intervals: over single clips." in text
    assert "known speakers" not in text


def test_caveats_mark_the_scores(tmp_path):
    publication = publish(tmp_path, settings={"select_on": "test"})
    text = render_card(CARDS, REPO, publication)
    assert f"\\* Marked, since {SELECTED_ON_TEST}." in text
    assert re.findall(r"^\| ([\w ]+ \*) \|", text, re.M) == ["UAR *", "accuracy *", "macro F1 *", "macro AUC *"]
    assert "Epoch 2 was selected by the UAR of the test clips *." in text
    assert "Here the model was also trained on the validation clips, and selected on the test clips *." in text
    titles = [figure.get_suptitle() or figure.axes[0].get_title() for figure in card_pictures(publication).values()]
    assert len(titles) == 2
    assert all("vit-32-30 * on synthetic clips" in title for title in titles)


def test_the_models_of_a_study_are_one_table(publication, tmp_path):
    better = publish(tmp_path / "a", "mlp", "vivae", skill=9.0, settings={"select_on": "test"}, checkpoint=False)
    study = {
        "someone/other": publish(tmp_path / "b", "mlp", "synthetic", skill=9.0, checkpoint=False),
        "someone/better": better,
        "someone/unfinished": Publication(better.checkpoint, better.record, better.labels),
        REPO: publication,
    }
    text = render_card(CARDS, REPO, publication, study=study)
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| [")]
    uar = ModelCard(text).data.eval_results[0].metric_value
    assert [row[0] for row in rows] == [
        "[mlp](https://huggingface.co/someone/other)",
        "[mlp](https://huggingface.co/someone/better)",
        f"[vit-32-30](https://huggingface.co/{REPO}) (this model)",
        "[mlp](https://huggingface.co/someone/unfinished)",
    ]
    assert [row[1] for row in rows] == ["synthetic clips", "VIVAE", "VIVAE", "VIVAE"]
    assert {row[2] for row in rows} == {"emotion"}
    assert [row[4] for row in rows][1:] == ["100.0% *", f"{uar:.1%}", "-"]
    assert f"\\* Marked, since {SELECTED_ON_TEST}." in text
    assert "Models of the same study" not in render_card(CARDS, REPO, publication, study={REPO: publication})


@pytest.mark.parametrize(
    ("task", "sentence", "tag"),
    [
        ("intensity", "A label is the intended intensity of any emotion.", False),
        ("emotion_intensity", "A label is an emotion with its intended intensity.", True),
        ("valence", "Achievement, pleasure and surprise are positive; anger, fear and pain are negative.", True),
    ],
)
def test_another_task_than_emotion_is_named(task, sentence, tag, tmp_path):
    publication = publish(tmp_path, "mlp", "vivae", settings={"task": task})
    text = render_card(CARDS, REPO, publication)
    assert f"# mlp on VIVAE: {task}\n" in text
    assert sentence in text
    data = ModelCard(text).data
    assert {result.dataset_config for result in data.eval_results} == {task}
    assert ("emotion-recognition" in data.tags) is tag
    assert f"mlp on VIVAE: {task}" in card_pictures(publication)["confusion.png"].axes[0].get_title()


def test_tasks_are_not_mixed_in_the_table_of_a_study(publication, tmp_path):
    intensity = publish(tmp_path, "mlp", "vivae", settings={"task": "intensity"}, skill=9.0, checkpoint=False)
    text = render_card(CARDS, REPO, publication, study={"someone/intensity": intensity})
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| [")]
    assert [row[2] for row in rows] == ["emotion", "intensity"], "the better UAR of another task is not first"
    assert "Only models of the same clips, task and protocol can be compared." in text


@pytest.mark.parametrize("each", [10, 9])
def test_many_speakers_are_summarised_if_they_have_enough_clips(each, tmp_path):
    count = 40 * each
    rows = [{**row, "speaker": f"P{number % 40:02d}", "intensity": None} for number, row in enumerate(clips(count))]
    publication = publish(tmp_path, corpus="folder", rows=rows)
    text = render_card(CARDS, REPO, publication, "cc0-1.0")
    assert "| speaker |" not in text
    assert card_pictures(publication).keys() == {"confusion.png"}
    assert ("Half of the 40 speakers" in text) is (each == 10)
    if each == 10:
        accuracies = [group.accuracy for group in publication.scores.groups["speaker"]]
        low, middle, high = (f"{share:.1%}" for share in np.percentile(accuracies, (25, 50, 75)))
        sentence = f"Half of the 40 speakers have an accuracy between {low} and {high} (median {middle})."
        assert paragraph(text, "Half of the") == sentence

"""Published figures are compared with ours only where protocol and score are the same; all others have a reason."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fake_study import row, rows

from hf_vivae.evaluation.published import (
    BASELINES,
    OVER_FOLDS,
    POOLED,
    PUBLISHED,
    OurScore,
    published_tables,
    read_published,
)
from hf_vivae.reproduction.report2022 import RUNS
from hf_vivae.splits.protocols import PROTOCOLS

MANIFEST = Path(__file__).parents[2] / "hf_vivae" / "corpus" / "manifest.csv"
ALL = read_published()
OURS = OurScore(
    system="mlp paper",
    corpus="vivae",
    whole_vivae=True,
    task="emotion",
    protocol="random-80-20",
    metric="accuracy",
    averaging=POOLED,
    value=0.25,
    low=0.2,
    high=0.3,
    selection="uar on validation",
    seeds=3,
    clips=217,
)
BY_SPEAKER = replace(OURS, protocol="leave-one-speaker-out", averaging=OVER_FOLDS, clips=1085)


def write(path: Path, **changed) -> Path:
    """A file with one good and one changed entry; a key that is changed to `...` is left out."""
    good = yaml.safe_load(PUBLISHED.read_text())[0]
    bad = {key: value for key, value in (good | changed).items() if value is not ...}
    path.write_text(yaml.safe_dump([good, bad]))
    return path


def reasons(ours: list[OurScore]) -> set[str]:
    """Those of the list for the paper's and ARCH's figures, which have none of their own."""
    table = published_tables(ours, [score for score in ALL if score.not_comparable is None])[-2]
    assert table.name == "published-not-comparable"
    return {line["not comparable, because"] for line in rows(table)}


def test_the_reports_figures_are_those_of_its_own_table():
    first = {
        score.system: score.value
        for score in reversed(ALL)
        if score.source == "Pak 2022" and "of all epochs" not in score.selection and score.sd is None
    }
    assert first == pytest.approx({model: run.test_accuracy for model, run in RUNS.items()}, abs=1e-4)


@pytest.mark.parametrize(
    ("source", "figures"),
    [("Pak 2022", 18), ("ARCH 2024", 15), ("MATA 2025", 2), ("voc2vec 2025", 12), ("LINKS 2025", 0), ("RENO 2025", 0)],
)
def test_every_figure_that_was_found_is_there(source, figures):
    assert sum(score.value is not None for score in ALL if score.source == source) == figures


@pytest.mark.parametrize(
    ("source", "system", "metric", "value"),
    [
        ("ARCH 2024", "hubert-xlarge-ll60k", "accuracy", 0.4272),
        ("ARCH 2024", "ALM/wav2vec2-base-audioset (older revision of the page)", "accuracy", 0.3490),
        ("MATA 2025", "LanguageBind and ImageBind", "f1", 0.7463),
        ("voc2vec 2025", "wav2vec2-ls", "macro_f1", 0.569),
    ],
)
def test_single_figures(source, system, metric, value):
    (found,) = [s for s in ALL if (s.source, s.system, s.metric) == (source, system, metric)]
    assert found.value == value


def test_only_accuracies_with_a_protocol_of_ours_can_be_compared():
    comparable = [score for score in ALL if score.not_comparable is None]
    assert {(score.source, score.protocol, score.score, score.clips) for score in comparable} == {
        ("Pak 2022", "random-80-20", "accuracy, pooled over clips", 217),
        ("ARCH 2024", "leave-one-speaker-out", "accuracy, mean over folds", 1085),
    }
    assert {score.protocol for score in ALL} - {None} <= PROTOCOLS.keys()


def test_human_listeners_stay_a_gap():
    (listeners,) = [score for score in ALL if score.system == "human listeners"]
    assert listeners.value is None


def test_baselines_are_those_of_the_corpus():
    emotions = [line["emotion"] for line in csv.DictReader(MANIFEST.read_text().splitlines())]
    shares = {emotion: emotions.count(emotion) / len(emotions) for emotion in set(emotions)}
    most = max(shares, key=shares.get)
    assert f"always predicting {most}, the most frequent label, is right for {shares[most]:.1%} of" in BASELINES
    assert f"Chance is an accuracy and a UAR of {1 / len(shares):.1%};" in BASELINES


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"split": "random"}, "expected the keys averaging, .*, value, found also split; correct the entry."),
        ({"seeds": ...}, "expected the keys averaging, .*, value, found no seeds; correct the entry."),
        (
            {"metric": "wer"},
            "expected as metric null or one of accuracy, uar, macro_f1, macro_auc, f1, found 'wer'; correct it.",
        ),
        (
            {"averaging": "pooled"},
            "expected as averaging null or one of pooled over clips, mean over folds, mean over six data sets, found "
            "'pooled'; correct it.",
        ),
        ({"value": 47.47}, "expected a value from 0 to 1, found 47.47; write percent as a share."),
        ({"value": None}, "expected a value, or a reason in not_comparable, found neither; add one."),
    ],
)
def test_a_faulty_entry_is_refused(tmp_path, changed, sentence):
    with pytest.raises(ValueError, match=f"^published.yaml, entry 2: {sentence}$"):
        read_published(write(tmp_path / "published.yaml", **changed))


def test_ours_are_in_one_table_with_the_same_protocol_and_score():
    pooled = replace(BY_SPEAKER, averaging=POOLED)
    table, apart, _ = published_tables([OURS, BY_SPEAKER, pooled, replace(OURS, metric="uar")], ALL)
    kinds = [(line["protocol"], line["score"], line["source"]) for line in rows(table)]
    assert list(dict.fromkeys(kinds)) == [
        ("random-80-20", "accuracy, pooled over clips", "ours (VIVAE)"),
        ("random-80-20", "accuracy, pooled over clips", "Pak 2022"),
        ("leave-one-speaker-out", "accuracy, mean over folds", "ours (VIVAE)"),
        ("leave-one-speaker-out", "accuracy, mean over folds", "ARCH 2024"),
    ]
    assert len(kinds) == 1 + 18 + 1 + 15
    assert rows(table)[0] == {
        "protocol": "random-80-20",
        "score": "accuracy, pooled over clips",
        "system": "mlp paper",
        "source": "ours (VIVAE)",
        "value": 0.25,
        "95 % from": 0.2,
        "95 % to": 0.3,
        "sd": None,
        "selection": "uar on validation",
        "seeds": 3,
        "clips": 217,
    }
    theirs = row(table, system="mlp", selection="none: mean and sd of the last 50 epochs")
    assert (theirs["value"], theirs["sd"], theirs["seeds"], theirs["95 % from"]) == (0.206, 0.013, 1, None)
    assert "Pak 2022" not in {line["source"] for line in rows(apart)}


def test_a_figure_selected_on_test_is_marked():
    assert row(published_tables([OURS], ALL)[0], value=0.4747)["selection"] == "best saved epoch on test clips"


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ([replace(OURS, corpus="synthetic", whole_vivae=False)], {"ours are of synthetic clips"}),
        ([replace(OURS, corpus="noise", whole_vivae=False)], {"ours are of pure noise"}),
        ([replace(OURS, corpus="folder", whole_vivae=False)], {"ours are of another corpus"}),
        ([replace(OURS, corpus="vivae-core", whole_vivae=False)], {"ours are of VIVAE's core set"}),
        ([replace(OURS, whole_vivae=False)], {"ours are of a part of VIVAE"}),
        ([replace(OURS, task="valence")], {"ours are of the task valence, not emotion"}),
        (
            [replace(OURS, whole_vivae=False), replace(OURS, task="valence")],
            {"ours are of a part of VIVAE; ours are of the task valence, not emotion"},
        ),
        (
            [replace(OURS, protocol="speaker-k-fold"), replace(OURS, protocol="core-to-full")],
            {"its protocol is not that of ours, speaker-k-fold or core-to-full"},
        ),
        ([OURS], {"its protocol is not that of ours, random-80-20"}),
        (
            [replace(BY_SPEAKER, averaging=POOLED), OURS],
            {"its score is not that of ours, accuracy, pooled over clips"},
        ),
        ([OURS, BY_SPEAKER], set()),
    ],
)
def test_figures_that_are_not_comparable_have_a_reason(ours, expected):
    assert reasons(ours) == expected


def test_ours_of_other_clips_stay_out_of_the_table():
    table, *_ = published_tables([OURS, replace(OURS, system="synthetic one", corpus="synthetic")], ALL)
    assert not rows(table, system="synthetic one")


def test_without_a_counterpart_there_is_no_table_of_ours():
    tables = published_tables([replace(OURS, corpus="synthetic")], ALL)
    assert [table.name for table in tables] == ["published-not-comparable", "published-sources"]


def test_every_figure_is_in_one_of_the_tables():
    beside, apart, _ = published_tables([OURS], ALL)
    listed = [figure for line in rows(apart) for figure in line["figures"].split("; ")]
    assert len(listed) + len(rows(beside)) - 1 == len(ALL)
    assert "voc2vec-ls-pt: 66.10% (sd 20.6%)" in listed
    assert "human listeners: none" in listed
    mata = row(apart, source="MATA 2025", score="accuracy")
    assert (mata["figures"], mata["protocol"]) == ("LanguageBind and ImageBind: 75.12%", None)


def test_each_source_is_cited_once():
    sources = rows(published_tables([OURS], ALL)[-1])
    assert [line["source"] for line in sources] == list(dict.fromkeys(score.source for score in ALL))
    assert re.search(r"arXiv 2409\.14221", row(published_tables([OURS], ALL)[-1], source="MATA 2025")["reference"])

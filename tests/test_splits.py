"""Protocols: proofs over random corpora, and the exact numbers on VIVAE's file list."""

import csv
import re
import warnings
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest
from datasets import Audio, Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_vivae import splits
from hf_vivae.splits import PARTS, PROTOCOLS, Fold, Protocol, make_folds

SPEAKER_PROTOCOLS = [name for name, protocol in PROTOCOLS.items() if protocol.speaker_disjoint]


@pytest.fixture(autouse=True)
def _warnings_are_failures():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def corpus_of(speakers: list[str | None], names: list[str] | None = None) -> Dataset:
    names = names or [f"clip_{row:04}.wav" for row in range(len(speakers))]
    return Dataset.from_dict({"file": names, "speaker": speakers})


def parts(fold: Fold) -> list[set[int]]:
    return [set(getattr(fold, part)) for part in PARTS]


def named(folds: list[Fold], dataset: Dataset) -> list[tuple]:
    names = dataset["file"][:]
    return [(fold.name, *({names[row] for row in part} for part in parts(fold))) for fold in folds]


@st.composite
def corpora(draw: st.DrawFn) -> tuple[Dataset, list[int]]:
    """Three to 14 speakers, 12 to 80 clips, one to 6 labels, in any proportions."""
    number = draw(st.integers(3, 14))
    extra = draw(st.lists(st.integers(0, number - 1), min_size=12, max_size=66))
    speakers = [f"S{index:02}" for index in [*range(number), *extra]]
    highest = draw(st.integers(0, 5))
    labels = draw(st.lists(st.integers(0, highest), min_size=len(speakers), max_size=len(speakers)))
    names = [f"{index:03}.wav" for index in draw(st.permutations(range(len(speakers))))]
    return corpus_of(speakers, names), labels


@pytest.fixture(scope="module")
def vivae() -> tuple[Dataset, list[int]]:
    with (files("hf_vivae") / "corpus" / "manifest.csv").open() as manifest:
        rows = list(csv.DictReader(manifest))
    emotions = sorted({row["emotion"] for row in rows})
    dataset = corpus_of([row["speaker"] for row in rows], [row["file_name"] for row in rows])
    return dataset, [emotions.index(row["emotion"]) for row in rows]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=60, deadline=None)
@given(corpus=corpora(), seed=st.integers(0, 2**32 - 1))
def test_parts_are_disjoint_and_hold_every_clip(protocol, corpus, seed):
    dataset, labels = corpus
    for fold in make_folds(dataset, protocol, labels, seed):
        assert all(parts(fold))
        assert all(not one & other for one, other in combinations(parts(fold), 2))
        assert set.union(*parts(fold)) == set(range(len(dataset)))


@pytest.mark.parametrize("protocol", SPEAKER_PROTOCOLS)
@settings(max_examples=60, deadline=None)
@given(corpus=corpora(), seed=st.integers(0, 2**32 - 1))
def test_no_speaker_on_both_sides_and_every_clip_tested_once(protocol, corpus, seed):
    dataset, labels = corpus
    folds = make_folds(dataset, protocol, labels, seed)
    speakers = dataset["speaker"][:]
    for fold in folds:
        sides = [{speakers[row] for row in part} for part in parts(fold)]
        assert all(not one & other for one, other in combinations(sides, 2))
    assert sorted(row for fold in folds for row in fold.test) == list(range(len(dataset)))
    assert len({fold.name for fold in folds}) == len(folds)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=30, deadline=None)
@given(corpus=corpora(), seed=st.integers(0, 2**32 - 1), shuffle=st.randoms(use_true_random=False))
def test_folds_depend_on_seed_and_names_and_not_on_row_order(protocol, corpus, seed, shuffle):
    dataset, labels = corpus
    order = list(range(len(dataset)))
    shuffle.shuffle(order)
    moved = dataset.select(order)
    folds = make_folds(dataset, protocol, labels, seed)
    elsewhere = make_folds(moved, protocol, [labels[row] for row in order], seed)
    assert named(folds, dataset) == named(elsewhere, moved)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_process_global_random_state_is_neither_read_nor_moved(protocol, vivae):
    np.random.seed(1)
    state = np.random.get_state()[1:3]
    folds = make_folds(vivae[0], protocol, vivae[1])
    np.testing.assert_equal(np.random.get_state()[1:3], state)
    np.random.seed(2)
    assert make_folds(vivae[0], protocol, vivae[1]) == folds


@pytest.mark.parametrize("protocol", ["random-80-20", "speaker-k-fold"])
def test_another_seed_gives_other_folds(protocol, vivae):
    dataset, labels = vivae
    assert make_folds(dataset, protocol, labels, 0) != make_folds(dataset, protocol, labels, 1)


def test_the_reports_split_has_868_and_217_clips_and_86_of_the_868_validate(vivae):
    (fold,) = make_folds(vivae[0], "random-80-20", vivae[1])
    assert fold.name == "random-80-20"
    assert (len(fold.train) + len(fold.validation), len(fold.validation), len(fold.test)) == (868, 86, 217)


def test_each_of_vivaes_11_speakers_is_tested_and_the_next_one_validates(vivae):
    dataset, labels = vivae
    folds = make_folds(dataset, "leave-one-speaker-out", labels)
    names = [f"S{number:02}" for number in range(1, 12)]
    speakers = np.array(dataset["speaker"][:])
    assert [fold.name for fold in folds] == names
    for fold, following in zip(folds, [*names[1:], names[0]], strict=True):
        assert set(speakers[list(fold.test)]) == {fold.name}
        assert set(speakers[list(fold.validation)]) == {following}


def test_speaker_k_fold_on_vivae_balances_labels_and_varies_who_validates(vivae):
    dataset, labels = vivae
    folds = make_folds(dataset, "speaker-k-fold", labels)
    assert [fold.name for fold in folds] == ["1-of-5", "2-of-5", "3-of-5", "4-of-5", "5-of-5"]
    speakers = np.array(dataset["speaker"][:])
    for fold in folds:
        share = np.bincount(np.array(labels)[list(fold.test)]) / len(fold.test)
        np.testing.assert_allclose(share, np.bincount(labels) / len(labels), atol=0.05)
        assert 0.06 < len(fold.validation) / (len(fold.train) + len(fold.validation)) < 0.25
    validators = [frozenset(speakers[list(fold.validation)]) for fold in folds]
    assert len(set(validators)) >= 4


def test_many_speakers_and_sixteen_labels():
    generator = np.random.default_rng(0)
    speakers = [f"{index:03}" for index in [*range(410), *generator.integers(0, 410, 317)]]
    labels = generator.integers(0, 16, 727)
    for fold in make_folds(corpus_of(speakers), "speaker-k-fold", labels):
        assert 140 <= len(fold.test) <= 151
        assert set(labels[list(fold.validation)]) == set(range(16))
        assert set(labels[list(fold.test)]) == set(range(16))


def test_with_fewer_than_five_speakers_each_is_a_group():
    speakers = list("aaaabbbbccccdddd")
    folds = make_folds(corpus_of(speakers), "speaker-k-fold", [0, 1] * 8)
    assert [fold.name for fold in folds] == ["1-of-4", "2-of-4", "3-of-4", "4-of-4"]
    assert {frozenset(speakers[row] for row in fold.test) for fold in folds} == {frozenset(name) for name in "abcd"}


@pytest.mark.parametrize("rare", [[6], [6, 7], [6, 6, 6]])
def test_a_label_rarer_than_the_folds_is_legitimate(rare):
    labels = [*rare, *([0, 1, 2, 3] * 20)]
    folds = make_folds(corpus_of([f"S{row % 20:02}" for row in range(len(labels))]), "speaker-k-fold", labels)
    assert sum(len(fold.test) for fold in folds) == len(labels)


def test_rare_labels_are_spread_over_the_folds_together():
    labels = [6, 6, 6, 7, 7, 7, 8, *([0, 1, 2, 3] * 20)]
    folds = make_folds(corpus_of([f"S{row % 20:02}" for row in range(len(labels))]), "speaker-k-fold", labels)
    assert sorted(sum(row < 7 for row in fold.test) for fold in folds) == [1, 1, 1, 2, 2]


def test_a_corpus_in_which_every_label_is_rare_still_splits():
    folds = make_folds(corpus_of([f"S{row:02}" for row in range(12)]), "speaker-k-fold", list(range(12)))
    assert sorted(len(fold.test) for fold in folds) == [2, 2, 2, 3, 3]


def test_a_speaker_with_most_of_the_clips_does_not_validate():
    speakers = ["loud"] * 60 + [f"S{row % 3}" for row in range(30)]
    for fold in make_folds(corpus_of(speakers), "speaker-k-fold", [0, 1, 2] * 30):
        assert "loud" not in {speakers[row] for row in fold.validation}


def test_audio_is_never_decoded():
    columns = {"file": [f"{row}.wav" for row in range(20)], "speaker": list("abcd") * 5}
    dataset = Dataset.from_dict({**columns, "audio": [{"bytes": b"no sound", "path": None}] * 20})
    for protocol in PROTOCOLS:
        assert make_folds(dataset.cast_column("audio", Audio(44_100)), protocol, [0, 1] * 10)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_says_what_its_score_means(protocol):
    header = PROTOCOLS[protocol]
    assert all(len(text) > 20 for text in (header.idea, header.source, header.measures, header.cannot))


def refuses(sentence: str):
    return pytest.raises(ValueError, match=f"^{re.escape(sentence)}$")


CURE = (
    "take it from the file names with `--speaker_pattern`, add a speaker column to the metadata file, "
    "or use `--protocol random-80-20`"
)


def test_a_misspelt_protocol_names_the_nearest():
    with refuses(
        "expected a protocol of random-80-20, leave-one-speaker-out, speaker-k-fold, found 'leave-one-out': "
        "did you mean 'leave-one-speaker-out'?"
    ):
        make_folds(corpus_of(["a"] * 20), "leave-one-out", [0] * 20)


@pytest.mark.parametrize("protocol", SPEAKER_PROTOCOLS)
def test_a_clip_without_speaker_is_named_with_the_cure(protocol):
    with refuses(f"{protocol} needs a speaker for every clip, but 2 of 6 have none (first: clip_0003.wav): {CURE}"):
        make_folds(corpus_of(["a", "b", "c", None, "", "a"]), protocol, [0] * 6)


@pytest.mark.parametrize("protocol", SPEAKER_PROTOCOLS)
def test_two_speakers_are_too_few(protocol):
    with refuses(
        f"{protocol} needs at least 3 speakers, one each to train, select and test, but found ['a', 'b']: {CURE}"
    ):
        make_folds(corpus_of(list("abab")), protocol, [0] * 4)


def test_random_80_20_needs_no_speaker_but_twelve_clips():
    (fold,) = make_folds(corpus_of([None] * 12), "random-80-20", [0] * 12)
    assert [len(part) for part in parts(fold)] == [9, 1, 2]
    with refuses("random-80-20 needs at least 12 clips, found 11: add clips"):
        make_folds(corpus_of([None] * 11), "random-80-20", [0] * 11)


def test_labels_of_another_dataset_are_refused():
    with refuses("expected one label for each of 20 rows, found 19: pass the labels of this dataset"):
        make_folds(corpus_of(["a"] * 20), "random-80-20", [0] * 19)


def test_two_clips_of_one_name_are_refused():
    with refuses(
        "expected a file name of its own for each clip, found 1 names more than once (first: a.wav): "
        "rename the clips or remove the copies"
    ):
        make_folds(corpus_of(["a", "b", "c"], ["b.wav", "a.wav", "a.wav"]), "random-80-20", [0] * 3)


def test_a_fold_sorts_its_rows_and_proves_its_parts():
    assert Fold("x", np.array([4, 0]), [2], (3, 1)) == Fold("x", (0, 4), (2,), (1, 3))
    with refuses(
        "fold 'x': expected one or more different rows in validation, found 0, of which 0 differ: "
        "give it rows, each once"
    ):
        Fold("x", (0,), (), (1,))
    with refuses(
        "fold 'x': expected one or more different rows in test, found 3, of which 2 differ: give it rows, each once"
    ):
        Fold("x", (0,), (1,), (2, 3, 2))
    with refuses("fold 'x': expected no row in both train and test, found 2 (first: 3): give each row to one part"):
        Fold("x", (0, 3, 4), (1,), (3, 4))


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (
            [Fold("1", (0,), (1,), (2, 3)), Fold("2", (0,), (1,), (3, 4, 5))],
            "leaky: expected each clip in at most one test part, found 1 in several (first: row 3): "
            "correct the protocol",
        ),
        (
            [Fold("1", (0, 1), (2, 3), (4,))],
            "leaky: expected 6 clips in the test parts, found 1: correct the protocol",
        ),
        (
            [Fold("1", (0,), (2, 3), (1, 4, 5)), Fold("2", (4, 5), (1,), (0, 2, 3))],
            "fold '1': expected no speaker in both train and test, found ['a']: correct the protocol",
        ),
    ],
    ids=["tested twice", "never tested", "speaker on both sides"],
)
def test_a_protocol_that_breaks_its_claims_is_caught(monkeypatch, broken, sentence):
    header = dict.fromkeys(("idea", "source", "measures", "cannot"), "")
    leaky = Protocol(lambda *_: broken, speaker_disjoint=True, tests_every_clip=True, **header)
    monkeypatch.setitem(splits.PROTOCOLS, "leaky", leaky)
    with refuses(sentence):
        make_folds(corpus_of(list("aabbcc")), "leaky", [0] * 6)

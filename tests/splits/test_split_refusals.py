"""Errors for corpora that cannot be split, and for folds with invalid parts."""

import re

import numpy as np
import pytest
from split_corpora import GROUPED, SPEAKER_PROTOCOLS, corpus_of, parts

from hf_vivae import splits
from hf_vivae.splits import make_folds
from hf_vivae.splits.folds import Fold, Protocol
from hf_vivae.splits.protocols import PROTOCOLS

pytestmark = pytest.mark.filterwarnings("error")


def refuses(sentence: str):
    return pytest.raises(ValueError, match=f"^{re.escape(sentence)}$")


REMEDY = (
    "take it from the file names with --speaker_pattern, add a speaker column to the metadata file, "
    "name that of a dataset with --speaker_column, or use --protocol random-80-20"
)


def test_a_misspelt_protocol_names_the_nearest():
    with refuses(
        "expected the protocol to be one of random-80-20, leave-one-speaker-out, speakers-05-06, speakers-07-11, "
        "random-10-fold, random-70-15-15, speaker-k-fold, group-k-fold, core-to-full, cross-intensity, given, "
        "found 'leave-one-out' (did you mean leave-one-speaker-out?)."
    ):
        make_folds(corpus_of(["a"] * 20), "leave-one-out", [0] * 20)


@pytest.mark.parametrize("protocol", SPEAKER_PROTOCOLS)
def test_a_clip_without_speaker_is_named_with_the_remedy(protocol):
    with refuses(
        f"{protocol}: expected a speaker for every clip, found none for 2 of 6 (first: clip_0003.wav); {REMEDY}."
    ):
        make_folds(corpus_of(["a", "b", "c", None, "", "a"]), protocol, [0] * 6)


@pytest.mark.parametrize("protocol", SPEAKER_PROTOCOLS)
def test_two_speakers_are_too_few(protocol):
    with refuses(
        f"{protocol}: expected at least 3 speakers, one each to train, select and test, found ['a', 'b']; {REMEDY}."
    ):
        make_folds(corpus_of(list("abab")), protocol, [0] * 4)


def test_random_80_20_needs_no_speaker_but_twelve_clips():
    (fold,) = make_folds(corpus_of([None] * 12), "random-80-20", [0] * 12)
    assert [len(part) for part in parts(fold)] == [9, 1, 2]
    with refuses("random-80-20: expected at least 12 clips, found 11; add clips."):
        make_folds(corpus_of([None] * 11), "random-80-20", [0] * 11)


def test_random_10_fold_needs_a_clip_for_each_slice():
    folds = make_folds(corpus_of([None] * 10), "random-10-fold", [0] * 10)
    assert {tuple(map(len, parts(fold))) for fold in folds} == {(8, 1, 1)}
    with refuses("random-10-fold: expected at least 10 clips, one per slice, found 9; add clips."):
        make_folds(corpus_of([None] * 9), "random-10-fold", [0] * 9)


def test_random_70_15_15_needs_seven_clips_of_each_label():
    labels = [0] * 7 + [1] * 7
    (fold,) = make_folds(corpus_of([None] * 14), "random-70-15-15", labels)
    assert [{labels[row] for row in part} for part in parts(fold)] == [{0, 1}] * 3
    with refuses(
        "random-70-15-15: expected at least 7 clips of each label, found 6 of one (first: clip_0007.wav); add clips, "
        "or use another --protocol."
    ):
        make_folds(corpus_of([None] * 13), "random-70-15-15", labels[:13])


@pytest.mark.parametrize("speakers", [["S05", "S06", "S07"], ["S05", "S07", "S08", "S09"]])
def test_speakers_05_06_needs_them_and_two_others(speakers):
    with refuses(
        "speakers-05-06: expected the speakers S05 and S06, and at least 2 others to train and select, found "
        f"{', '.join(speakers)}; use --protocol speaker-k-fold."
    ):
        make_folds(corpus_of(speakers * 4), "speakers-05-06", [0] * (4 * len(speakers)))


def test_speakers_07_11_needs_them_and_two_others():
    speakers = ["S06", "S07", "S08", "S09", "S10", "S11"]
    with refuses(
        "speakers-07-11: expected the speakers S07, S08, S09, S10 and S11, and at least 2 others to train and select, "
        f"found {', '.join(speakers)}; use --protocol speaker-k-fold."
    ):
        make_folds(corpus_of(speakers * 4), "speakers-07-11", [0] * 24)


def test_speakers_05_06_names_ten_speakers_at_most():
    with pytest.raises(ValueError, match="found A, B, C, D, E, F, G, H, I, J and more; use"):
        make_folds(corpus_of(list("ABCDEFGHIJK")), "speakers-05-06", [0] * 11)


GIVEN_REMEDY = "use --protocol speaker-k-fold, or random-80-20 without speakers"


def test_given_needs_the_split_of_each_clip():
    clips = corpus_of(["a"] * 4).remove_columns("split")
    with refuses(
        "given: expected a dataset with splits (--data hub), so one for every clip, found none for 4 of 4 (first: "
        f"clip_0000.wav); {GIVEN_REMEDY}."
    ):
        make_folds(clips, "given", [0] * 4)


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (["train", "train"], "called test or testing or eval or evaluation, found only train"),
        (["test", "extra"], "called train or training, found only extra, test"),
        (["train", "test", "eval"], "called test or testing or eval or evaluation, found eval and test"),
    ],
)
def test_given_needs_one_split_to_train_and_one_to_test(splits, sentence):
    with refuses(f"given: expected one split {sentence}; {GIVEN_REMEDY}."):
        make_folds(corpus_of(["a"] * len(splits), split=splits), "given", [0] * len(splits))


@pytest.mark.parametrize("groups", [1, 0, -5])
def test_one_group_cannot_be_tested(groups):
    with refuses(f"expected --num_groups of 2 or more, found {groups}; one group cannot both train and test."):
        make_folds(corpus_of(list("abcd") * 4), "speaker-k-fold", [0] * 16, num_groups=groups)


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name not in GROUPED])
def test_a_number_of_groups_is_refused_where_there_are_none(protocol):
    with refuses(
        "expected --num_groups only with a protocol of speaker-k-fold, group-k-fold, core-to-full, cross-intensity, "
        "found it with "
        f"{protocol}; leave it out."
    ):
        make_folds(corpus_of(["S05", "S06", "S07", "S08"] * 10), protocol, [0, 1] * 20, num_groups=3)


def test_two_groups_need_two_speakers_each():
    folds = make_folds(corpus_of(list("abcd") * 4), "speaker-k-fold", [0, 1] * 8, num_groups=2)
    assert [fold.name for fold in folds] == ["1-of-2", "2-of-2"]
    with pytest.raises(
        ValueError,
        match=r"^speaker-k-fold: expected at least 2 speakers besides each group, one each to train and select, found "
        r"1 besides group [12]; ask for more groups with --num_groups, or add speakers\.$",
    ):
        make_folds(corpus_of(list("abc") * 4), "speaker-k-fold", [0, 1] * 6, num_groups=2)


def test_the_core_set_must_be_known_and_must_not_be_everything():
    remedy = "read VIVAE with both of its sets, or use --protocol speaker-k-fold"
    expected = "core-to-full: expected true or false in the column core for every clip, found none for"
    known = corpus_of(list("abcd") * 4)
    for dataset in (known.remove_columns("core"), corpus_of(list("abcd") * 4, core=[None] * 16)):
        with refuses(f"{expected} 16 of 16 (first: clip_0000.wav); {remedy}."):
            make_folds(dataset, "core-to-full", [0] * 16)
    for inside in (0, 16):
        with refuses(
            f"core-to-full: expected clips inside and outside the core set, found {inside} of 16 inside; {remedy}."
        ):
            make_folds(corpus_of(list("abcd") * 4, core=[inside == 16] * 16), "core-to-full", [0] * 16)


def test_a_group_without_clips_outside_the_core_set_is_not_tested():
    core = [speaker == "a" or row > 7 for row, speaker in enumerate("abcd" * 4)]
    folds = make_folds(corpus_of(list("abcd") * 4, core=core), "core-to-full", [0, 1] * 8)
    assert len(folds) == 3
    assert sorted(row for fold in folds for row in fold.test) == [1, 2, 3, 5, 6, 7]
    assert {fold.name for fold in folds} < {f"{number}-of-4" for number in (1, 2, 3, 4)}


def test_core_clips_of_one_other_speaker_cannot_both_train_and_select():
    core = [speaker in "ab" for speaker in "abcd" * 4]
    with pytest.raises(
        ValueError,
        match=r"^core-to-full: expected at least 2 speakers with core clips besides each group, one each to train and "
        r"select, found 1 besides group \d; ask for more groups with --num_groups, or add speakers\.$",
    ):
        make_folds(
            corpus_of(list("abcd") * 4, core=[inside and row > 3 for row, inside in enumerate(core)]),
            "core-to-full",
            [0, 1] * 8,
        )


def test_every_clip_needs_an_intensity_and_there_must_be_two():
    other = "use --protocol speaker-k-fold"
    with refuses(
        "cross-intensity: expected an intensity for every clip, found none for 1 of 16 (first: clip_0003.wav); "
        f"add it to the metadata file, or {other}."
    ):
        make_folds(corpus_of(list("abcd") * 4, intensity=[0, 1, 2, None] + [3] * 12), "cross-intensity", [0] * 16)
    with refuses(f"cross-intensity: expected clips of at least 2 intensities, found only peak; {other}."):
        make_folds(corpus_of(list("abcd") * 4, intensity=[3] * 16), "cross-intensity", [0] * 16)


def test_labels_with_one_intensity_each_are_refused():
    intensity = [0, 1, 2, 3] * 4
    with refuses(
        "cross-intensity: expected labels that occur at several intensities, found each at one only, so that a model "
        "could not learn those that it is tested on; use --task emotion, or use --protocol speaker-k-fold."
    ):
        make_folds(corpus_of(list("aaaabbbbccccdddd"), intensity=intensity), "cross-intensity", intensity)


def test_a_group_without_an_intensity_has_no_fold_for_it():
    intensity = [2 if row == 0 else row // 4 % 2 for row in range(16)]
    folds = make_folds(corpus_of(list("abcd") * 4, intensity=intensity), "cross-intensity", [0, 1] * 8)
    assert [fold.name.partition("-")[0] for fold in folds] == ["low"] * 4 + ["moderate"] * 4 + ["strong"]
    assert folds[-1].test == (0,)


def test_validating_speakers_need_another_intensity():
    """Speaker a has one intensity only, and validates for one of the other three speakers."""
    intensity = [0 if speaker == "a" else row // 4 % 2 for row, speaker in enumerate("abcd" * 4)]
    with pytest.raises(
        ValueError,
        match=r"^cross-intensity: expected clips of another intensity than low to select, found none by the speakers "
        r"who do so in fold [1-4]-of-4; change --num_groups or --seed, or use --protocol speaker-k-fold\.$",
    ):
        make_folds(corpus_of(list("abcd") * 4, intensity=intensity), "cross-intensity", [0, 1] * 8)


def test_labels_of_another_dataset_are_refused():
    with refuses("expected one label for each of 20 rows, found 19; pass its labels."):
        make_folds(corpus_of(["a"] * 20), "random-80-20", [0] * 19)


def test_two_clips_of_one_name_are_refused():
    with refuses(
        "expected a file name of its own for each clip, found 1 names more than once (first: a.wav); "
        "rename the clips or remove the copies."
    ):
        make_folds(corpus_of(["a", "b", "c"], ["b.wav", "a.wav", "a.wav"]), "random-80-20", [0] * 3)


def test_a_fold_sorts_its_rows_and_checks_its_parts():
    assert Fold("x", np.array([4, 0]), [2], (3, 1)) == Fold("x", (0, 4), (2,), (1, 3))
    with refuses(
        "fold 'x': expected one or more different rows in validation, found 0, of which 0 differ; "
        "give it rows, each once."
    ):
        Fold("x", (0,), (), (1,))
    with refuses(
        "fold 'x': expected one or more different rows in test, found 3, of which 2 differ; give it rows, each once."
    ):
        Fold("x", (0,), (1,), (2, 3, 2))
    with refuses("fold 'x': expected no row in both train and test, found 2 (first: 3); give each row to one part."):
        Fold("x", (0, 3, 4), (1,), (3, 4))


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (
            [Fold("1", (0,), (1,), (2, 3)), Fold("2", (0,), (1,), (3, 4, 5))],
            "leaky: expected each clip in at most one test part, found 1 in several (first: row 3); "
            "correct the protocol.",
        ),
        (
            [Fold("1", (0, 1), (2, 3), (4,))],
            "leaky: expected 6 clips in the test parts, found 1; correct the protocol.",
        ),
        (
            [Fold("1", (0, 1), (2, 3), (4, 5)), Fold("2", (4,), (2, 3), (0, 1)), Fold("3", (0, 1), (4, 5), (2, 3))],
            "fold '2': expected all 6 clips in its parts, found 5; correct the protocol.",
        ),
        (
            [Fold("1", (0,), (2, 3), (1, 4, 5)), Fold("2", (4, 5), (1,), (0, 2, 3))],
            "fold '1': expected no speaker in both train and test, found ['a']; correct the protocol.",
        ),
    ],
    ids=["tested twice", "never tested", "in no part", "speaker on both sides"],
)
def test_a_protocol_that_breaks_its_claims_is_caught(monkeypatch, broken, sentence):
    header = dict.fromkeys(("idea", "source", "measures", "cannot"), "")
    claims = dict.fromkeys(("speaker_disjoint", "tests_every_clip", "uses_every_clip", "grouped"), True)
    leaky = Protocol(lambda *_: broken, **claims, **header)
    monkeypatch.setitem(splits.PROTOCOLS, "leaky", leaky)
    with refuses(sentence):
        make_folds(corpus_of(list("aabbcc")), "leaky", [0] * 6)

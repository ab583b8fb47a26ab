"""Segments of recordings: siblings of one recording, and recordings that share a speaker, stay in one part."""

import logging
import re
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_corpora import corpus_of, parts

from hf_vivae.splits import make_folds
from hf_vivae.validation import UserError

APART = ["leave-one-speaker-out", "speaker-k-fold", "group-k-fold"]


def segments_of(pairs: list[tuple[str, str | None]]):
    """Return segments of these recordings and speakers."""
    recordings, speakers = zip(*pairs, strict=True)
    return corpus_of(list(speakers)).add_column("recording", list(recordings))


@pytest.mark.parametrize("protocol", APART)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_neither_a_recording_nor_a_speaker_is_in_two_parts(protocol, data):
    """Of up to two speakers a recording, some unknown, in a chain of recordings for each of four to seven groups."""
    pairs = []
    for group in range(data.draw(st.integers(4, 7))):
        length = data.draw(st.integers(1, 3))
        for number in range(length):
            recording = f"{group}-{number}.wav"
            pairs += [(recording, f"S{group}{number}"), (recording, f"S{group}{number + 1}")]
            pairs += [(recording, None)] * data.draw(st.integers(0, 3))
    pairs += [(f"alone-{number}.wav", None) for number in range(3) for _ in range(2)]
    pairs = data.draw(st.permutations(pairs))
    dataset = segments_of(pairs)
    folds = make_folds(dataset, protocol, [row % 2 for row in range(len(pairs))], data.draw(st.integers(0, 9)))
    tested = [row for fold in folds for row in fold.test]
    assert sorted(tested) == list(range(len(pairs)))
    for fold in folds:
        for rows, others in combinations(parts(fold), 2):
            assert not {pairs[row][0] for row in rows} & {pairs[row][0] for row in others}
            assert not {pairs[row][1] for row in rows} & {pairs[row][1] for row in others} - {None}


def test_a_fold_of_a_recording_without_speakers_has_its_name():
    pairs = [(f"{name}.wav", None) for name in "abc" for _ in range(2)]
    folds = make_folds(segments_of(pairs), "leave-one-speaker-out", [0, 1] * 3)
    assert [fold.name for fold in folds] == ["a.wav", "b.wav", "c.wav"]


def test_speakers_of_one_recording_are_joined_with_a_warning(caplog):
    pairs = [("1.wav", "ann"), ("1.wav", "ben"), ("2.wav", "cas"), ("3.wav", "dee")]
    with caplog.at_level(logging.WARNING):
        folds = make_folds(segments_of(pairs), "leave-one-speaker-out", [0, 1, 0, 1])
    assert [fold.name for fold in folds] == ["ann", "cas", "dee"]
    assert caplog.messages == ["Speakers who share a recording count as one: ann = ben."]


def test_an_interviewer_in_every_recording_is_one_sentence():
    pairs = [(f"{number}.wav", speaker) for number in range(5) for speaker in ("interviewer", f"P{number}")]
    sentence = (
        "speaker-k-fold: expected at least 3 groups of recordings without a common speaker, one each to train, select "
        "and test, found 1 in 5 recordings; add recordings, or name one speaker for each recording with "
        "--speaker_pattern."
    )
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        make_folds(segments_of(pairs), "speaker-k-fold", [0, 1] * 5)


def test_copies_join_recordings_too():
    pairs = [(f"{name}.wav", None) for name in "abcd" for _ in range(2)]
    digests = [str(row) for row in range(6)] + ["0", "7"]  # the first segments of a and d are copies
    folds = make_folds(
        segments_of(pairs), "leave-one-speaker-out", [0, 1] * 4, digests=digests, duplicates="keep_together"
    )
    assert [fold.test for fold in folds] == [(0, 1, 6, 7), (2, 3), (4, 5)]


@pytest.mark.parametrize("protocol", ["random-80-20", "random-10-fold", "random-70-15-15"])
def test_a_random_protocol_may_not_divide_a_recording(protocol):
    labels = [row % 2 for row in range(40)]
    with pytest.raises(UserError, match=rf"^{protocol}: expected all segments of a recording in one part .*0\.wav in"):
        make_folds(segments_of([(f"{number % 3}.wav", None) for number in range(40)]), protocol, labels)
    make_folds(segments_of([(f"{number}.wav", None) for number in range(40)]), protocol, labels)

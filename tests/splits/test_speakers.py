"""Folds with fewer speakers: nested subsets of the speakers that train and validate."""

import re

import numpy as np
import pytest
from split_corpora import corpus_of

from hf_vivae.splits import make_folds
from hf_vivae.splits.folds import Fold
from hf_vivae.splits.speakers import check_speakers, count_speakers, draw_speakers
from hf_vivae.validation import UserError


def random_fold(rng: np.random.Generator) -> tuple[Fold, list[str]]:
    """A fold of 1 to 12 training and 1 to 6 validation speakers with 1 to 4 clips each, its rows in random order."""
    counts = [int(rng.integers(1, most)) for most in (13, 7, 3)]
    names = [f"{part}{number}" for part, count in enumerate(counts) for number in range(count)]
    speakers = rng.permutation([name for name in names for _ in range(rng.integers(1, 5))]).tolist()
    parts = [[row for row, name in enumerate(speakers) if name.startswith(str(part))] for part in range(3)]
    return Fold("1-of-1", *parts), speakers


def test_fewer_speakers_of_one_draw_are_a_subset_of_more_in_the_same_parts():
    rng = np.random.default_rng(0)
    for draw in range(100):
        fold, speakers = random_fold(rng)
        available, smaller = count_speakers(fold, speakers), None
        for number in range(2, available + 1):
            drawn = draw_speakers(fold, speakers, number, draw)
            assert count_speakers(drawn, speakers) == number
            assert drawn.test == fold.test
            for part in ("train", "validation"):
                names = {speakers[row] for row in getattr(drawn, part)}
                every = [row for row in getattr(fold, part) if speakers[row] in names]
                assert list(getattr(drawn, part)) == every, "all clips of each speaker"
                if smaller:
                    assert set(getattr(smaller, part)) <= set(getattr(drawn, part))
            smaller = drawn
        if available >= 2:
            assert smaller == fold


def test_an_eighth_of_the_speakers_validates_as_in_the_whole_fold():
    speakers = [f"S{number:03}" for number in range(200) for _ in range(2)]
    fold = make_folds(corpus_of(speakers), "speaker-k-fold", [0, 1] * 200, 1)[0]
    for number, validating in ((2, 1), (10, 1), (20, 2), (40, 5), (80, 10), (160, 20)):
        drawn = draw_speakers(fold, speakers, number, 0)
        assert len({speakers[row] for row in drawn.validation}) == validating


def test_another_draw_has_other_speakers_and_the_same_draw_the_same():
    speakers = [f"S{number:02}" for number in range(40)]
    fold = make_folds(corpus_of(speakers), "speaker-k-fold", [0, 1] * 20, 1)[0]
    draws = [draw_speakers(fold, speakers, 10, draw).train for draw in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]


@pytest.mark.parametrize("number", [-1, 0, 1, 5])
def test_a_number_of_speakers_that_a_fold_does_not_have_is_refused(number):
    fold, speakers = Fold("1-of-5", (0, 1, 2), (3,), (4,)), list("abcde")
    sentence = (
        "expected --train_speakers of 2 to 4, the speakers that train and validate in fold 1-of-5, found "
        f"{number}; give another number, or leave it out for all of them."
    )
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        draw_speakers(fold, speakers, number, 0)


def test_speakers_that_are_unknown_or_in_two_parts_are_named():
    fold = Fold("random-80-20", (0, 1), (2,), (3,))
    check_speakers([fold], list("aabc"))
    sentence = (
        "expected folds that keep speakers apart to train on some of the speakers, found a in train and test of fold "
        "random-80-20; add --protocol speaker-k-fold."
    )
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        check_speakers([fold], list("abca"))
    with pytest.raises(UserError, match=r"^expected a speaker for every clip .*, found none for 2 of 4; take it from"):
        check_speakers([fold], ["a", None, "", "b"])

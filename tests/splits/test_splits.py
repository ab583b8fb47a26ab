"""The claims of the protocols on random corpora."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from datasets import Audio, Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from split_corpora import SPEAKER_PROTOCOLS, corpus_of, named, parts

from hf_vivae.corpus import INTENSITIES
from hf_vivae.splits import make_folds
from hf_vivae.splits.protocols import PROTOCOLS

pytestmark = pytest.mark.filterwarnings("error")

# minimum numbers of protocols that need more than three speakers, or than one clip of a label
FEWEST_SPEAKERS = {"speakers-05-06": 4, "speakers-07-11": 7}
FEWEST_OF_A_LABEL = {"random-70-15-15": 7}


@st.composite
def corpora(draw: st.DrawFn, protocol: str) -> tuple[Dataset, list[int], int]:
    """Three to 14 speakers, one to 6 labels, one to 4 intensities, in any proportions; and a number of groups.

    Each speaker has two intensities, and clips inside and outside the core set; one label has two intensities.
    """
    number = draw(st.integers(FEWEST_SPEAKERS.get(protocol, 3), 14))
    names = [f"S{(index + 4) % 14 + 1:02}" for index in range(number)]  # S05 to S11 first
    extra = draw(st.lists(st.integers(0, number - 1), min_size=6, max_size=50))
    speakers = [*names, *names, *(names[index] for index in extra)]
    count = len(speakers)
    intensities = [0] * number + [1] * number + draw(st.lists(st.integers(0, 3), min_size=len(extra), max_size=50))
    core = [True] * number + [False] * number + draw(st.lists(st.booleans(), min_size=len(extra), max_size=50))
    fewest = FEWEST_OF_A_LABEL.get(protocol, 1)
    highest = draw(st.integers(0, min(5, count // fewest - 1)))
    free = count - fewest * (highest + 1)
    labels = list(range(highest + 1)) * fewest + draw(st.lists(st.integers(0, highest), min_size=free, max_size=free))
    labels = [labels[index] for index in draw(st.permutations(range(count)))]
    if protocol == "cross-intensity":
        labels[number] = labels[0]  # two intensities of the first speaker
    files = [f"{index:03}.wav" for index in draw(st.permutations(range(count)))]
    groups = draw(st.integers(3, 8)) if PROTOCOLS[protocol].grouped else 5
    dataset = corpus_of(speakers, files, intensity=intensities[:count], core=core[:count])
    return dataset, labels, groups


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_parts_are_disjoint_and_contain_every_clip_as_claimed(protocol, data, seed):
    dataset, labels, groups = data.draw(corpora(protocol))
    everything = set(range(len(dataset)))
    folds = make_folds(dataset, protocol, labels, seed, groups)
    for fold in folds:
        assert all(parts(fold))
        assert all(not one & other for one, other in combinations(parts(fold), 2))
        assert set.union(*parts(fold)) <= everything
        assert set.union(*parts(fold)) == everything or not PROTOCOLS[protocol].uses_every_clip
    tested = Counter(row for fold in folds for row in fold.test)
    assert set(tested.values()) == {1}
    assert set(tested) == everything or not PROTOCOLS[protocol].tests_every_clip
    assert len({fold.name for fold in folds}) == len(folds)


@pytest.mark.parametrize("protocol", SPEAKER_PROTOCOLS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_no_speaker_is_in_two_parts(protocol, data, seed):
    dataset, labels, groups = data.draw(corpora(protocol))
    speakers = dataset["speaker"][:]
    for fold in make_folds(dataset, protocol, labels, seed, groups):
        sides = [{speakers[row] for row in part} for part in parts(fold)]
        assert all(not one & other for one, other in combinations(sides, 2))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), shuffle=st.randoms(use_true_random=False))
def test_folds_depend_on_seed_and_names_and_not_on_row_order(protocol, data, seed, shuffle):
    dataset, labels, groups = data.draw(corpora(protocol))
    order = list(range(len(dataset)))
    shuffle.shuffle(order)
    moved = dataset.select(order)
    folds = make_folds(dataset, protocol, labels, seed, groups)
    elsewhere = make_folds(moved, protocol, [labels[row] for row in order], seed, groups)
    assert named(folds, dataset) == named(elsewhere, moved)


@settings(max_examples=25, deadline=None)
@given(corpus=corpora("cross-intensity"), seed=st.integers(0, 2**32 - 1))
def test_cross_intensity_tests_an_unseen_intensity_in_the_folds_of_speaker_k_fold(corpus, seed):
    dataset, labels, groups = corpus
    intensity = [INTENSITIES[index] for index in dataset["intensity"]]
    whole = {fold.name: fold for fold in make_folds(dataset, "speaker-k-fold", labels, seed, groups)}
    for fold in make_folds(dataset, "cross-intensity", labels, seed, groups):
        name, _, group = fold.name.partition("-")
        assert set(fold.test) == {row for row in whole[group].test if intensity[row] == name}
        for part in ("train", "validation"):
            kept = {row for row in getattr(whole[group], part) if intensity[row] != name}
            assert set(getattr(fold, part)) == kept


@settings(max_examples=25, deadline=None)
@given(corpus=corpora("core-to-full"), seed=st.integers(0, 2**32 - 1))
def test_core_clips_train_and_all_others_are_tested_in_the_groups_of_speaker_k_fold(corpus, seed):
    dataset, labels, groups = corpus
    core = dataset["core"][:]
    whole = {fold.name: fold for fold in make_folds(dataset, "speaker-k-fold", labels, seed, groups)}
    folds = make_folds(dataset, "core-to-full", labels, seed, groups)
    for fold in folds:
        assert set(fold.test) == {row for row in whole[fold.name].test if not core[row]}
        rest = {row for row in whole[fold.name].train + whole[fold.name].validation if core[row]}
        assert set(fold.train + fold.validation) == rest
    assert sorted(row for fold in folds for row in fold.test) == [row for row, inside in enumerate(core) if not inside]


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
def test_a_label_with_fewer_clips_than_folds_is_accepted(rare):
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
    dataset = corpus_of([f"S{number:02}" for number in range(4, 12)] * 5, intensity=[0] * 20 + [1] * 20)
    dataset = dataset.add_column("audio", [{"bytes": b"no sound", "path": None}] * 40)
    for protocol in PROTOCOLS:
        assert make_folds(dataset.cast_column("audio", Audio(44_100)), protocol, [0, 1] * 20)

"""Every protocol on VIVAE's file list: exact numbers, published splits by other implementations, docs/protocols.md."""

import random
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
from datasets import ClassLabel, Dataset
from sklearn.model_selection import train_test_split
from split_corpora import corpus_of, parts

from hf_vivae.corpus import EMOTIONS, INTENSITIES
from hf_vivae.corpus.generated import stand_in_core
from hf_vivae.corpus.manifest import read_manifest
from hf_vivae.splits import make_folds
from hf_vivae.splits.folds import PARTS, Fold
from hf_vivae.splits.protocols import PROTOCOLS

ROWS = read_manifest()
FILES = [row["file_name"] for row in ROWS]
SPEAKERS = np.array([row["speaker"] for row in ROWS])
LABELS = np.array([EMOTIONS.index(row["emotion"]) for row in ROWS])
ON_VIVAE = [name for name in PROTOCOLS if name != "given"]  # VIVAE has no splits of its own
DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()


@pytest.fixture(scope="module")
def vivae() -> Dataset:
    columns = {"file": FILES, "speaker": SPEAKERS.tolist(), "intensity": [row["intensity"] for row in ROWS]}
    dataset = Dataset.from_dict(columns | {"core": stand_in_core(FILES)})
    return dataset.cast_column("intensity", ClassLabel(names=list(INTENSITIES)))


def sizes(folds: list[Fold]) -> list[tuple[int, ...]]:
    return [tuple(len(getattr(fold, part)) for part in PARTS) for fold in folds]


def take(file: str) -> str:
    """Return speaker, emotion, intensity and the first two digits of the item."""
    return re.fullmatch(r"(.*_\d{1,2})\d?\.wav", file)[1]


def siblings_across(fold: Fold) -> list[str]:
    """Return the test clips with a sibling take in the training or validation part."""
    seen = {take(FILES[row]) for row in fold.train + fold.validation}
    return [FILES[row] for row in fold.test if take(FILES[row]) in seen]


@pytest.mark.parametrize("protocol", ON_VIVAE)
def test_the_process_global_random_states_are_neither_read_nor_moved(protocol, vivae):
    np.random.seed(1)
    random.seed(1)
    state = np.random.get_state()[1:3], random.getstate()
    folds = make_folds(vivae, protocol, LABELS)
    np.testing.assert_equal((np.random.get_state()[1:3], random.getstate()), state)
    np.random.seed(2)
    random.seed(2)
    assert make_folds(vivae, protocol, LABELS) == folds


@pytest.mark.parametrize("protocol", ["random-80-20", "speaker-k-fold", "cross-intensity", "core-to-full"])
def test_another_seed_gives_other_folds(protocol, vivae):
    assert len({tuple(make_folds(vivae, protocol, LABELS, seed)) for seed in (0, 1, 2)}) > 1


@pytest.mark.parametrize("protocol", ["leave-one-speaker-out", "random-10-fold", "random-70-15-15"])
def test_the_seed_of_a_run_does_not_change_published_splits(protocol, vivae):
    assert len({tuple(make_folds(vivae, protocol, LABELS, seed)) for seed in range(5)}) == 1


@pytest.mark.parametrize("protocol", [name for name in ON_VIVAE if name != "random-80-20"])
def test_runs_with_other_seeds_test_the_same_clips_in_the_same_folds(protocol, vivae):
    tested = {tuple(fold.test for fold in make_folds(vivae, protocol, LABELS, seed)) for seed in range(5)}
    assert len(tested) == 1


def test_the_papers_split_has_868_and_217_clips_and_86_of_the_868_validate(vivae):
    folds = make_folds(vivae, "random-80-20", LABELS)
    assert [fold.name for fold in folds] == ["random-80-20"]
    assert sizes(folds) == [(868 - 86, 86, 217)]


def test_each_of_vivaes_11_speakers_is_tested_and_the_next_one_validates(vivae):
    folds = make_folds(vivae, "leave-one-speaker-out", LABELS)
    names = [f"S{number:02}" for number in range(1, 12)]
    assert [fold.name for fold in folds] == names
    assert [len(fold.test) for fold in folds] == [93, 101, 101, 108, 111, 111, 103, 108, 108, 87, 54]
    for fold, following in zip(folds, [*names[1:], names[0]], strict=True):
        assert set(SPEAKERS[list(fold.test)]) == {fold.name}
        assert set(SPEAKERS[list(fold.validation)]) == {following}


def test_nkululekos_two_speakers_have_222_clips(vivae):
    (fold,) = make_folds(vivae, "speakers-05-06", LABELS)
    assert fold.name == "speakers-05-06"
    assert [FILES[row] for row in fold.test] == [file for file in FILES if file.startswith(("S05_", "S06_"))]
    assert len(fold.test) == 222
    assert 863 / 8 * 0.8 < len(fold.validation) < 863 / 8 * 1.2


def test_compares_five_speakers_have_460_clips_with_the_labels_of_its_confusion_matrices(vivae):
    (fold,) = make_folds(vivae, "speakers-07-11", LABELS)
    assert fold.name == "speakers-07-11"
    assert set(SPEAKERS[list(fold.test)]) == {"S07", "S08", "S09", "S10", "S11"}
    assert np.bincount(LABELS[list(fold.test)]).tolist() == [72, 73, 73, 71, 93, 78]
    assert len(fold.test) == 460
    assert len(fold.train + fold.validation) == 625
    assert 625 / 8 * 0.8 < len(fold.validation) < 625 / 4


def test_voc2vecs_ten_slices(vivae):
    """Drawn as in its script: the global state seeded with 42, one shuffle, ten slices, the last of them larger."""
    random.seed(42)
    indices = list(range(1085))
    random.shuffle(indices)
    slices = [indices[108 * number : 108 * (number + 1) if number < 9 else None] for number in range(10)]
    folds = make_folds(vivae, "random-10-fold", LABELS)
    assert [fold.name for fold in folds] == [f"{number}-of-10" for number in range(1, 11)]
    assert [len(fold.test) for fold in folds] == [108] * 9 + [113]
    for number, fold in enumerate(folds):
        assert fold.test == tuple(sorted(slices[number]))
        assert fold.validation == tuple(sorted(slices[(number + 1) % 10]))
        assert len(fold.train) == 1085 - len(fold.test) - len(fold.validation)


def test_links_three_parts(vivae):
    """Drawn as in its script: a shuffled frame, split twice with labels as texts."""
    frame = pandas.DataFrame({"file": FILES, "label": [row["emotion"] for row in ROWS]})
    frame = frame.sample(frac=1, random_state=42).reset_index(drop=True)
    train, rest = train_test_split(frame, test_size=0.15 + 0.15, stratify=frame["label"], random_state=42)
    validation, test = train_test_split(rest, test_size=0.15 / 0.30, stratify=rest["label"], random_state=42)
    (fold,) = make_folds(vivae, "random-70-15-15", LABELS)
    assert sizes([fold]) == [(759, 163, 163)]
    for part, oracle in zip(PARTS, (train, validation, test), strict=True):
        assert [FILES[row] for row in getattr(fold, part)] == sorted(oracle["file"])


def test_speaker_k_fold_balances_labels_and_varies_the_validating_speakers(vivae):
    folds = make_folds(vivae, "speaker-k-fold", LABELS)
    assert [fold.name for fold in folds] == ["1-of-5", "2-of-5", "3-of-5", "4-of-5", "5-of-5"]
    for fold in folds:
        share = np.bincount(LABELS[list(fold.test)]) / len(fold.test)
        np.testing.assert_allclose(share, np.bincount(LABELS) / len(LABELS), atol=0.05)
        assert 0.06 < len(fold.validation) / (len(fold.train) + len(fold.validation)) < 0.25
    validators = [frozenset(SPEAKERS[list(fold.validation)]) for fold in folds]
    assert len(set(validators)) >= 4


@pytest.mark.parametrize("groups", [2, 3, 11])
def test_the_number_of_groups_is_that_of_the_flag(groups, vivae):
    assert len(make_folds(vivae, "speaker-k-fold", LABELS, num_groups=groups)) == groups
    assert len(make_folds(vivae, "core-to-full", LABELS, num_groups=groups)) == groups
    assert len(make_folds(vivae, "cross-intensity", LABELS, num_groups=groups)) == 4 * groups


def test_core_to_full_tests_the_605_other_clips_and_the_speaker_without_core_clips(vivae):
    folds = make_folds(vivae, "core-to-full", LABELS)
    core = np.array(stand_in_core(FILES))
    assert sum(len(fold.test) for fold in folds) == 605
    assert sum((SPEAKERS[list(fold.test)] == "S11").sum() for fold in folds) == 54
    for fold in folds:
        assert core[list(fold.train + fold.validation)].all()
        assert len(fold.train + fold.validation) == 480 - core[np.isin(SPEAKERS, SPEAKERS[list(fold.test)])].sum()


def test_cross_intensity_has_a_fold_for_each_intensity_and_group(vivae):
    folds = make_folds(vivae, "cross-intensity", LABELS)
    groups = [f"{number}-of-5" for number in range(1, 6)]
    assert [fold.name for fold in folds] == [f"{name}-{group}" for name in INTENSITIES for group in groups]
    tested = [sum(len(fold.test) for fold in folds if fold.name.startswith(name)) for name in INTENSITIES]
    assert tested == [262, 269, 282, 272]


class TestGiven:
    def test_the_parts_are_the_splits_of_the_dataset_under_any_of_their_names(self, caplog):
        splits = ["Train", "dev", "eval", "unsupervised"] * 5
        (fold,) = make_folds(corpus_of([None] * 20, split=splits), "given", [0] * 20)
        assert [{splits[row] for row in part} for part in parts(fold)] == [{"Train"}, {"dev"}, {"eval"}]
        assert fold.name == "given"
        assert [record.message for record in caplog.records] == [
            "given: 5 clips of the splits unsupervised are in no part."
        ]

    def test_whole_speakers_of_the_training_clips_validate_where_no_split_does(self, caplog):
        speakers = [f"S{row % 10}" for row in range(80)]
        splits = ["test" if speaker > "S7" else "train" for speaker in speakers]
        (fold,) = make_folds(corpus_of(speakers, split=splits), "given", [0, 1] * 40)
        train, validation, test = ({speakers[row] for row in part} for part in parts(fold))
        assert train | validation == {f"S{number}" for number in range(8)}
        assert len(validation) == 1
        assert test == {"S8", "S9"}
        assert [record.message for record in caplog.records] == [
            "given: there is no split to validate; about an eighth of the 64 training clips does, by whole speakers."
        ]

    @pytest.mark.parametrize("speaker", [None, "S01"])
    def test_random_training_clips_validate_without_two_speakers(self, speaker, caplog):
        clips = corpus_of([speaker] * 64 + [None] * 10, split=["train"] * 64 + ["test"] * 10)
        folds = [make_folds(clips, "given", [0, 1] * 37, seed)[0] for seed in (0, 0, 1)]
        assert folds[0] == folds[1] != folds[2]
        assert [len(part) for part in parts(folds[0])] == [56, 8, 10]
        assert caplog.records[0].message.endswith("of the 64 training clips does, taken at random.")

    def test_speakers_in_training_and_test_are_counted(self, caplog):
        make_folds(corpus_of(list("abaabb"), split=["train", "validation", "test"] * 2), "given", [0] * 6)
        assert [record.message for record in caplog.records] == [
            "given: 1 of the 2 test speakers are in the training part too."
        ]


def test_22_clips_of_vivae_have_a_sibling():
    takes = [take(file) for file in FILES]
    related = [name for name in takes if takes.count(name) > 1]
    assert (len(related), len(set(related))) == (22, 10)
    assert take("S02_pain_strong_021.wav") == take("S02_pain_strong_022.wav") == "S02_pain_strong_02"
    assert take("S04_anger_strong_7.wav") == "S04_anger_strong_7"


@pytest.mark.parametrize("protocol", [name for name, header in PROTOCOLS.items() if header.speaker_disjoint])
def test_sibling_takes_stay_in_one_part(protocol, vivae):
    folds = [fold for seed in range(3) for fold in make_folds(vivae, protocol, LABELS, seed)]
    assert not [file for fold in folds for file in siblings_across(fold)]


def test_random_protocols_separate_sibling_takes(vivae):
    """Shows that the test above can fail; of the 22 clips, voc2vec's slices keep one pair together."""
    torn = [file for fold in make_folds(vivae, "random-10-fold", LABELS) for file in siblings_across(fold)]
    assert len(torn) == 20


def test_the_program_of_the_document_prints_its_table(capsys):
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    exec(program, {})
    printed = capsys.readouterr().out.splitlines()
    numbers = DOCUMENT.split("## Effect on a score")[0]
    written = [line for line in numbers.splitlines() if re.match(r"\| `[a-z0-9-]+` \| \d", line)]
    assert [line.split("`")[1] for line in printed] == ON_VIVAE
    assert written == printed


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_document_has_the_texts_of_the_protocol(protocol):
    header = PROTOCOLS[protocol]
    (section,) = re.findall(rf"### `{protocol}`\n(.*?)\n##", DOCUMENT, re.DOTALL)
    words = f"*How.* {header.idea} *Source.* {header.source} *Measures.* {header.measures} *Cannot.* {header.cannot}"
    assert section.split() == words.split()

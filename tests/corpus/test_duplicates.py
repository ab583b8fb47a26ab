"""Copies of a clip under other names: no fold has the same sound in two parts, for any speakers and labels."""

import shutil
from itertools import combinations

import numpy as np
import pytest
from split_corpora import SPEAKER_PROTOCOLS, corpus_of, parts

from hf_vivae.corpus import read_folder
from hf_vivae.reproduction.plan import StudyArguments
from hf_vivae.splits import make_folds
from hf_vivae.splits.protocols import PROTOCOLS
from hf_vivae.training.build import load_training_data, run_record
from hf_vivae.training.recipes import parse_run
from hf_vivae.validation import UserError

SPEAKERS = [f"S{number % 14 + 1:02}" for number in range(168)]
LABELS = [number // 2 % 6 for number in range(168)]
CLIPS = corpus_of(
    SPEAKERS, intensity=[row // 14 % 2 for row in range(168)], core=[row // 28 % 2 > 0 for row in range(168)]
)


def digests_of(seed: int) -> list[str]:
    """Return digests with a twentieth of the clips as copies of clips of the same or of one other speaker."""
    rng = np.random.default_rng(seed)
    digests = [str(row) for row in range(168)]
    # on one side of the protocols that name their test speakers, which cannot divide speakers who count as one
    twins = {"S03": "S01", "S04": "S02", "S07": "S12"}
    for row in [*rng.choice(168, 8, replace=False).tolist(), 2, 16, 3, 6]:
        speaker = SPEAKERS[row]
        others = [other for other in range(168) if SPEAKERS[other] == twins.get(speaker, speaker)]
        digests[row] = digests[rng.choice(others)]
    return digests


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_copies_that_are_kept_together_lie_in_one_part(protocol, seed):
    digests = digests_of(seed)
    folds = make_folds(CLIPS, protocol, LABELS, seed, digests=digests, duplicates="keep_together")
    for fold in folds:
        for part, other in combinations(parts(fold), 2):
            assert not {digests[row] for row in part} & {digests[row] for row in other}
            if protocol in SPEAKER_PROTOCOLS:
                assert not {SPEAKERS[row] for row in part} & {SPEAKERS[row] for row in other}
    tested = [row for fold in folds for row in fold.test]
    assert len(tested) == len(set(tested))
    if PROTOCOLS[protocol].tests_every_clip:
        assert len(tested) == len(CLIPS), "copies are tested, too"


def test_without_copies_nothing_changes():
    own = [str(row) for row in range(168)]
    for protocol in PROTOCOLS:
        plain = make_folds(CLIPS, protocol, LABELS, 3)
        assert make_folds(CLIPS, protocol, LABELS, 3, digests=own) == plain
        assert make_folds(CLIPS, protocol, LABELS, 3, digests=own, duplicates="keep_together") == plain


def test_copies_in_two_parts_are_refused_by_name():
    digests = [str(row) for row in range(168)]
    digests[1] = digests[0]  # of S01 and S02
    with pytest.raises(UserError) as refused:
        make_folds(CLIPS, "leave-one-speaker-out", LABELS, digests=digests)
    assert str(refused.value) == (
        "fold 'S01': expected no clip in two parts, found 1 with a copy in another (clip_0001.wav (validation) = "
        "clip_0000.wav (test)); remove the copies, or keep them in one part with --duplicates keep_together."
    )


def test_copies_in_one_part_are_accepted():
    digests = [str(row) for row in range(168)]
    digests[14] = digests[0]  # both of S01
    assert make_folds(CLIPS, "leave-one-speaker-out", LABELS, digests=digests)


def test_a_copy_in_the_test_part_of_another_fold_is_refused():
    """Under core-to-full, clips outside the core set are in no other part than the one that tests them."""
    digests = [str(row) for row in range(168)]
    outside = [row for row in range(168) if not CLIPS[row]["core"]]
    digests[outside[1]] = digests[outside[0]]  # of S01 and S02
    with pytest.raises(
        UserError, match=r"expected each clip in the test part of one fold, found clip_0000\.wav in that"
    ):
        make_folds(CLIPS, "core-to-full", LABELS, num_groups=14, digests=digests)


@pytest.fixture
def copied(tiny_vivae, tmp_path):
    """A folder with a copy of each clip of S01 as a clip of S05."""
    for file in (tiny_vivae / "full_set").iterdir():
        speaker, label, rest = file.name.split("_", 2)
        (tmp_path / label).mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / label / file.name)
        if speaker == "S01":
            shutil.copy(file, tmp_path / label / f"S05_{label}_{rest}")
    return tmp_path


def test_a_run_refuses_copies_or_keeps_them_together_and_counts_them(copied):
    argv = ["--model", "some/model", "--data", "folder", "--data_dir", str(copied)]
    corpus = read_folder(copied, r"^(S[0-9]+)_")
    for protocol in ("speaker-k-fold", "random-10-fold"):
        run, args = parse_run([*argv, "--protocol", protocol], copied)
        with pytest.raises(UserError, match=r"expected no clip in two parts, found \d+ with a copy in another"):
            load_training_data(run, args.seed, corpus)
        run, args = parse_run([*argv, "--protocol", protocol, "--duplicates", "keep_together"], copied)
        prepared = load_training_data(run, args.seed, corpus)
        assert run_record(run, args, prepared)["duplicates"] == prepared.duplicates == 12
        for fold in prepared.folds:
            sounds = [{prepared.clips[row]["digest"] for row in part} for part in parts(fold)]
            assert len(set.union(*sounds)) == sum(map(len, sounds))


def test_studies_take_the_flag():
    assert StudyArguments(duplicates="keep_together").duplicates == "keep_together"

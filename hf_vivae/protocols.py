"""The protocols by name, each with what its score means; here are those that draw clips at random."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from . import speaker_folds
from .folds import Fold, Protocol
from .validation import UserError

if TYPE_CHECKING:
    from datasets import Dataset

PUBLISHED_SEED = 42  # of voc2vec's and of LINKS' split, whatever the seed of the run


def _random_80_20(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    test_size = len(clips) // 5
    validation_size = (len(clips) - test_size) // 10
    if not validation_size:
        raise UserError(f"random-80-20 needs at least 12 clips, found {len(clips)}: add clips")
    shuffled = np.random.default_rng(seed).permutation(len(clips))
    test, validation, train = np.split(shuffled, [test_size, test_size + validation_size])
    return [Fold("random-80-20", train, validation, test)]


def _random_10_fold(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    size = len(clips) // 10
    if not size:
        raise UserError(f"random-10-fold needs at least 10 clips, one for each slice, found {len(clips)}: add clips")
    shuffled = list(range(len(clips)))
    random.Random(PUBLISHED_SEED).shuffle(shuffled)
    slices = np.split(shuffled, [number * size for number in range(1, 10)])
    folds = []
    for number in range(10):
        test, validation, *train = slices[number:] + slices[:number]
        folds.append(Fold(f"{number + 1}-of-10", np.concatenate(train), validation, test))
    return folds


def _random_70_15_15(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    from sklearn.model_selection import train_test_split

    values, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < 7:  # of 7 clips, 30 % are 2, one for each of the small parts
        first = clips[int(np.argmax(labels == values[sizes.argmin()]))]["file"]
        raise UserError(
            f"random-70-15-15 needs at least 7 clips of each label, but one has {sizes.min()} (first: {first}): "
            "add clips, or use another --protocol"
        )
    shuffled = np.random.RandomState(PUBLISHED_SEED).permutation(len(clips))  # as DataFrame.sample(frac=1) does
    train, rest = train_test_split(shuffled, test_size=0.3, stratify=labels[shuffled], random_state=PUBLISHED_SEED)
    validation, test = train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=PUBLISHED_SEED)
    return [Fold("random-70-15-15", train, validation, test)]


PROTOCOLS: dict[str, Protocol] = {
    "random-80-20": Protocol(
        make_folds=_random_80_20,
        speaker_disjoint=False,
        tests_every_clip=False,
        uses_every_clip=True,
        grouped=False,
        idea="A random fifth of the clips is the test; a tenth of the rest validates (the report had none).",
        source="D. Pak, Emotion Classification using Various Transformer Architectures, 2022",
        measures="How well further clips of known speakers are labelled, some of them parts of known takes.",
        cannot="Tell anything about unseen speakers; the one test part is small (217 clips of VIVAE).",
    ),
    "leave-one-speaker-out": Protocol(
        make_folds=speaker_folds.leave_one_speaker_out,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=False,
        idea="Each speaker in turn is the test, the next by name validates, the others train.",
        source="ARCH: M. La Quatra et al., Benchmarking Representations for Speech, Music, and Acoustic "
        "Events, ICASSP Workshops 2024",
        measures="How well an unseen speaker is labelled, and how much that varies from speaker to speaker.",
        cannot="Select steadily: one speaker validates; nor separate a hard speaker from an unlucky seed.",
    ),
    "speakers-05-06": Protocol(
        make_folds=speaker_folds.speakers_05_06,
        speaker_disjoint=True,
        tests_every_clip=False,
        uses_every_clip=True,
        grouped=False,
        idea="Speakers S05 and S06 are the test (222 clips of VIVAE); whole speakers with about an eighth of the "
        "other clips validate, which is our addition.",
        source="nkululeko, data/vivae: a list of files to train on and one to test on, none to select with; its "
        "settings once kept four of the six emotions, today all",
        measures="How well two unseen speakers are labelled, at the cost of one training.",
        cannot="Speak for other speakers: two of eleven are tested, both with more clips than any of the others.",
    ),
    "random-10-fold": Protocol(
        make_folds=_random_10_fold,
        speaker_disjoint=False,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=False,
        idea="The clips, shuffled with the fixed seed 42, are cut into ten slices that are the test in turn; the "
        "next slice validates.",
        source="voc2vec: A. Koudounas et al., voc2vec: A Foundation Model for Non-Verbal Vocalization, ICASSP 2025, "
        "whose code selects on the slice that it scores (`--select_on test` does so); the order of its list of clips "
        "is not published, here they are shuffled from the order of their names",
        measures="How well further clips of known speakers are labelled; every clip is tested once.",
        cannot="Tell anything about unseen speakers, nor repeat voc2vec's own slices clip by clip.",
    ),
    "random-70-15-15": Protocol(
        make_folds=_random_70_15_15,
        speaker_disjoint=False,
        tests_every_clip=False,
        uses_every_clip=True,
        grouped=False,
        idea="The clips, shuffled and stratified by label with the fixed seed 42: 70 % train, 15 % validate, 15 % are "
        "the test.",
        source="LINKS, kk-nonverbal-vocal-class: CLiC-it 2025, CEUR Vol-4112, paper 64; its committed script scores "
        "the part that we validate with, and the order in which it lists the clips is not published, here it is that "
        "of their names",
        measures="How well further clips of known speakers are labelled, with labels in equal shares everywhere.",
        cannot="Tell anything about unseen speakers, nor repeat LINKS' own parts clip by clip; a score of its "
        "validation part is no score of this test part.",
    ),
    "speaker-k-fold": Protocol(
        make_folds=speaker_folds.speaker_k_fold,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=True,
        idea="Up to five (`--num_groups`) groups of whole speakers, balanced in labels, are the test in turn; about "
        "an eighth of the other clips, again of whole speakers, validates.",
        source="hf_vivae; groups by StratifiedGroupKFold of scikit-learn",
        measures="How well unseen speakers are labelled, in any corpus that names its speakers.",
        cannot="Be set beside leave-one-speaker-out, which trains on more speakers; a label with fewer clips "
        "than folds is missing from some test parts.",
    ),
    "group-k-fold": Protocol(
        make_folds=speaker_folds.group_k_fold,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=True,
        idea="The groups of speakers of scikit-learn's GroupKFold (`--num_groups`) are the test in turn; about an "
        "eighth of the other clips, again of whole speakers, validates.",
        source="scikit-learn; the seed moves who validates, and not who is tested",
        measures="The same as speaker-k-fold, on the very parts that others make of these speakers with GroupKFold.",
        cannot="Balance labels between the parts, as speaker-k-fold does.",
    ),
    "core-to-full": Protocol(
        make_folds=speaker_folds.core_to_full,
        speaker_disjoint=True,
        tests_every_clip=False,
        uses_every_clip=False,
        grouped=True,
        idea="The groups of speaker-k-fold are the test in turn, with their clips outside the core set; core clips of "
        "the other speakers train and validate.",
        source="hf_vivae; the core set is VIVAE's own, 480 clips by ten speakers",
        measures="Whether a model of the chosen clips labels those that were not chosen, of unseen speakers.",
        cannot="Separate harder clips from less training, on fewer than half of the clips that speaker-k-fold "
        "trains on; core clips are never tested.",
    ),
    "cross-intensity": Protocol(
        make_folds=speaker_folds.cross_intensity,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=False,
        grouped=True,
        idea="The folds of speaker-k-fold, once for each intensity: tested on that intensity, trained and validated "
        "on all others.",
        source="hf_vivae; no publication on VIVAE known to us does it",
        measures="What is kept when speaker and intensity are both unseen: every clip is tested once, in the same "
        "group of speakers as under speaker-k-fold, so that the two can be compared clip by clip.",
        cannot="Separate the missing intensity from the smaller training part, about three quarters of that of "
        "speaker-k-fold.",
    ),
}

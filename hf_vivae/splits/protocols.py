"""Evaluation protocols: functions that make their folds, and `PROTOCOLS` with claims, source and meaning of each.

A function takes the clips sorted by file, their labels `(clips,)`, the seed and the number of groups, and returns
folds of positions among these clips.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..validation import UserError
from .folds import Fold, Protocol

if TYPE_CHECKING:
    from datasets import Dataset


PUBLISHED_SEED = 42  # of the splits of voc2vec and LINKS, with any seed of the run
# names of splits in lower case, by the part of a fold that they become; those of `datasets` (SPLIT_KEYWORDS)
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
logger = logging.getLogger(__name__)


def random_80_20(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    """Return one fold: a random fifth of the clips is the test, a tenth of the others validates."""
    test_size = len(clips) // 5
    validation_size = (len(clips) - test_size) // 10
    if not validation_size:
        raise UserError(f"random-80-20: expected at least 12 clips, found {len(clips)}; add clips.")
    shuffled = np.random.default_rng(seed).permutation(len(clips))
    test, validation, train = np.split(shuffled, [test_size, test_size + validation_size])
    return [Fold("random-80-20", train, validation, test)]


def leave_one_speaker_out(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    """Yield a fold for each speaker, in the order of their names; the next speaker validates."""
    names, speakers = _speakers(clips, "leave-one-speaker-out")
    for speaker, name in enumerate(names):
        test, validation = speakers == speaker, speakers == (speaker + 1) % len(names)
        yield Fold(name, *map(np.flatnonzero, (~test & ~validation, validation, test)))


def speakers_05_06(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    """Return one fold that tests S05 and S06."""
    return [_test_speakers("speakers-05-06", ("S05", "S06"), clips, labels, seed)]


def speakers_07_11(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    """Return one fold that tests S07 to S11."""
    return [_test_speakers("speakers-07-11", ("S07", "S08", "S09", "S10", "S11"), clips, labels, seed)]


def random_10_fold(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    """Return ten folds, whose test parts are the slices of the shuffled clips; the next slice validates."""
    size = len(clips) // 10
    if not size:
        raise UserError(f"random-10-fold: expected at least 10 clips, one per slice, found {len(clips)}; add clips.")
    shuffled = list(range(len(clips)))
    random.Random(PUBLISHED_SEED).shuffle(shuffled)
    slices = np.split(shuffled, [number * size for number in range(1, 10)])
    folds = []
    for number in range(10):
        test, validation, *train = slices[number:] + slices[:number]
        folds.append(Fold(f"{number + 1}-of-10", np.concatenate(train), validation, test))
    return folds


def random_70_15_15(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    """Return one fold with 70 % of the clips to train, 15 % to validate and 15 % to test, stratified by label."""
    from sklearn.model_selection import train_test_split

    values, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < 7:  # 30 % of 7 clips are 2, one for each of the two small parts
        first = clips[int(np.argmax(labels == values[sizes.argmin()]))]["file"]
        raise UserError(
            f"random-70-15-15: expected at least 7 clips of each label, found {sizes.min()} of one (first: {first}); "
            "add clips, or use another --protocol."
        )
    shuffled = np.random.RandomState(PUBLISHED_SEED).permutation(len(clips))  # as DataFrame.sample(frac=1) does
    train, others = train_test_split(shuffled, test_size=0.3, stratify=labels[shuffled], random_state=PUBLISHED_SEED)
    validation, test = train_test_split(others, test_size=0.5, stratify=labels[others], random_state=PUBLISHED_SEED)
    return [Fold("random-70-15-15", train, validation, test)]


def speaker_k_fold(
    clips: Dataset, labels: np.ndarray, seed: int, num_groups: int, protocol: str = "speaker-k-fold"
) -> Iterator[Fold]:
    """Yield a fold for each group of speakers; errors name the protocol."""
    _, speakers = _speakers(clips, protocol)
    groups = _speaker_groups(speakers, labels, num_groups, seed)
    for number, test in enumerate(groups, start=1):
        others = np.setdiff1d(np.arange(len(clips)), test)
        parts = _train_and_select(protocol, others, speakers, labels, number, seed)
        yield Fold(f"{number}-of-{len(groups)}", *parts, test)


def group_k_fold(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    """Yield a fold for each group of scikit-learn's `GroupKFold`, which balances the numbers of clips."""
    from sklearn.model_selection import GroupKFold

    protocol = "group-k-fold"
    names, speakers = _speakers(clips, protocol)
    groups = min(num_groups, len(names))
    for number, (others, test) in enumerate(GroupKFold(groups).split(speakers, groups=speakers), start=1):
        parts = _train_and_select(protocol, others, speakers, labels, number, seed)
        yield Fold(f"{number}-of-{groups}", *parts, test)


def core_to_full(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    """Yield a fold for each group of speakers with clips outside the core set; core clips of the others train."""
    protocol = "core-to-full"
    _, speakers = _speakers(clips, protocol)
    remedy = "read VIVAE with both of its sets, or use --protocol speaker-k-fold"
    core = _column(clips, "core", f"{protocol}: expected true or false in the column core", remedy)
    if core.all() or not core.any():
        raise UserError(
            f"{protocol}: expected clips inside and outside the core set, found {core.sum()} of {len(core)} inside; "
            f"{remedy}."
        )
    groups = _speaker_groups(speakers, labels, num_groups, seed)
    for number, group in enumerate(groups, start=1):
        test = group[~core[group]]
        if len(test):
            others = np.flatnonzero(core & ~np.isin(speakers, speakers[group]))
            parts = _train_and_select(protocol, others, speakers, labels, number, seed)
            yield Fold(f"{number}-of-{len(groups)}", *parts, test)


def cross_intensity(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    """Yield a fold for each intensity and each group of speakers with clips of that intensity.

    Its parts are those of `speaker_k_fold`: the test part with this intensity only, the others without it.
    """
    protocol = "cross-intensity"
    names, intensities = _intensities(clips, labels, protocol)
    folds = list(speaker_k_fold(clips, labels, seed, num_groups, protocol))
    for intensity in np.unique(intensities):
        match = intensities == intensity
        for fold in folds:
            test = [row for row in fold.test if match[row]]
            train, validation = ([row for row in rows if not match[row]] for rows in (fold.train, fold.validation))
            if test and not (train and validation):
                raise UserError(
                    f"{protocol}: expected clips of another intensity than {names[intensity]} to "
                    f"{'select' if train else 'train'}, found none by the speakers who do so in fold {fold.name}; "
                    "change --num_groups or --seed, or use --protocol speaker-k-fold."
                )
            if test:
                yield Fold(f"{names[intensity]}-{fold.name}", train, validation, test)


def given(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    """Return one fold, whose parts are the splits of the dataset; without one to validate, an eighth of `train`."""
    remedy = "use --protocol speaker-k-fold, or random-80-20 without speakers"
    splits = _column(clips, "split", "given: expected a dataset with splits (--data hub), so one", remedy)
    names = np.unique(splits).tolist()
    of_part = {part: [name for name in names if name.lower() in usual] for part, usual in SPLIT_NAMES.items()}
    for part, present in of_part.items():
        if len(present) > 1 or (not present and part != "validation"):
            raise UserError(
                f"given: expected one split called {' or '.join(SPLIT_NAMES[part])}, found "
                f"{' and '.join(present) or 'only ' + ', '.join(names)}; {remedy}."
            )
    rows = {part: np.flatnonzero(np.isin(splits, present)) for part, present in of_part.items()}
    if others := [name for name in names if not any(name in present for present in of_part.values())]:
        count = int(np.isin(splits, others).sum())
        logger.warning("given: %d clips of the splits %s are in no part.", count, ", ".join(others))
    if not of_part["validation"]:
        rows["train"], rows["validation"] = _validate_on_an_eighth(clips, rows["train"], labels, seed)
    speakers = {part: set(clips.select(rows[part])["speaker"]) - {None} for part in ("train", "test")}
    if shared := speakers["train"] & speakers["test"]:
        logger.warning(
            "given: %d of the %d test speakers are in the training part too.", len(shared), len(speakers["test"])
        )
    return [Fold("given", rows["train"], rows["validation"], rows["test"])]


def _test_speakers(protocol: str, tested: Sequence[str], clips: Dataset, labels: np.ndarray, seed: int) -> Fold:
    """Return the fold that tests the named speakers; of the others, whole speakers validate."""
    names, speakers = _speakers(clips, protocol)
    if not {*tested} <= {*names} or len(names) < len(tested) + 2:
        raise UserError(
            f"{protocol}: expected the speakers {', '.join(tested[:-1])} and {tested[-1]}, and at least 2 others to "
            f"train and select, found {', '.join(names[:10])}{' and more' if len(names) > 10 else ''}; use --protocol "
            "speaker-k-fold."
        )
    test = np.isin(speakers, [names.index(name) for name in tested])
    train, validation = _train_and_select(protocol, np.flatnonzero(~test), speakers, labels, 1, seed)
    return Fold(protocol, train, validation, np.flatnonzero(test))


def _validate_on_an_eighth(
    clips: Dataset, train: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the positions `train`: about an eighth validates, whole speakers where at least two are known."""
    _, speakers = np.unique([speaker or "" for speaker in clips["speaker"]], return_inverse=True)
    known = None not in clips.select(train)["speaker"][:] and len(np.unique(speakers[train])) > 1
    logger.warning(
        "given: there is no split to validate; about an eighth of the %d training clips does, %s.",
        len(train),
        "by whole speakers" if known else "taken at random",
    )
    if known:
        return _train_and_select("given", train, speakers, labels, 1, seed)
    shuffled = np.random.default_rng(seed).permutation(train)
    size = max(1, len(train) // 8)
    return shuffled[size:], shuffled[:size]


def _train_and_select(
    protocol: str, others: np.ndarray, speakers: np.ndarray, labels: np.ndarray, number: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the positions `others` by whole speakers: about an eighth of them validates, all others train."""
    count = len(np.unique(speakers[others]))
    if count < 2:
        core = " with core clips" if protocol == "core-to-full" else ""
        raise UserError(
            f"{protocol}: expected at least 2 speakers{core} besides each group, one each to train and select, found "
            f"{count} besides group {number}; ask for more groups with --num_groups, or add speakers."
        )
    eighths = _speaker_groups(speakers[others], labels[others], 8, seed)
    # Each fold starts at another group, so that different speakers validate. A group with more than a quarter of the
    # clips would leave few to train on, and one without some label cannot select for it: both are taken last.
    rotated = eighths[number % len(eighths) :] + eighths[: number % len(eighths)]
    selected = max(rotated, key=lambda rows: (len(rows) <= len(others) / 4, len(np.unique(labels[others][rows]))))
    return np.delete(others, selected), others[selected]


def _speakers(clips: Dataset, protocol: str) -> tuple[list[str], np.ndarray]:
    """Return the sorted names of the speakers, and the index of each clip's speaker, `(clips,)`."""
    remedy = (
        "take it from the file names with --speaker_pattern, add a speaker column to the metadata file, "
        "name that of a dataset with --speaker_column, or use --protocol random-80-20"
    )
    names, speakers = np.unique(
        _column(clips, "speaker", f"{protocol}: expected a speaker", remedy), return_inverse=True
    )
    if len(names) < 3:
        raise UserError(
            f"{protocol}: expected at least 3 speakers, one each to train, select and test, found "
            f"{names.tolist()}; {remedy}."
        )
    return names.tolist(), speakers


def _intensities(clips: Dataset, labels: np.ndarray, protocol: str) -> tuple[list[str], np.ndarray]:
    """Return the names of all intensities, and the index of each clip's intensity, `(clips,)`."""
    remedy = "use --protocol speaker-k-fold"
    intensities = _column(
        clips, "intensity", f"{protocol}: expected an intensity", f"add it to the metadata file, or {remedy}"
    )
    names = clips.features["intensity"].names
    if len(np.unique(intensities)) < 2:
        raise UserError(
            f"{protocol}: expected clips of at least 2 intensities, found only {names[intensities[0]]}; {remedy}."
        )
    if len(set(zip(labels.tolist(), intensities.tolist(), strict=True))) == len(np.unique(labels)):
        raise UserError(
            f"{protocol}: expected labels that occur at several intensities, found each at one only, so that a model "
            f"could not learn those that it is tested on; use --task emotion, or {remedy}."
        )
    return names, intensities


def _column(clips: Dataset, column: str, need: str, remedy: str) -> np.ndarray:
    values = clips[column][:] if column in clips.column_names else [None] * len(clips)
    unknown = [file for file, value in zip(clips["file"][:], values, strict=True) if value is None or value == ""]
    if unknown:
        raise UserError(
            f"{need} for every clip, found none for {len(unknown)} of {len(values)} (first: {unknown[0]}); {remedy}."
        )
    return np.array(values)


def _speaker_groups(speakers: np.ndarray, labels: np.ndarray, max_groups: int, seed: int) -> list[np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.unique(speakers)
    if len(names) <= max_groups:
        # nothing to balance, and StratifiedGroupKFold may leave a group empty (scikit-learn 1.9)
        return [np.flatnonzero(speakers == name) for name in np.random.default_rng(seed).permutation(names)]
    splitter = StratifiedGroupKFold(max_groups, shuffle=True, random_state=seed)
    strata = _pool_rare_labels(labels, max_groups)
    return [group for _, group in splitter.split(speakers, strata, speakers)]


def _pool_rare_labels(labels: np.ndarray, groups: int) -> np.ndarray:
    # StratifiedGroupKFold warns of a label with fewer clips than groups, and raises an error if all labels are rare.
    # Here such labels are valid, and balanced as if they were one; the next rarest labels are added to it until
    # there is a clip for every group.
    values, sizes = np.unique(labels, return_counts=True)
    pool: list[int] = []
    total = 0
    for index in np.argsort(sizes, kind="stable"):
        if sizes[index] < groups or 0 < total < groups:
            pool.append(values[index])
            total += sizes[index]
    return np.where(np.isin(labels, pool), pool[0], labels) if pool else labels


PROTOCOLS: dict[str, Protocol] = {
    "random-80-20": Protocol(
        make_folds=random_80_20,
        speaker_disjoint=False,
        tests_every_clip=False,
        uses_every_clip=True,
        grouped=False,
        idea="A random fifth of the clips is the test; a tenth of the others validates (the paper had no validation "
        "clips).",
        source="the paper: D. Pak, Emotion Classification using Various Transformer Architectures, 2022",
        measures="Performance on new clips of speakers seen in training, some of them from recordings seen in "
        "training.",
        cannot="Measure performance on unseen speakers; the only test part is small (217 clips of VIVAE).",
    ),
    "leave-one-speaker-out": Protocol(
        make_folds=leave_one_speaker_out,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=False,
        idea="Each speaker in turn is the test; the next one by name validates, the others train.",
        source="ARCH: M. La Quatra et al., Benchmarking Representations for Speech, Music, and Acoustic Events, "
        "ICASSP Workshops 2024",
        measures="Performance on an unseen speaker, and its variation between speakers.",
        cannot="Select reliably, since a single speaker validates; nor distinguish a difficult speaker from an "
        "unlucky seed.",
    ),
    "speakers-05-06": Protocol(
        make_folds=speakers_05_06,
        speaker_disjoint=True,
        tests_every_clip=False,
        uses_every_clip=True,
        grouped=False,
        idea="Speakers S05 and S06 are the test (222 clips of VIVAE); whole speakers with about an eighth of the "
        "other clips validate, an addition of hf_vivae.",
        source="nkululeko, data/vivae: a list of files to train on and one to test on, none to select with; its "
        "settings contained four of the six emotions in the past, and all of them today",
        measures="Performance on two unseen speakers, with a single training.",
        cannot="Measure performance on other speakers: two of eleven are tested, both with more clips than any other.",
    ),
    "speakers-07-11": Protocol(
        make_folds=speakers_07_11,
        speaker_disjoint=True,
        tests_every_clip=False,
        uses_every_clip=True,
        grouped=False,
        idea="Speakers S07 to S11 are the test (460 clips of VIVAE, whose other 625 are by S01 to S06); whole "
        "speakers with about an eighth of the other clips validate, an addition of hf_vivae.",
        source="the vocalisation task (VOC-C) of ComParE 2022: B. Schuller et al., The ACM Multimedia 2022 "
        "Computational Paralinguistics Challenge, whose development part is the test here; the speakers are derived "
        "from the label counts of its confusion matrices, which no other set of VIVAE's speakers has; its own 276 "
        "test clips are not part of VIVAE",
        measures="Performance on five unseen speakers, with a single training.",
        cannot="Measure performance on other speakers: five of eleven are tested, and five train; nor be compared "
        "with leave-one-speaker-out, which trains on nearly twice as many clips.",
    ),
    "random-10-fold": Protocol(
        make_folds=random_10_fold,
        speaker_disjoint=False,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=False,
        idea="The clips are shuffled with the fixed seed 42 and cut into ten slices; each slice in turn is the test, "
        "and the next one validates.",
        source="voc2vec: A. Koudounas et al., voc2vec: A Foundation Model for Non-Verbal Vocalization, ICASSP 2025, "
        "whose code selects on the slice that it tests (as `--select_on test` does); the order of its list of clips "
        "is not published, here the clips are sorted by name before they are shuffled",
        measures="Performance on new clips of speakers seen in training; every clip is tested once.",
        cannot="Measure performance on unseen speakers, nor reproduce voc2vec's own slices clip by clip.",
    ),
    "random-70-15-15": Protocol(
        make_folds=random_70_15_15,
        speaker_disjoint=False,
        tests_every_clip=False,
        uses_every_clip=True,
        grouped=False,
        idea="The clips are shuffled with the fixed seed 42 and stratified by label: 70 % train, 15 % validate, 15 % "
        "are the test.",
        source="LINKS, kk-nonverbal-vocal-class: CLiC-it 2025, CEUR Vol-4112, paper 64; its published script scores "
        "the part that validates here; the order of its list of clips is not published, here the clips are sorted by "
        "name before they are shuffled",
        measures="Performance on new clips of speakers seen in training, with the same shares of labels in all parts.",
        cannot="Measure performance on unseen speakers, nor reproduce LINKS' own parts clip by clip; a score on its "
        "validation part is not a score on this test part.",
    ),
    "speaker-k-fold": Protocol(
        make_folds=speaker_k_fold,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=True,
        idea="Each of up to five (`--num_groups`) groups of whole speakers, balanced by label, is the test in turn; "
        "about an eighth of the other clips, again of whole speakers, validates.",
        source="hf_vivae; groups by StratifiedGroupKFold of scikit-learn",
        measures="Performance on unseen speakers, in any corpus with a speaker for each clip.",
        cannot="Be compared with leave-one-speaker-out, which trains on more speakers; a label with fewer clips than "
        "folds is missing from some test parts.",
    ),
    "group-k-fold": Protocol(
        make_folds=group_k_fold,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=True,
        idea="Each group of speakers of scikit-learn's GroupKFold (`--num_groups`) is the test in turn; about an "
        "eighth of the other clips, again of whole speakers, validates.",
        source="scikit-learn; the seed changes the speakers that validate, not those that are tested",
        measures="The same as speaker-k-fold, on the test parts that other users of GroupKFold have for these "
        "speakers.",
        cannot="Balance labels between the parts, as speaker-k-fold does.",
    ),
    "core-to-full": Protocol(
        make_folds=core_to_full,
        speaker_disjoint=True,
        tests_every_clip=False,
        uses_every_clip=False,
        grouped=True,
        idea="Each group of speaker-k-fold in turn is the test, with its clips outside the core set; core clips of "
        "the other speakers train and validate.",
        source="hf_vivae; the core set is VIVAE's own, 480 clips by ten speakers",
        measures="Performance on clips outside the core set and of unseen speakers, for a model trained on core "
        "clips.",
        cannot="Distinguish the effect of harder clips from that of fewer training clips, which are less than half of "
        "those of speaker-k-fold; core clips are never tested.",
    ),
    "cross-intensity": Protocol(
        make_folds=cross_intensity,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=False,
        grouped=True,
        idea="The folds of speaker-k-fold, once for each intensity: tested on this intensity, trained and validated "
        "on all others.",
        source="hf_vivae; no publication on VIVAE known to us uses it",
        measures="Performance where both speaker and intensity are unseen; every clip is tested once, in the same "
        "group of speakers as with speaker-k-fold, so that the two can be compared clip by clip.",
        cannot="Distinguish the effect of the missing intensity from that of the smaller training part, about three "
        "quarters of that of speaker-k-fold.",
    ),
    "given": Protocol(
        make_folds=given,
        speaker_disjoint=False,
        tests_every_clip=False,
        uses_every_clip=False,
        grouped=False,
        idea="The splits of a dataset of the Hub: train trains, validation validates and test is the test, also under "
        "other names that `datasets` knows (such as dev and eval); splits of other names are in no part. Without a "
        "split to validate, about an eighth of train does, whole speakers where they are known.",
        source="the dataset itself; the names are those of SPLIT_KEYWORDS of `datasets`",
        measures="The score that other users of the dataset report, on the clips that its authors chose to test.",
        cannot="Measure performance on unseen speakers, unless the dataset keeps them apart: a warning counts those "
        "in training and test.",
    ),
}

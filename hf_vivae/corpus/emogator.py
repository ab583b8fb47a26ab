"""EmoGator: its clips in a folder or archive, compared with its 32,130 names, and the address of its archive.

F. W. Buhl and others, EmoGator: A New Open Source Vocal Burst Dataset with Baseline Machine Learning Classification
Methodologies, arXiv 2301.00508: 357 speakers, who recorded themselves, expressed each of 30 categories three times.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from ..files import CACHE_REMEDY, atomic_file, cache_folder, walk_files
from ..validation import UserError, check_choice
from .archive import is_folder, list_members, read_members
from .checked import checked_clips
from .download import download
from .folder import LabelledFile, read_clip
from .label_map import apply_label_map
from .schema import (
    BAD_AUDIO,
    ON_BAD_AUDIO,
    Corpus,
    CorpusError,
    LabelMap,
    Problems,
    build_dataset,
    first_names,
)

if TYPE_CHECKING:
    from datasets import Dataset


COMMIT = "51eeca515a95f168ab73391cd9e7c975ab964429"  # of 2023-06-30
URL = f"https://codeload.github.com/fredbuhl/EmoGator/zip/{COMMIT}"
SPEAKERS, TAKES = 357, 3
FILE_NAME = re.compile(r"([0-9]{6})-([0-9]{2})-([0-9])\.mp3")
# new labels of `categories="vivae"`; recipes/label_maps/emogator-to-vivae.yaml is the same map for `--label_map`
VIVAE_LABELS = LabelMap(
    "emogator-to-vivae",
    {
        "Adoration": None,
        "Amusement": None,
        "Anger": "anger",
        "Awe": None,
        "Confusion": None,
        "Contempt": None,
        "Contentment": None,
        "Desire": None,
        "Disappointment": None,
        "Disgust": None,
        "Distress": None,
        "Ecstasy": "pleasure",
        "Elation": None,
        "Embarrassment": None,
        "Fear": "fear",
        "Guilt": None,
        "Interest": None,
        "Neutral": None,
        "Pain": "pain",
        "Pride": None,
        "Realization": None,
        "Relief": None,
        "Romantic Love": None,
        "Sadness": None,
        "Serenity": None,
        "Shame": None,
        "Surprise (Negative)": None,
        "Surprise (Positive)": "surprise",
        "Sympathy": None,
        "Triumph": "achievement",
    },
)
CATEGORIES = tuple(VIVAE_LABELS.targets)  # in the order of their numbers in file names, from 01 on
REMEDY = "correct --data_dir, or leave it out to download EmoGator"
ALTERNATIVES = "get this archive elsewhere, and give it or the folder of its clips with --data_dir"  # of the download


def load_emogator(
    path: str | Path | None = None,
    categories: str | Sequence[str] = "vivae",
    allow_partial: bool = False,
    on_bad_audio: str = "error",
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Return the `Dataset` of `read_emogator`, with one warning for files that are missing or left out."""
    corpus = read_emogator(path, categories, allow_partial, on_bad_audio, cache_dir)
    corpus.log_problems()
    return corpus.dataset


def read_emogator(
    path: str | Path | None = None,
    categories: str | Sequence[str] = "vivae",
    allow_partial: bool = False,
    on_bad_audio: str = "error",
    cache_dir: str | Path | None = None,
) -> Corpus:
    """Read EmoGator from a folder, from an archive or from GitHub; the rows are in the order of names.

    Stereo clips are averaged, and peaks above 1.0, which MP3 decoders give, are kept when a clip is decoded. `item` is
    the number of the take, as in VIVAE.

    Args:
        path: a folder, zip, tar or tar.gz with the MP3 files at any depth; by default the archive of `URL` is
            downloaded once to the cache (477 MB). Clips of an archive are unpacked to the cache, where their names
            are those of the corpus.
        categories: "vivae" for the six categories nearest to VIVAE's labels, under its names (`VIVAE_LABELS`), "all",
            or names of `CATEGORIES`. Files of other categories are not read.
        allow_partial: use the good clips, and list everything else in `Corpus.problems`.
        on_bad_audio: "skip" leaves out clips whose sound cannot be used; missing and unknown files stay errors.
        cache_dir: folder of the archive and its clips; by default that of `hf_vivae.files.cache_folder`.

    Raises:
        CorpusError: for files other than those of EmoGator; its `problems` names all of them.
        UserError: for unknown categories, a missing folder or archive, one without EmoGator's clips or with those of
            one category only, and an archive that is damaged or too large.
        NetworkError: for an archive that has to be downloaded and cannot be.
    """
    from tqdm import tqdm

    check_choice("--on_bad_audio", on_bad_audio, ON_BAD_AUDIO)
    names = (categories,) if isinstance(categories, str) else tuple(categories)
    chosen = _choose_categories(names)
    cache = Path(cache_dir or cache_folder())
    source = Path(path) if path is not None else download(URL, archive_path(cache), alternatives=ALTERNATIVES)
    problems, rows = Problems(), []
    paths = _find_clips(source, chosen, cache, problems)
    with checked_clips() as checked:
        # the whole corpus takes more than a minute at the first time
        for name, file in tqdm(paths.items(), desc="Checking clips of EmoGator", unit="clip", delay=2):
            speaker, number, take = FILE_NAME.fullmatch(name).groups()
            clip = LabelledFile(name, file, CATEGORIES[int(number) - 1], speaker=speaker, item=take)
            if row := read_clip(clip, problems, checked):
                rows.append(row)
    accepted = problems.keys() if allow_partial else {BAD_AUDIO} if on_bad_audio == "skip" else set()
    if not rows or problems.keys() - accepted:
        count = len(chosen) * SPEAKERS * TAKES
        raise CorpusError(
            f"expected the {count} clips of {len(chosen)} categories of EmoGator in {source}, found {len(paths)} of "
            f"them and {problems}; get the archive again from {URL}, or use the clips that are good with "
            "--allow_partial.",
            problems.lines(),
        )
    rates, present = {row.pop("sampling_rate") for row in rows}, {row["emotion"] for row in rows}
    labels = [category for category in chosen if category in present]
    if len(labels) < 2:
        raise UserError(
            f"expected clips of at least two categories in {source}, found only {labels[0]}; give more --categories."
        )
    dataset = build_dataset(rows, labels, sampling_rate=rates.pop() if len(rates) == 1 else None)
    corpus = Corpus("emogator", dataset, problems.lines())
    return apply_label_map(corpus, VIVAE_LABELS) if names == ("vivae",) else corpus


def archive_path(cache_dir: Path) -> Path:
    """Return the path in the cache of the downloaded archive."""
    return cache_dir / f"emogator-{COMMIT[:8]}.zip"


def _choose_categories(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the categories to read, in the order of their numbers."""
    if names == ("vivae",):
        return tuple(category for category, label in VIVAE_LABELS.targets.items() if label)
    if names == ("all",):
        return CATEGORIES
    for name in names:
        check_choice("--categories", name, (*(("vivae", "all") if len(names) == 1 else ()), *CATEGORIES))
    if len(set(names)) < 2:
        found = names[0] if names else "none"
        raise UserError(f"expected --categories vivae, all, or at least two names, found {found}; give another.")
    return tuple(category for category in CATEGORIES if category in names)


def _find_clips(source: Path, chosen: Sequence[str], cache: Path, problems: Problems) -> dict[str, Path]:
    """Return the path of each clip of the categories by its name, sorted; add all other MP3 files to the problems."""
    in_folder = is_folder(source, "a folder or an archive with EmoGator's MP3 files", REMEDY)
    root = Path(os.path.abspath(source))
    files = (path.relative_to(root) for path in walk_files(root)) if in_folder else list_members(source)
    locations = sorted(path for path in files if path.suffix.lower() == ".mp3")
    named: dict[str, list[PurePath]] = {}
    for location in locations:
        if FILE_NAME.fullmatch(location.name):
            named.setdefault(location.name, []).append(location)
    if not named:
        others = first_names([location.as_posix() for location in locations], 3)
        raise UserError(
            f"expected MP3 files named as 000001-03-1.mp3 (speaker, category, take) at any depth of {source}, found "
            f"{f'{len(locations)} with other names ({others})' if locations else 'none'}; {REMEDY}."
        )
    numbers = {f"{number:02}": category for number, category in enumerate(CATEGORIES, start=1)}
    all_names = {
        f"{speaker:06}-{number}-{take}.mp3"
        for speaker in range(1, SPEAKERS + 1)
        for number in numbers
        for take in range(1, TAKES + 1)
    }
    names = {name for name in all_names if numbers[name[7:9]] in chosen}
    problems.note("badly named", [path.as_posix() for path in locations if path.name not in named])
    named = {name: paths for name, paths in named.items() if name in names or name not in all_names}
    problems.note(
        "duplicate",
        [f"{copy.as_posix()}, as {first.as_posix()}" for first, *copies in named.values() for copy in copies],
    )
    problems.note("missing", sorted(names - named.keys()))
    problems.note("extra", sorted(named.keys() - names))
    chosen_paths = {name: named[name][0] for name in sorted(names & named.keys())}
    if in_folder:
        return {name: root / path for name, path in chosen_paths.items()}
    return _unpack(source, chosen_paths, cache, problems)


def _unpack(source: Path, members: dict[str, PurePosixPath], cache: Path, problems: Problems) -> dict[str, Path]:
    """Unpack members of an archive that are not yet in the cache, under their names as clips, and return the files."""
    from tqdm import tqdm

    with source.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:16]
    folder = cache / "emogator" / digest
    files = {name: folder / name for name in members}
    absent = {members[name]: file for name, file in files.items() if not file.is_file()}
    if absent:
        unpacked = read_members(source, absent.__contains__)
        for member in tqdm(unpacked, total=len(absent), desc="Unpacking EmoGator", unit="clip", delay=2):
            file = absent[member.path]
            if member.fault:
                problems.note(BAD_AUDIO, [f"{file.name}: expected a whole file, found {member.fault}"])
                del files[file.name]
            elif not file.is_file():  # of two members with one path, the first
                with atomic_file(file, CACHE_REMEDY) as part:
                    part.write_bytes(member.content)
    return files

"""VIVAE: its clips in a folder or archive, compared with the published list, and the address of its archive."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..audio import BadAudio, inspect
from ..files import cache_folder, walk_files
from ..validation import UserError, check_choice
from .archive import is_folder, list_members, read_members
from .decoded import load_clip
from .download import download, is_verified, zenodo_file
from .manifest import SAMPLING_RATE, compare_lengths, read_manifest
from .schema import (
    BAD_AUDIO,
    EMOTIONS,
    INTENSITIES,
    ON_BAD_AUDIO,
    Corpus,
    CorpusError,
    Problems,
    build_dataset,
    first_names,
)

if TYPE_CHECKING:
    from datasets import Dataset


logger = logging.getLogger(__name__)

ZENODO_URL = "https://zenodo.org/api/records/4066235/files/VIVAE.zip/content"
ZENODO_FILE = ("4066235", "VIVAE.zip")
SUBSETS = {"full": "full_set", "core": "core_set"}
VIVAE_CLIPS, CORE_CLIPS = 1085, 480  # in full_set and core_set
FILE_NAME = re.compile(rf"(S[0-9]{{2}})_({'|'.join(EMOTIONS)})_({'|'.join(INTENSITIES)})_([0-9]{{1,3}})\.wav")


@dataclass(frozen=True)
class File:
    """A sound file of a subset.

    Args:
        name: base name, suffix in lower case.
        location: path below the subset's folder.
        audio: bytes or path, as in the column of that name.
        fault: reason why it could not be read from the archive; empty where it could.
    """

    name: str
    location: str
    audio: dict[str, Any]
    fault: str = ""


def load_vivae(
    path: str | Path | None = None,
    subset: str = "full",
    allow_partial: bool = False,
    on_bad_audio: str = "error",
    url: str = ZENODO_URL,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Return the `Dataset` of `read_vivae`, with one warning for files that are missing or left out."""
    corpus = read_vivae(path, subset, allow_partial, on_bad_audio, url, cache_dir)
    corpus.log_problems()
    return corpus.dataset


def read_vivae(
    path: str | Path | None = None,
    subset: str = "full",
    allow_partial: bool = False,
    on_bad_audio: str = "error",
    url: str = ZENODO_URL,
    cache_dir: str | Path | None = None,
) -> Corpus:
    """Read VIVAE from a folder, from its archive or from the archive's address; the rows are in the order of names.

    Args:
        path: a folder that contains `full_set/` (`core_set/`) at any depth, flat or with subfolders, or `VIVAE.zip`;
            by default the archive is downloaded once to the cache. An archive is read in place, never unpacked.
        subset: "full", which is compared with the shipped list of 1085 names; or "core", whose list is not published
            with this package, so that only the form of the names and their number (480) are checked. A full set with
            other lengths than VIVAE's counts as a problem, unless it is the archive of Zenodo with its checksum. In
            the full set, the column `core` is true for names that `core_set/` of the same folder or archive contains;
            it is None where there is no `core_set/`, or one with other names.
        allow_partial: use the good clips, and list everything else in `Corpus.problems`.
        on_bad_audio: "skip" leaves out clips whose sound cannot be used; missing and unknown files stay errors.
        url: address of the archive, for a mirror.
        cache_dir: folder of the downloaded archive; by default that of `hf_vivae.files.cache_folder`.

    Raises:
        CorpusError: for files other than those of VIVAE; its `problems` names all of them.
        UserError: for a missing folder or archive, an archive that is damaged or too large, and clips that `synthetic`
            or `noise` made, also as a copy.
        NetworkError: for an archive that has to be downloaded and cannot be.
    """
    check_choice("--subset", subset, SUBSETS)
    check_choice("--on_bad_audio", on_bad_audio, ON_BAD_AUDIO)
    source = Path(path) if path is not None else download(url, archive_path(url, cache_dir))
    problems = Problems()
    source, rows = read_rows(source, subset, problems)
    # where the address is that of another file at Zenodo, the checksum confirms that other file
    verified = path is None and zenodo_file(url) == ZENODO_FILE and is_verified(source)
    _check_recorded(source, subset, rows, verified, problems)
    accepted = problems.keys() if allow_partial else {BAD_AUDIO} if on_bad_audio == "skip" else set()
    if not rows or problems.keys() - accepted:
        clips = CORE_CLIPS if subset == "core" else VIVAE_CLIPS
        raise CorpusError(
            f"expected the {clips} clips of {SUBSETS[subset]} in {source}, found {problems}; get VIVAE.zip again "
            "from https://doi.org/10.5281/zenodo.4066235, or use the clips that are good with --allow_partial.",
            problems.lines(),
        )
    return Corpus("vivae" if subset == "full" else "vivae-core", build_dataset(rows), problems.lines())


def read_rows(source: Path, subset: str, problems: Problems) -> tuple[Path, list[dict[str, Any]]]:
    """Return the folder or archive that contains a subset, and a row for each usable clip with a name of VIVAE.

    Rows are those of `build_dataset`, with the two measures that `generated.recognize_generated` takes: the standard
    deviation of the samples (`deviation`), and of the differences between neighbouring samples (`step`).

    Args:
        source: a folder or an archive.
        subset: "full" or "core".
        problems: where all other files are added.

    Raises:
        UserError: for a source without files of the subset, with several folders of its name, or with a damaged
            archive.
    """
    source, candidates = _find_files(source, SUBSETS[subset])
    files = _by_name(candidates, problems)
    if subset == "core":
        core = set(files)
        if len(files) != CORE_CLIPS:
            text = f"{len(files)} clips in core_set, not {CORE_CLIPS}; their names are not known"
            problems.note("wrong number", [text])
    else:
        published = {row["file_name"] for row in read_manifest()}
        problems.note("missing", sorted(published - files.keys()))
        problems.note("extra", sorted(files.keys() - published))
        files = {name: file for name, file in files.items() if name in published}
        core = _find_core(source, published)
    return source, [row for name in sorted(files) if (row := _row(files[name], core, problems))]


def archive_path(url: str = ZENODO_URL, cache_dir: str | Path | None = None) -> Path:
    """Return the path in the cache of the archive of an address."""
    # A mirror's copy must not be taken for the original, nor the original for the copy.
    mark = "" if url == ZENODO_URL else "-" + hashlib.sha256(url.encode()).hexdigest()[:8]
    return Path(cache_dir or cache_folder(), f"VIVAE{mark}.zip")


def _by_name(files: list[File], problems: Problems) -> dict[str, File]:
    problems.note("badly named", sorted(file.location for file in files if not FILE_NAME.fullmatch(file.name)))
    groups: dict[str, list[File]] = {}
    for file in sorted(files, key=lambda file: file.location):
        if FILE_NAME.fullmatch(file.name):
            groups.setdefault(file.name, []).append(file)
    problems.note(
        "duplicate",
        [f"{copy.location}, as {first.location}" for first, *copies in groups.values() for copy in copies],
    )
    return {name: group[0] for name, group in groups.items()}


def _find_core(source: Path, published: set[str]) -> set[str] | None:
    """Return the names in `core_set/`; None where there are none, or others than those of the full set."""
    paths = _folder_paths(source).values() if source.is_dir() else list_members(source)
    core = {_clip_name(path) for path in _below(filter(_is_wave, paths), SUBSETS["core"], source)}
    if unknown := sorted(core - published):  # no error, since the full set is complete without a core set
        logger.warning(
            "core_set has names that full_set does not have (%s): column core is left empty.", first_names(unknown)
        )
    return core if core and not unknown else None


def _check_recorded(source: Path, subset: str, rows: list[dict[str, Any]], verified: bool, problems: Problems) -> None:
    """Refuse clips that this package generated, and note a full set whose lengths differ from VIVAE's."""
    from .generated import recognize_generated

    lengths = [round(row["duration"] * SAMPLING_RATE) for row in rows]
    if data := recognize_generated(lengths, *([row[key] for row in rows] for key in ("deviation", "step"))):
        raise UserError(
            f"expected the recordings of VIVAE in {source}, found clips that --data {data} generates; "
            f"use --data {data}, or give the folder or archive of VIVAE with --data_dir."
        )
    complete = subset == "full" and len(rows) == VIVAE_CLIPS
    if complete and not verified and (difference := compare_lengths(lengths)):
        problems.note("with other lengths than VIVAE", [difference])


def _row(file: File, core: set[str] | None, problems: Problems) -> dict[str, Any] | None:
    try:
        if file.fault:
            raise BadAudio(file.name, "a whole file", file.fault)
        info = inspect(file.audio, file.name)
        if info.channels != 1:
            raise BadAudio(file.name, "mono sound", f"{info.channels} channels")
        if info.sampling_rate != SAMPLING_RATE:
            raise BadAudio(file.name, f"{SAMPLING_RATE} Hz", f"{info.sampling_rate} Hz")
        samples, _ = load_clip(file.audio, name=file.name)  # damage and NaN show only when the sound is decoded
    except BadAudio as error:
        problems.note(BAD_AUDIO, [f"{file.name}: expected {error.expected}, found {error.found}"])
        return None
    speaker, emotion, intensity, item = FILE_NAME.fullmatch(file.name).groups()
    labels = {"speaker": speaker, "emotion": emotion, "intensity": intensity, "item": item}
    in_core = None if core is None else file.name in core
    steps = samples[1:] - samples[:-1] if len(samples) > 1 else samples
    measured = {"duration": info.duration, "deviation": float(samples.std()), "step": float(steps.std())}
    return {"audio": file.audio, "file": file.name, "core": in_core} | measured | labels


def _find_files(source: Path, folder: str) -> tuple[Path, list[File]]:
    """Return the sound files of a subset's folder, and their source: the given one, or the `VIVAE.zip` in it."""
    remedy = "correct --data_dir, or leave it out to download VIVAE"
    in_folder = is_folder(source, f"a folder that holds {folder}/ or a VIVAE.zip", remedy)
    if in_folder:
        candidates = [(path, {"bytes": None, "path": str(file)}, "") for file, path in _folder_paths(source).items()]
    else:
        members = read_members(source, lambda path: _is_wave(path) and folder in path.parts[:-1])
        candidates = [(item.path, {"bytes": item.content, "path": item.path.name}, item.fault) for item in members]
    locations = _below((path for path, _, _ in candidates), folder, source)
    files = [
        File(_clip_name(path), str(locations[path]), audio, fault)
        for path, audio, fault in candidates
        if path in locations
    ]
    if in_folder and not files and (source / "VIVAE.zip").is_file():
        return _find_files(source / "VIVAE.zip", folder)
    if not files:
        raise UserError(
            f"expected {folder}/ with .wav files at any depth of {source}, or VIVAE.zip in it, "
            f"found neither; {remedy}."
        )
    return source, files


def _folder_paths(source: Path) -> dict[Path, Path]:
    """Return each sound file of a folder, with its path that starts with the name of that folder."""
    root = Path(os.path.abspath(source))
    return {path: root.name / path.relative_to(root) for path in walk_files(root) if _is_wave(path)}


def _is_wave(path: PurePath) -> bool:
    return path.suffix.lower() == ".wav"


def _clip_name(path: PurePath) -> str:
    return path.stem + path.suffix.lower()


def _below(paths: Iterable[PurePath], folder: str, source: Path) -> dict[PurePath, PurePath]:
    """Return the paths below the only folder of that name, each with its part below the folder."""
    locations: dict[PurePath, PurePath] = {}
    roots: set[PurePath] = set()
    for path in paths:
        if folder in path.parts[:-1]:
            depth = path.parts.index(folder) + 1
            roots.add(type(path)(*path.parts[:depth]))
            locations[path] = type(path)(*path.parts[depth:])
    if len(roots) > 1:
        raise UserError(
            f"expected one folder {folder} in {source}, found {len(roots)} "
            f"({first_names(sorted(map(str, roots)))}); give one of them with --data_dir."
        )
    return locations

"""The VIVAE corpus: its archive, its file names, and the published list and lengths of its clips."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..audio import BadAudio, ClipInfo, inspect
from ..files import cache_folder
from ..validation import UserError, check_choice
from .archive import list_members, read_members
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
    walk_files,
)

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset


@dataclass(frozen=True)
class File:
    """A sound file of a subset, as the corpus will hold it.

    Args:
        name: base name, suffix in lower case.
        place: path below the subset's folder.
        audio: bytes or path, as in the column of that name.
        fault: why the archive could not give it; empty where it could.
    """

    name: str
    place: str
    audio: dict[str, Any]
    fault: str = ""


def find_files(source: Path, folder: str) -> tuple[Path, list[File]]:
    """Sound files of one subset, and where they were found: in the source, or in the `VIVAE.zip` that it holds.

    Args:
        source: a folder or an archive.
        folder: `full_set` or `core_set`.

    Raises:
        ValueError: where there are none, or several folders of that name, or the archive is not to be trusted.
    """
    try:
        if is_folder := source.is_dir():
            os.scandir(source).close()
        elif not stat.S_ISREG(source.stat().st_mode):  # a pipe has no end, and a device may have none
            raise FileNotFoundError
    except OSError as error:
        absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise UserError(
            f"expected a folder that holds {folder}/ or a VIVAE.zip at {source}, found "
            f"{'nothing' if absent else error.strerror}; correct --data_dir, or leave it out to download VIVAE."
        ) from error
    if is_folder:
        files = _folder_files(source, folder)
        if not files and (source / "VIVAE.zip").is_file():
            return find_files(source / "VIVAE.zip", folder)
    else:
        files = _archive_files(source, folder)
    if not files:
        raise UserError(
            f"expected {folder}/ with .wav files at any depth of {source}, or VIVAE.zip in it, "
            "found neither; correct --data_dir, or leave it out to download VIVAE."
        )
    return source, files


def find_names(source: Path, folder: str) -> set[str]:
    """Names of the sound files of one subset, which are not read; none where the source lacks it.

    Args:
        source: the folder or archive in which `find_files` found the other subset.
        folder: `full_set` or `core_set`.

    Raises:
        ValueError: where there are several folders of that name.
    """
    paths = _folder_paths(source).values() if source.is_dir() else list_members(source)
    return {_clip_name(path) for path in _below(filter(_is_wave, paths), folder, source)}


def _folder_files(source: Path, folder: str) -> list[File]:
    paths = _folder_paths(source)
    places = _below(paths.values(), folder, source)
    return [
        File(_clip_name(path), str(places[inner]), {"bytes": None, "path": str(path)})
        for path, inner in paths.items()
        if inner in places
    ]


def _folder_paths(source: Path) -> dict[Path, Path]:
    """Each sound file of a folder, with its path from that folder's name on."""
    root = Path(os.path.abspath(source))
    return {path: root.name / path.relative_to(root) for path in walk_files(root) if _is_wave(path)}


def _archive_files(source: Path, folder: str) -> list[File]:
    members = read_members(source, lambda path: _is_wave(path) and folder in path.parts[:-1])
    places = _below((member.path for member in members), folder, source)
    return [
        File(
            _clip_name(member.path),
            str(places[member.path]),
            {"bytes": member.content, "path": member.path.name},
            member.fault,
        )
        for member in members
    ]


def _is_wave(path: PurePath) -> bool:
    return path.suffix.lower() == ".wav"


def _clip_name(path: PurePath) -> str:
    return path.stem + path.suffix.lower()


def _below(paths: Iterable[PurePath], folder: str, source: Path) -> dict[PurePath, PurePath]:
    """Paths below the one folder of that name, with the part of each that lies below it."""
    places: dict[PurePath, PurePath] = {}
    roots: set[PurePath] = set()
    for path in paths:
        if folder in path.parts[:-1]:
            depth = path.parts.index(folder) + 1
            roots.add(type(path)(*path.parts[:depth]))
            places[path] = type(path)(*path.parts[depth:])
    if len(roots) > 1:
        raise UserError(
            f"expected one folder {folder} in {source}, found {len(roots)} "
            f"({first_names(sorted(map(str, roots)))}); give the one that is meant with --data_dir."
        )
    return places


ZENODO_URL = "https://zenodo.org/api/records/4066235/files/VIVAE.zip/content"
ZENODO_FILE = ("4066235", "VIVAE.zip")
SUBSETS = {"full": "full_set", "core": "core_set"}
CORE_CLIPS = 480
FILE_NAME = re.compile(rf"(S[0-9]{{2}})_({'|'.join(EMOTIONS)})_({'|'.join(INTENSITIES)})_([0-9]{{1,3}})\.wav")

logger = logging.getLogger(__name__)


def load_vivae(
    path: str | Path | None = None,
    subset: str = "full",
    allow_partial: bool = False,
    on_bad_audio: str = "error",
    url: str = ZENODO_URL,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """`Dataset` of `read_vivae`; what was missing or left out goes to the log as one warning."""
    corpus = read_vivae(path, subset, allow_partial, on_bad_audio, url, cache_dir)
    if corpus.problems:
        logger.warning("VIVAE, %d problems: %s.", len(corpus.problems), first_names(corpus.problems))
    return corpus.dataset


def read_vivae(
    path: str | Path | None = None,
    subset: str = "full",
    allow_partial: bool = False,
    on_bad_audio: str = "error",
    url: str = ZENODO_URL,
    cache_dir: str | Path | None = None,
) -> Corpus:
    """VIVAE from a folder, from its archive, or from the archive's address; rows in the order of names.

    Args:
        path: a folder that holds `full_set/` (`core_set/`) at any depth, flat or with subfolders, or
            `VIVAE.zip`; by default the archive is downloaded once to the cache. An archive is read in place,
            never unpacked.
        subset: "full", compared with the shipped list of 1085 names; or "core", whose list is not published
            with this package, so that only the form of the names and their number (480) are checked. A full set
            whose clips are not as long as VIVAE's has that as a problem, unless it is the archive of Zenodo, whose
            checksum was compared. In the full set, the column `core` says whether `core_set/` of the same folder or
            archive has that name, too; it is None where there is no `core_set/`, or one with other names.
        allow_partial: use the clips that are good, and list everything else in `Corpus.problems`.
        on_bad_audio: "skip" leaves out clips whose sound cannot be used; missing and unknown files stay
            errors.
        url: address of the archive, for a mirror.
        cache_dir: folder of the downloaded archive; by default that of
            `hf_vivae.corpus.download.cache_folder`.

    Raises:
        CorpusError: where the files are not those of VIVAE; its `problems` names all of them.
        ValueError: where there is no such folder or archive, the archive is not to be trusted, or the clips are those
            that `synthetic` or `noise` make, wherever they lie.
        NetworkError: where the archive has to be downloaded and cannot be.
    """
    check_choice("--subset", subset, SUBSETS)
    check_choice("--on_bad_audio", on_bad_audio, ON_BAD_AUDIO)
    source = Path(path) if path is not None else download(url, archive_path(url, cache_dir))
    problems = Problems()
    source, rows = read_rows(source, subset, problems)
    # the checksum of another file at Zenodo proves that other file
    verified = path is None and zenodo_file(url) == ZENODO_FILE and is_verified(source)
    _check_recorded(source, subset, rows, verified, problems)
    accepted = problems.keys() if allow_partial else {BAD_AUDIO} if on_bad_audio == "skip" else set()
    if not rows or problems.keys() - accepted:
        raise _error(source, subset, problems)
    return Corpus("vivae" if subset == "full" else "vivae-core", build_dataset(rows), problems.lines())


def read_rows(source: Path, subset: str, problems: Problems) -> tuple[Path, list[dict[str, Any]]]:
    """Clips under VIVAE's names that can be used, whoever made them, and the folder or archive that holds them.

    Rows are those of `build_dataset`, with the standard deviation of the samples as `deviation`, and that of the
    differences between neighbours as `step`.

    Args:
        source: a folder or an archive.
        subset: "full" or "core".
        problems: where everything else is added.

    Raises:
        ValueError: see `find_files`.
    """
    source, found = find_files(source, SUBSETS[subset])
    files = _by_name(found, problems)
    if subset == "core":
        core = set(files)
        files = _check_core(files, problems)
    else:
        files = _check_full(files, problems)
        core = _find_core(source)
    return source, [row for name in sorted(files) if (row := _row(files[name], core, problems))]


def archive_path(url: str = ZENODO_URL, cache_dir: str | Path | None = None) -> Path:
    """Where the archive of an address is kept."""
    # A mirror's copy must not pass for the original, nor the other way round.
    mark = "" if url == ZENODO_URL else "-" + hashlib.sha256(url.encode()).hexdigest()[:8]
    return Path(cache_dir or cache_folder(), f"VIVAE{mark}.zip")


def _by_name(files: list[File], problems: Problems) -> dict[str, File]:
    problems.note("badly named", sorted(file.place for file in files if not FILE_NAME.fullmatch(file.name)))
    places: dict[str, list[File]] = {}
    for file in sorted(files, key=lambda file: file.place):
        if FILE_NAME.fullmatch(file.name):
            places.setdefault(file.name, []).append(file)
    problems.note(
        "duplicate",
        [f"{same.place}, as {first.place}" for first, *others in places.values() for same in others],
    )
    return {name: same[0] for name, same in places.items()}


def _check_full(files: dict[str, File], problems: Problems) -> dict[str, File]:
    expected = {row["file_name"] for row in read_manifest()}
    problems.note("missing", sorted(expected - files.keys()))
    problems.note("extra", sorted(files.keys() - expected))
    return {name: file for name, file in files.items() if name in expected}


def _check_core(files: dict[str, File], problems: Problems) -> dict[str, File]:
    if len(files) != CORE_CLIPS:
        problems.note("wrong number", [f"{len(files)} clips in core_set, not {CORE_CLIPS}; their names are not known"])
    return files


def _find_core(source: Path) -> set[str] | None:
    core = find_names(source, SUBSETS["core"])
    strange = sorted(core - {row["file_name"] for row in read_manifest()})
    if strange:  # the full set is whole without it
        logger.warning(
            "core_set has names that full_set has not (%s): column core is left empty.", first_names(strange)
        )
    return core if core and not strange else None


def _check_recorded(source: Path, subset: str, rows: list[dict[str, Any]], verified: bool, problems: Problems) -> None:
    """Refuse clips that this package has made, and note it where a full set is not as long as VIVAE's."""
    from .generated import find_maker

    lengths = [round(row["duration"] * SAMPLING_RATE) for row in rows]
    if maker := find_maker(lengths, *([row[key] for row in rows] for key in ("deviation", "step"))):
        raise UserError(
            f"expected the recordings of VIVAE in {source}, found clips that --data {maker} makes; "
            f"use --data {maker}, or give the folder or archive of VIVAE with --data_dir."
        )
    whole = subset == "full" and len(rows) == len(read_manifest())
    if whole and not verified and (difference := compare_lengths(lengths)):
        problems.note("with other lengths than VIVAE", [difference])


def _row(file: File, core: set[str] | None, problems: Problems) -> dict[str, Any] | None:
    try:
        info, samples = _check_sound(file)
    except BadAudio as error:
        problems.note(BAD_AUDIO, [f"{file.name}: expected {error.expected}, found {error.found}"])
        return None
    speaker, emotion, intensity, item = FILE_NAME.fullmatch(file.name).groups()
    labels = {"speaker": speaker, "emotion": emotion, "intensity": intensity, "item": item}
    in_core = None if core is None else file.name in core
    steps = samples[1:] - samples[:-1] if len(samples) > 1 else samples
    measured = {"duration": info.duration, "deviation": float(samples.std()), "step": float(steps.std())}
    return {"audio": file.audio, "file": file.name, "core": in_core} | measured | labels


def _check_sound(file: File) -> tuple[ClipInfo, np.ndarray]:
    if file.fault:
        raise BadAudio(file.name, "a whole file", file.fault)
    info = inspect(file.audio, file.name)
    if info.channels != 1:
        raise BadAudio(file.name, "mono sound", f"{info.channels} channels")
    if info.sampling_rate != SAMPLING_RATE:
        raise BadAudio(file.name, f"{SAMPLING_RATE} Hz", f"{info.sampling_rate} Hz")
    return info, load_clip(file.audio, name=file.name)[0]  # damage and NaN show only when the sound is decoded


def _error(source: Path, subset: str, problems: Problems) -> CorpusError:
    expected = f"the {CORE_CLIPS} clips of core_set" if subset == "core" else "the 1085 clips of full_set"
    return CorpusError(
        f"expected {expected} in {source}, found {problems}; get VIVAE.zip again from "
        "https://doi.org/10.5281/zenodo.4066235, or use the clips that are good with --allow_partial.",
        problems.lines(),
    )


VIVAE_CLIPS = 1085

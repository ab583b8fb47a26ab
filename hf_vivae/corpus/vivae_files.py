"""Where the sound files of VIVAE lie: in a folder, or in its archive, at any depth below `full_set` or `core_set`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..validation import UserError
from .archive import list_members, read_members
from .schema import first_names, walk_files


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

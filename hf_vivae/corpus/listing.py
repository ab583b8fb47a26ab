"""Files of a folder by name in one Unicode form, and a check that links do not lead out of the folder."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

from ..files import walk_files
from ..validation import UserError, readable


def normalize(text: str) -> str:
    """Return the text in NFC; macOS stores accents in file names as separate characters, other systems do not."""
    return unicodedata.normalize("NFC", text)


def real_folders(root: Path) -> tuple[Path, ...]:
    """Return the real folders that may contain the files of a folder: the folder itself, and the blobs of its
    repository if it is a snapshot in the Hub's cache.
    """
    real = Path(os.path.realpath(root))
    return real, *(parent.parent / "blobs" for parent in real.parents if parent.name == "snapshots")


class Listing:
    """Files below a folder by their names in NFC, so that the same clips have the same order and digest everywhere.

    Args:
        root: the folder.
        accepts: returns True for the files to list.

    Attributes:
        paths: paths of each name; several for names that differ only in their Unicode form.

    Raises:
        UserError: for a folder that does not exist or cannot be read.
    """

    def __init__(self, root: Path, accepts: Callable[[Path], bool]) -> None:
        try:
            os.scandir(root).close()
        except OSError as error:
            absent = isinstance(error, FileNotFoundError | NotADirectoryError)
            raise UserError(
                f"expected a folder of labelled clips at {root}, found {'none' if absent else error.strerror}; "
                "correct --data_dir."
            ) from error
        self.root = root
        self._folders = real_folders(root)
        self.paths: dict[str, list[Path]] = {}
        for path in filter(accepts, walk_files(root, lambda folder: not self.target_outside(folder))):
            self.paths.setdefault(normalize(readable(path.relative_to(root).as_posix())), []).append(path)

    def find(self, name: str) -> Path:
        """Return the path of a file below the root, with its name in any Unicode form; an absent file's as given."""
        path = self.root / name
        return path if os.path.isfile(path) else self.paths.get(normalize(name), [path])[0]

    def name_of(self, name: str) -> str:
        """Return the name in the form of the keys of `paths`: relative to the root, in NFC."""
        parts = Path(name)
        if parts.is_absolute() or ".." in parts.parts:
            parts = Path(os.path.relpath(self._resolve(self.root / name), self._folders[0]))
        return normalize(parts.as_posix())

    def target_outside(self, path: Path) -> Path | None:
        """Return the target of a path outside the folder; None for paths that lead to a place inside."""
        real = self._resolve(path)
        return None if any(real.is_relative_to(folder) for folder in self._folders) else real

    @staticmethod
    def _resolve(path: Path) -> Path:
        try:
            return Path(os.path.realpath(path))
        except ValueError:  # a null byte, which no file name contains
            return path.absolute()

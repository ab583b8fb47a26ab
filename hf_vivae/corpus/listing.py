"""The files of a folder by name, in one Unicode form, and where each of them really lies."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

from ..validation import UserError, readable
from .schema import walk_files


def normalize(text: str) -> str:
    """The text in NFC: macOS writes an accent as a character of its own, and others do not."""
    return unicodedata.normalize("NFC", text)


def real_folders(root: Path) -> tuple[Path, ...]:
    """Return where files of a folder may lie once links are followed: in the folder, and if it is a snapshot in the
    Hub's cache, in the blobs of its repository.
    """
    real = Path(os.path.realpath(root))
    return real, *(parent.parent / "blobs" for parent in real.parents if parent.name == "snapshots")


class Listing:
    """Files below a folder by their names in NFC, so that the same clips have the same order and digest everywhere.

    Args:
        root: the folder.
        wanted: whether a file counts, by its name.

    Attributes:
        paths: where the files of each name lie; several where names differ by their Unicode form only.

    Raises:
        ValueError: where there is no such folder, or it cannot be read.
    """

    def __init__(self, root: Path, wanted: Callable[[Path], bool]) -> None:
        try:
            os.scandir(root).close()
        except OSError as error:
            absent = isinstance(error, FileNotFoundError | NotADirectoryError)
            raise UserError(
                f"expected a folder of labelled clips at {root}, found {'none' if absent else error.strerror}; "
                "correct --data_dir."
            ) from error
        self.root = root
        self._homes = real_folders(root)
        self.paths: dict[str, list[Path]] = {}
        for path in filter(wanted, walk_files(root, lambda folder: not self.leads_out(folder))):
            self.paths.setdefault(normalize(readable(path.relative_to(root).as_posix())), []).append(path)

    def find(self, name: str) -> Path:
        """Path of a file below the root, whichever Unicode form its name has; as written where there is none."""
        written = self.root / name
        return written if os.path.isfile(written) else self.paths.get(normalize(name), [written])[0]

    def name_of(self, name: str) -> str:
        """A name as `paths` has it, however it is written."""
        parts = Path(name)
        if parts.is_absolute() or ".." in parts.parts:
            parts = Path(os.path.relpath(self._end_of(self.root / name), self._homes[0]))
        return normalize(parts.as_posix())

    def leads_out(self, path: Path) -> Path | None:
        """Return where a path ends, if that is not below the root."""
        real = self._end_of(path)
        return None if any(real.is_relative_to(home) for home in self._homes) else real

    @staticmethod
    def _end_of(path: Path) -> Path:
        try:
            return Path(os.path.realpath(path))
        except ValueError:  # a zero byte, with which there is no file
            return path.absolute()

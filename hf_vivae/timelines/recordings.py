"""Recordings that a command line names, and the names of their output files."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..inference.sources import find_files

RECORD = "_timeline.json"  # in an output folder: the settings of its timelines
# in the output folder, not of a recording
TABLES = ("segments", "summary", "agreement", "agreement_labels", "_errors", "_timeline")


@dataclass(frozen=True)
class RecordingFile:
    """A recording among several.

    Args:
        path: of the audio file, as the command line or its folder names it.
        stem: of its files in an output folder, with `/` between folders.
    """

    path: Path
    stem: str

    def files(self, folder: Path, formats: Sequence[str]) -> list[Path]:
        """Return its files in an output folder, one for each format."""
        return [folder / f"{self.stem}{suffix}" for suffix in formats]


def find_recordings(inputs: Sequence[str]) -> list[RecordingFile]:
    """Return the recordings of files, folders and patterns such as `monday/*.wav`, in order, each once.

    A folder is searched as for `hf-vivae predict`. A file's stem has the folders below the deepest one that contains
    all inputs. It keeps the suffix of the audio file where two recordings would share a stem, also on file systems
    that do not distinguish capitals.

    Args:
        inputs: names as on a command line.

    Raises:
        UserError: for names without a file, and for folders and patterns without recordings.
    """
    files: dict[str, Path] = {}
    roots = set()
    for name in inputs:
        for file in find_files(name, "recordings", "check the path"):
            files.setdefault(os.path.abspath(file), file)
        path = Path(name)
        # of a pattern, the folders before the first wildcard
        fixed = path if path.exists() else Path(f"{re.split('[*?[]', name)[0]}*")
        roots.add(os.path.abspath(path if path.is_dir() else fixed.parent))
    root = os.path.commonpath(roots)
    names = [Path(os.path.relpath(file, root)).as_posix() for file in files]
    stems = [os.path.splitext(name)[0] for name in names]
    counts = Counter(text.casefold() for text in (*stems, *names, *TABLES))
    return [
        RecordingFile(file, stem if counts[stem.casefold()] == 1 else name)
        for file, stem, name in zip(files.values(), stems, names, strict=True)
    ]

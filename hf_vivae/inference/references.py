"""Files that rows of tables and datasets name instead of holding their bytes.

Whoever wrote a table chose these names, so that only files below the table's own folder are read.
"""

import os
from pathlib import Path
from typing import Any

import fsspec

from ..corpus.listing import real_folders
from ..validation import UserError
from .limits import read_whole

ZIP = "zip://"  # as datasets writes the address of a file in an archive: zip://a/b.wav::/data/clips.zip


def read_reference(path: str, root: str) -> str | dict[str, Any]:
    """The sound of a file that a row names: its path, or its bytes where it lies on the Hub or in an archive.

    Args:
        path: of the row: absolute, relative to `root`, or of a file within a ZIP archive there.
        root: folder of the table or the dataset, or `hf://datasets/<id>@<commit>`.

    Raises:
        ValueError: for files that, once links are followed, lie elsewhere; blobs beside a snapshot of the Hub's cache
            are its own.
    """
    inner, _, outer = path.rpartition("::")
    if "://" in root:
        is_below = outer.startswith(f"{root}/") and ".." not in outer.split("/")
    else:
        file = Path(root, outer).resolve()
        is_below, outer = any(file.is_relative_to(home) for home in real_folders(Path(root))), str(file)
    if not is_below or (inner and (not inner.startswith(ZIP) or "::" in inner)):  # a chain may lead anywhere
        raise UserError(
            f"{Path(path).name}: expected a file below {root}, found {path}; give a table that holds the bytes of its "
            "files, or lies in a folder above them."
        )
    if "://" not in root and not inner:
        return outer
    with fsspec.open(f"{inner}::{outer}" if inner else outer, "rb") as stream:
        return {"bytes": read_whole(stream, Path(path).name), "path": Path(path).name}


def named_file(path: str, root: str) -> str | None:
    """The file that a row names, or the archive that it is in; None on the Hub, where a commit does not change.

    Args:
        path: as for `read_reference`.
        root: as for `read_reference`.
    """
    return None if "://" in root else os.path.join(root, path.rpartition("::")[2])


def relative_name(path: str, root: str) -> str:
    """A path that a dataset lists, without the dataset's own; a file within an archive as if it were a folder."""
    inner, _, outer = path.rpartition("::")
    return "/".join(filter(None, (outer.removeprefix(f"{root}/"), inner.removeprefix(ZIP))))

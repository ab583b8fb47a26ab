"""Clips that have not been decoded, in shards that are read one at a time."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Clip:
    """A clip as it is stored.

    Args:
        file: what its user calls it: a path, the name in a table, or the number of a row.
        sound: in a form that `Scorer.score` takes.
        named: the file on this machine that a row names instead of holding its bytes, or the archive that it is in.
    """

    file: str
    sound: Any
    named: str | None = None


@dataclass(frozen=True)
class Shard:
    """Clips that are read, scored and written together.

    Args:
        key: digest of the names of its clips, or of its place in a table; tells it from other shards.
        version: digest of what says whether these clips have changed; files that are `named` count besides.
        read: gives its clips, again at each call.
        clips: how many there are; None where only reading them tells.
    """

    key: str
    version: str
    read: Callable[[], Iterable[Clip]]
    clips: int | None


def digest(*texts: str) -> str:
    """SHA-256 of texts, of which any may hold what is no UTF-8."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def file_state(path: str | Path) -> str:
    """Size and time of the last change of a file; nothing where it cannot be looked at, which its reader reports."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # the latter for names that no file can have
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"

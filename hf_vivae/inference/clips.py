"""Clips that have not been decoded, in shards that are read one at a time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Clip:
    """A clip as it is stored.

    Args:
        file: what its user calls it: a path, the name in a table, or the number of a row.
        sound: in a form that the pipeline of `hf_vivae.load_classifier` takes.
    """

    file: str
    sound: Any


@dataclass(frozen=True)
class Shard:
    """Clips that are read, scored and written together.

    Args:
        key: tells it from other shards, and from the same one with other clips.
        read: gives its clips, anew at each call.
        clips: how many there are; None where only reading them tells.
    """

    key: str
    read: Callable[[], Iterable[Clip]]
    clips: int | None

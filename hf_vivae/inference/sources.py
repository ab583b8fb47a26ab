"""Where clips to score come from: files, folders, patterns, tables, datasets, standard input."""

import glob
import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path

from ..corpus.folder import may_be_clip
from ..corpus.schema import walk_files
from ..text import readable
from ..validation import UserError
from .clips import Clip, Shard, digest, file_state
from .tables import TABLES, table_shards

FILES_PER_SHARD = 1000
STANDARD_INPUT = "-"


def find_shards(inputs: Sequence[str], sent: bytes = b"") -> Iterator[Shard]:
    """Shards of files, folders, patterns such as `clips/*.wav`, tables, and `-` for standard input, in a fixed order.

    Folders are walked through to their last subfolder; hidden files, tables and those of `corpus.folder.NOT_CLIPS` are
    passed over. Tables are files of Parquet or Arrow with a column of sound, by name or pattern.

    Args:
        inputs: names as a command line gives them.
        sent: what standard input has held.

    Raises:
        ValueError: for what is not there, for folders and patterns without clips, and for tables without sound.
    """
    places = (place for name in inputs for place in ([name] if name == STANDARD_INPUT else _expand(name)))
    for is_clip, some in groupby(places, lambda place: isinstance(place, Path) and not _is_table(place)):
        if is_clip:
            yield from _file_shards(some)
            continue
        for place in some:
            yield from [_standard_input(sent)] if place == STANDARD_INPUT else table_shards(place)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLES


def _file_shards(paths: Iterator[Path]) -> Iterator[Shard]:
    while some := list(islice(paths, FILES_PER_SHARD)):
        clips = [Clip(readable(str(path)), path) for path in some]
        yield Shard(digest(*map(str, some)), digest(*map(file_state, some)), partial(iter, clips), len(clips))


def _expand(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        found = (file for file in walk_files(path) if may_be_clip(file) and not _is_table(file))
    elif path.exists():
        found = iter([path])
    else:
        found = (Path(match) for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file())
    first = next(found, None)
    if first is None:
        raise UserError(
            f"expected {'clips in the folder' if path.is_dir() else 'a file, a folder or a pattern of files at'} "
            f"{name}, found none; correct the name (datasets are given with --dataset)."
        )
    yield first
    yield from found


def _standard_input(sent: bytes) -> Shard:
    return Shard(STANDARD_INPUT, hashlib.sha256(sent).hexdigest(), lambda: [Clip("<stdin>", sent)], 1)

"""Where clips to score come from: files, folders, patterns, tables, datasets, standard input."""

import glob
import hashlib
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from ..corpus.folder import may_be_clip
from ..corpus.schema import walk_files
from ..validation import UserError
from .clips import Clip, Shard
from .tables import TABLES, table_shards

FILES_PER_SHARD = 1000


def find_shards(inputs: Sequence[str]) -> Iterator[Shard]:
    """Shards of files, folders, patterns such as `clips/*.wav`, tables, and `-` for standard input, in a fixed order.

    Folders are walked through to their last subfolder; hidden files and those of `corpus.folder.NOT_CLIPS` are passed
    over. Tables are files of Parquet or Arrow with a column of sound.

    Args:
        inputs: names as a command line gives them.

    Raises:
        ValueError: for what is not there, for folders and patterns without clips, and for tables without sound.
    """
    files: list[str] = []
    for name in inputs:
        is_table = Path(name).suffix.lower() in TABLES
        if name != "-" and not is_table:
            files.append(name)
            continue
        yield from _file_shards(files)
        files = []
        yield from table_shards(Path(name)) if is_table else [_standard_input()]
    yield from _file_shards(files)


def _file_shards(names: Sequence[str]) -> Iterator[Shard]:
    paths = (path for name in names for path in _expand(name))
    while shard := [Clip(str(path), path) for path in islice(paths, FILES_PER_SHARD)]:
        names = "\0".join(clip.file for clip in shard)
        yield Shard(hashlib.sha256(names.encode()).hexdigest(), partial(iter, shard), len(shard))


def _expand(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        found = (file for file in walk_files(path) if may_be_clip(file))
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


def _standard_input() -> Shard:
    return Shard("-", lambda: [Clip("<stdin>", sys.stdin.buffer.read())], 1)

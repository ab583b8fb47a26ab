"""Labels of many clips: each process scores the shards that are its own, and the last one puts the scores together."""

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from tqdm import tqdm

from ..disk import writing
from ..validation import UserError
from .clips import Clip, Shard
from .outputs import WRITERS, write_output
from .parts import KEPT, Parts
from .scorer import Scorer


@dataclass(frozen=True)
class Share:
    """Which of all shards are a process's own.

    Args:
        rank: number of this process among all.
        processes: how many there are.
    """

    rank: int = 0
    processes: int = 1

    @classmethod
    def of_this_process(cls) -> "Share":
        """As `accelerate launch` and `torchrun` number processes, of one machine or of several."""
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    @property
    def device(self) -> str | None:
        """The GPU of this process where several share a machine; None leaves the choice to the pipeline."""
        place = os.environ.get("LOCAL_RANK")
        return f"cuda:{place}" if place and torch.cuda.is_available() else None

    def has(self, number: int) -> bool:
        """Whether a shard, by its place among all, is this process's."""
        return number % self.processes == self.rank


@dataclass(frozen=True)
class Outcome:
    """What became of all clips: how many have scores, and how many have none and are listed with the reason."""

    scored: int
    failed: int


def score_clips(scorer: Scorer, clips: Iterable[Clip], bar: tqdm) -> Iterator[tuple[str, np.ndarray | ValueError]]:
    """Name and probabilities `(labels,)` of each clip, in their order, or why it has none.

    Args:
        scorer: a checkpoint.
        clips: any number; a few hundred are in memory at once.
        bar: counts them, and those that have no scores.
    """
    clips, failed = iter(clips), 0
    while some := list(islice(clips, scorer.clips_at_once)):
        found = scorer.score([clip.sound for clip in some])
        failed += sum(isinstance(scores, ValueError) for scores in found)
        bar.update(len(some))
        bar.set_postfix({"without scores": failed} if failed else {})
        yield from zip((clip.file for clip in some), found, strict=True)


def predict(
    scorer: Scorer, shards: Iterable[Shard], output: Path, settings: dict[str, Any], share: Share, bar: tqdm
) -> Outcome | None:
    """Score shards into a file, or into a folder that keeps a Parquet file for each shard.

    What an earlier start has scored is not scored again. Of several processes, the last to finish puts the scores
    together, so that none waits for another.

    Args:
        scorer: a checkpoint.
        shards: the same in the same order for each process and each start.
        output: a file with a suffix of `WRITERS`, or a folder.
        settings: what scores depend on; scores of an earlier start with others are refused.
        share: of this process.
        bar: counts clips.

    Returns:
        What became of all clips; None where other processes are not done, or have told.

    Raises:
        ValueError: for an output that is there, or holds other scores or files.
        DiskError: where the disk is full.
    """
    is_file = output.suffix in WRITERS
    if is_file and output.exists() and share.rank == 0:
        raise UserError(f"expected a new file as --output, found {output}; remove it, or give another name.")
    folder = output.with_name(f".{output.name}.parts") if is_file else output
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name.lstrip('.')}.lock"))
    with lock, writing(folder.parent, KEPT):
        parts = Parts(folder, settings, scorer.labels)
    count = 0
    for number, shard in enumerate(shards):
        count = number + 1
        if share.has(number) and not parts.is_done(number, shard.key):
            parts.write(number, shard.key, list(score_clips(scorer, shard.read(), bar)))
        elif share.has(number):
            bar.update(parts.rows(number))
    with lock:
        if not folder.is_dir() or not all(parts.path(number).is_file() for number in range(count)):
            return None
        outcome = Outcome(*write_output(output, parts.schema, (parts.read(number) for number in range(count))))
        if is_file:
            shutil.rmtree(folder)
    return outcome

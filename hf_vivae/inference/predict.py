"""Labels of many clips: each process scores the shards that are its own, and the last one puts the scores together."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from ..files import check_place, disk_errors
from ..validation import UserError, printable, readable
from .output import KEPT, WRITERS, PredictionShards, check_errors_file, errors_file, write_output
from .scorer import ClipScores, Scorer
from .sources import STANDARD_INPUT, Shard, StreamedDataset, UnreadClip, file_state, find_shards, read_whole

CLAIM_SECONDS = 1  # for a process that only looks whether another is at work


@dataclass(frozen=True)
class ProcessShard:
    """Which of all shards are a process's own.

    Args:
        rank: number of this process among all.
        processes: how many there are.
    """

    rank: int = 0
    processes: int = 1

    @classmethod
    def of_this_process(cls) -> "ProcessShard":
        """As `accelerate launch` and `torchrun` number processes, of one machine or of several.

        Raises:
            ValueError: for numbers that no launcher sets.
        """
        rank, processes = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not (rank.isdecimal() and processes.isdecimal() and int(rank) < int(processes)):
            raise UserError(
                f"expected RANK below WORLD_SIZE, as launchers set them, found {rank!r} and {processes!r}; unset both."
            )
        return cls(int(rank), int(processes))

    @property
    def device(self) -> str | None:
        """The GPU of this process where several share a machine; None leaves the choice to the pipeline."""
        place = os.environ.get("LOCAL_RANK")
        return f"cuda:{place}" if place and torch.cuda.is_available() else None

    def has(self, number: int) -> bool:
        """Whether a shard, by its place among all, is this process's."""
        return number % self.processes == self.rank


@dataclass(frozen=True)
class PredictResult:
    """Numbers of clips with scores and without.

    Args:
        scored: how many have scores.
        failed: how many have none, and are listed with the reason.
        longer: how many are longer than the model's input, and were used in part.
    """

    scored: int
    failed: int
    longer: int = field(default=0, compare=False)


def score_clips(
    scorer: Scorer, clips: Iterable[UnreadClip], bar: tqdm
) -> Iterator[tuple[str, ClipScores | ValueError]]:
    """Name and scores of each clip, in their order, or why it has none.

    Args:
        scorer: a checkpoint.
        clips: any number; a few hundred are in memory at once.
        bar: counts them, and those that have no scores.
    """
    clips, failed = iter(clips), 0
    while some := list(islice(clips, scorer.clips_at_once)):
        results = scorer.score_clips([clip.sound for clip in some])
        failed += sum(isinstance(result, ValueError) for result in results)
        bar.update(len(some))
        bar.set_postfix({"without scores": failed} if failed else {})
        yield from zip((clip.file for clip in some), results, strict=True)


def predict(
    scorer: Scorer, shards: Iterable[Shard], output: Path, settings: dict[str, Any], share: ProcessShard, bar: tqdm
) -> PredictResult | None:
    """Score shards into a file, or into a folder that keeps a Parquet file for each shard.

    What an earlier start has scored is not scored again, unless its clips have changed or could not be read. Of
    several processes, the last to finish puts the scores together, so that none waits for another.

    Args:
        scorer: a checkpoint.
        shards: the same in the same order for each process and each start.
        output: a file with a suffix of `WRITERS`, or a folder.
        settings: what scores depend on; scores of an earlier start with others are refused.
        share: of this process.
        bar: counts clips, and says where parts of other processes are missing.

    Returns:
        What became of all clips; None where other processes are not done, or have told.

    Raises:
        ValueError: for an output that is there, cannot be written to, or holds other scores or files, and where
            another process with the same share is at work on it.
        DiskError: where the disk is full.
    """
    if (name := readable(str(output))) != str(output):  # which Arrow does not open
        raise UserError(f"expected --output with a name in UTF-8, found {name}; give another name.")
    if output.name in ("", ".."):
        output = Path(os.path.abspath(output))
    if not output.name:
        raise UserError(f"expected --output as a file or a new folder, found {output}; give another place.")
    is_file = output.suffix in WRITERS
    folder = output.with_name(f".{output.name}.parts") if is_file else output
    check_place(output)  # a lock waits for ever where it cannot be made
    lock, *claims = (
        FileLock(folder.with_name(f".{folder.name.lstrip('.')}{rank}.lock"))
        for rank in ("", *(f".{rank}" for rank in range(share.processes)))
    )
    own = claims.pop(share.rank)
    with _claim(own, output):
        if is_file and output.exists():
            if share.rank:
                return None
            raise UserError(f"expected a new file as --output, found {output}; remove it, or give another name.")
        check_errors_file(output)
        with lock, disk_errors(folder.parent, KEPT):
            parts = PredictionShards(folder, settings, scorer.labels)
        done = []
        for number, shard in enumerate(shards):
            done.append((number, shard.key, shard.version))
            if not share.has(number):
                continue
            if parts.is_done(*done[-1]) and not parts.is_worth_retrying(number):
                bar.update(parts.rows(number))
            else:
                named: dict[str, str] = {}
                scores = list(score_clips(scorer, _note_files(shard.read(), named), bar))
                parts.write(*done[-1], scores, named)
    with lock:
        if not folder.is_dir():
            return None
        if removed := parts.remove_beyond(len(done)):
            bar.write(
                f"{removed} parts of an earlier start, whose clips are no longer asked for, were removed.",
                file=sys.stderr,
            )
        missing = sum(not parts.is_done(*shard) for shard in done)
        if missing:
            bar.write(
                f"{missing} of {len(done)} parts are missing, which other processes score; where none of these is at "
                "work any more, repeat the command.",
                file=sys.stderr,
            )
        if missing or not all(map(_is_free, claims)):
            return None
        tables = (parts.read(number) for number in range(len(done)))
        outcome = PredictResult(*write_output(output, parts.schema, tables, scorer.longest_input))
        if is_file:
            shutil.rmtree(folder)
    return outcome


def _note_files(clips: Iterable[UnreadClip], states: dict[str, str]) -> Iterator[UnreadClip]:
    """Pass clips on; note the state of files that their rows name before they are decoded."""
    for clip in clips:
        if clip.named is not None:
            states[clip.named] = file_state(clip.named)
        yield clip


@contextmanager
def _claim(lock: FileLock, output: Path) -> Iterator[None]:
    try:
        lock.acquire(CLAIM_SECONDS)
    except Timeout as error:
        raise UserError(
            f"expected no other process at work on {output}, found one; wait for its end, give another --output, or "
            "share the work with accelerate launch."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _is_free(claim: FileLock) -> bool:
    try:
        claim.acquire(0)
    except Timeout:
        return False
    claim.release()
    return True


SOME_FAILED = 3  # exit code


def run_predict(
    checkpoint: str,
    inputs: Sequence[str],
    *,
    output: Path | None = None,
    dataset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    bf16: bool = False,
) -> int:
    """Label clips, print or write the labels, and return the exit code."""
    if bool(inputs) == bool(dataset):
        raise UserError("expected clips or --dataset, found both or neither; give one of the two.")
    if output and output.suffix and output.suffix not in WRITERS:
        raise UserError(
            f"expected --output as {', '.join(WRITERS)} or a folder, found {output.name}; give one of them."
        )

    sent = read_whole(sys.stdin.buffer, "<stdin>") if STANDARD_INPUT in inputs else b""
    streamed = StreamedDataset(dataset, split) if dataset else None

    def shards() -> Iterable[Shard]:
        return streamed.shards() if streamed else find_shards(inputs, sent)

    counts = [shard.clips for shard in shards()]  # also refuses inputs that are not there, before anything is loaded
    share = ProcessShard.of_this_process()
    own = [count for number, count in enumerate(counts) if share.has(number)]
    scorer = Scorer(checkpoint, revision, device or share.device, batch_size, workers, bf16)
    total = None if None in own else sum(own)
    with tqdm(total=total, unit="clip", disable=None if output else True, smoothing=0.05) as bar:
        if output is None:
            return _print_table(scorer, shards(), bar)
        settings = {"checkpoint": scorer.identity, "bf16": bf16}
        outcome = predict(scorer, shards(), output, settings, share, bar)
    if outcome is None:
        return 0
    return _report(outcome, scorer, output)


def _print_table(scorer: Scorer, shards: Iterable[Shard], bar: tqdm) -> int:
    failed = longer = 0
    for shard in shards:
        for file, result in score_clips(scorer, shard.read(), bar):
            if isinstance(result, ValueError):
                failed += 1
                print(f"{_shown(file)}\t{_shown(str(result))}", file=sys.stderr)
                continue
            longer += result.duration > scorer.longest_input
            scores = result.probabilities
            likeliest = (f"{scorer.labels[place]} {scores[place]:.0%}" for place in np.argsort(-scores)[:3])
            print(f"{_shown(file)}\t{_shown('  '.join(likeliest))}")
    if longer:
        print(_longer(longer, scorer), file=sys.stderr)
    return SOME_FAILED if failed else 0


def _report(outcome: PredictResult, scorer: Scorer, output: Path) -> int:
    print(f"{outcome.scored} clips scored: {_shown(str(output))}")
    if outcome.longer:
        print(f"{_longer(outcome.longer, scorer)} (column duration_used)", file=sys.stderr)
    if not outcome.failed:
        return 0
    print(f"{outcome.failed} clips not, with the reason: {_shown(str(errors_file(output)))}", file=sys.stderr)
    return SOME_FAILED


def _longer(count: int, scorer: Scorer) -> str:
    return (
        f"{count} clips are longer than the {scorer.longest_input:.3g} s that the model takes, and were used in part"
    )


def _shown(text: str) -> str:
    """Text as the terminal can show it, in whatever encoding."""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)

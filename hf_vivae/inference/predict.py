"""Labels of many clips: each process scores its own shards, and the last one to finish joins the scores."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from ..files import check_place, disk_errors
from ..models.cpu_attention import has_bfloat16
from ..validation import UserError, printable, readable
from .output import KEPT, WRITERS, PredictionShards, check_errors_file, errors_file, write_output
from .scorer import ClipScores, Scorer
from .sources import STANDARD_INPUT, Shard, UnreadClip, file_state, find_shards, read_whole

CLAIM_SECONDS = 1  # wait, since another process may hold the lock for a moment to see whether it is free


@dataclass(frozen=True)
class ProcessShard:
    """The shards that one of several processes scores.

    Args:
        rank: number of this process among all.
        processes: number of all processes.
    """

    rank: int = 0
    processes: int = 1

    @classmethod
    def of_this_process(cls) -> "ProcessShard":
        """Return the share by the numbers of `accelerate launch` and `torchrun`, on one machine or several.

        Raises:
            UserError: for numbers that no launcher sets.
        """
        rank, processes = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not (rank.isdecimal() and processes.isdecimal() and int(rank) < int(processes)):
            raise UserError(
                f"expected RANK below WORLD_SIZE, as launchers set them, found {rank!r} and {processes!r}; unset both."
            )
        return cls(int(rank), int(processes))

    @property
    def device(self) -> str | None:
        """Return the GPU of this process where several share a machine; None leaves the choice to the pipeline."""
        rank = os.environ.get("LOCAL_RANK")
        return f"cuda:{rank}" if rank and torch.cuda.is_available() else None

    def has(self, number: int) -> bool:
        """Return whether a shard, by its index, belongs to this process."""
        return number % self.processes == self.rank


@dataclass(frozen=True)
class PredictResult:
    """Result of a prediction: numbers of clips with scores and without.

    Args:
        scored: clips with scores.
        failed: clips without scores, listed with the reason.
        longer: clips longer than the model's input, of which a part was used.
    """

    scored: int
    failed: int
    longer: int = field(default=0, compare=False)


def score_clips(
    scorer: Scorer, clips: Iterable[UnreadClip], bar: tqdm
) -> Iterator[tuple[str, ClipScores | ValueError]]:
    """Yield the name of each clip, in order, with its scores or the error.

    Args:
        scorer: a checkpoint.
        clips: any number; a few hundred are in memory at once.
        bar: counts the clips, and those without scores.
    """
    clips, failed = iter(clips), 0
    chunks = iter(lambda: [(clip.file, clip.sound) for clip in islice(clips, scorer.clips_at_once)], [])
    for results in scorer.score_chunks(chunks):
        failed += sum(isinstance(scores, ValueError) for _, scores in results)
        bar.update(len(results))
        bar.set_postfix({"without scores": failed} if failed else {})
        yield from results


def predict(
    scorer: Scorer, shards: Iterable[Shard], output: Path, settings: dict[str, Any], share: ProcessShard, bar: tqdm
) -> PredictResult | None:
    """Score shards into a file, or into a folder with a Parquet file for each shard.

    Shards of an earlier start are not scored again, unless their clips have changed or could not be read. Of several
    processes, the last to finish joins the scores, so that none waits for another.

    Args:
        scorer: a checkpoint.
        shards: the same in the same order for each process and each start.
        output: a file with a suffix of `WRITERS`, or a folder.
        settings: on which the scores depend; scores of an earlier start with others are refused.
        share: of this process.
        bar: counts clips, and prints how many parts of other processes are missing.

    Returns:
        Numbers of all clips; None where other processes have not finished, or have already joined the scores.

    Raises:
        UserError: for an output that exists, cannot be written to, or has other scores or files, and where another
            process with the same share is at work on it.
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
    check_place(output)  # FileLock would wait for ever where it cannot make its file
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
                scores = list(score_clips(scorer, _record_files(shard.read(), named), bar))
                parts.write(*done[-1], scores, named)
    with lock:
        if not folder.is_dir():
            return None
        if removed := parts.remove_beyond(len(done)):
            bar.write(
                f"{removed} parts of an earlier start, with clips that are no longer in the input, were removed.",
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
        result = PredictResult(*write_output(output, parts.schema, tables, scorer.longest_input))
        if is_file:
            shutil.rmtree(folder)
    return result


def _record_files(clips: Iterable[UnreadClip], states: dict[str, str]) -> Iterator[UnreadClip]:
    """Yield clips, and record the state of files that their rows name before they are decoded."""
    for clip in clips:
        if clip.named is not None:
            states[clip.named] = file_state(clip.named)
        yield clip


def _claim(lock: FileLock, output: Path) -> AbstractContextManager:
    """Acquire the lock of this process's share, and return the context that releases it."""
    try:
        return lock.acquire(CLAIM_SECONDS)
    except Timeout as error:
        raise UserError(
            f"expected no other process at work on {output}, found one; wait for its end, give another --output, or "
            "share the work with accelerate launch."
        ) from error


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

    content = read_whole(sys.stdin.buffer, "<stdin>") if STANDARD_INPUT in inputs else b""
    streamed = None
    if dataset:
        from .streamed_dataset import StreamedDataset  # imports datasets, which files and tables do not need

        streamed = StreamedDataset(dataset, split)

    def shards() -> Iterable[Shard]:
        return streamed.shards() if streamed else find_shards(inputs, content)

    counts = [shard.clips for shard in shards()]  # also refuses missing inputs before anything is loaded
    share = ProcessShard.of_this_process()
    own = [count for number, count in enumerate(counts) if share.has(number)]
    scorer = Scorer(checkpoint, revision, device or share.device, batch_size, workers, bf16)
    total = None if None in own else sum(own)
    with tqdm(total=total, unit="clip", disable=None if output else True, smoothing=0.05) as bar:
        if output is None:
            return _print_table(scorer, shards(), bar)
        settings = {"checkpoint": scorer.identity, "bf16": bf16}
        result = predict(scorer, shards(), output, settings, share, bar)
    if result is None:
        return 0
    if not bf16 and scorer.model.device.type == "cpu" and has_bfloat16():
        print("This processor has instructions for bfloat16: --bf16 would have been faster.", file=sys.stderr)
    print(f"{result.scored} clips scored: {_terminal_text(str(output))}")
    if result.longer:
        print(f"{_cut_clips_note(result.longer, scorer)} (column duration_used)", file=sys.stderr)
    if not result.failed:
        return 0
    print(f"{result.failed} clips not, with the reason: {_terminal_text(str(errors_file(output)))}", file=sys.stderr)
    return SOME_FAILED


def _print_table(scorer: Scorer, shards: Iterable[Shard], bar: tqdm) -> int:
    failed = longer = 0
    for shard in shards:
        for file, result in score_clips(scorer, shard.read(), bar):
            if isinstance(result, ValueError):
                failed += 1
                print(f"{_terminal_text(file)}\t{_terminal_text(str(result))}", file=sys.stderr)
                continue
            longer += result.duration > scorer.longest_input
            scores = result.probabilities
            likeliest = (f"{scorer.labels[index]} {scores[index]:.0%}" for index in np.argsort(-scores)[:3])
            print(f"{_terminal_text(file)}\t{_terminal_text('  '.join(likeliest))}")
    if longer:
        print(_cut_clips_note(longer, scorer), file=sys.stderr)
    return SOME_FAILED if failed else 0


def _cut_clips_note(count: int, scorer: Scorer) -> str:
    return (
        f"{count} clips are longer than the {scorer.longest_input:.3g} s that the model takes, and were used in part"
    )


def _terminal_text(text: str) -> str:
    """Return text that the terminal can show in its encoding."""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)

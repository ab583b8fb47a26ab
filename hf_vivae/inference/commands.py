"""What the subcommands of `hf-vivae` do, from their flags to their last line."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..text import printable
from ..validation import UserError
from .clips import Shard
from .limits import read_whole
from .outputs import WRITERS, errors_file
from .predict import Outcome, Share, predict, score_clips
from .scorer import Scorer
from .sources import STANDARD_INPUT, find_shards
from .streams import StreamedDataset

SOME_FAILED = 3  # exit code


def run_predict(
    checkpoint: str,
    inputs: Sequence[str],
    output: Path | None,
    dataset: str | None,
    split: str,
    revision: str | None,
    device: str | None,
    batch_size: int | None,
    workers: int | None,
    bf16: bool,
) -> int:
    """Label clips; the exit code."""
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
    share = Share.of_this_process()
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


def _report(outcome: Outcome, scorer: Scorer, output: Path) -> int:
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

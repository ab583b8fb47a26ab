"""What the subcommands of `hf-vivae` do, from their flags to their last line."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..validation import UserError
from .clips import Shard
from .outputs import WRITERS
from .predict import Outcome, Share, predict, score_clips
from .scorer import Scorer
from .sources import find_shards
from .tables import dataset_shards

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

    def shards() -> Iterable[Shard]:
        return dataset_shards(dataset, split) if dataset else find_shards(inputs)

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
    return _say(outcome, output)


def _print_table(scorer: Scorer, shards: Iterable[Shard], bar: tqdm) -> int:
    failed = 0
    for shard in shards:
        for file, scores in score_clips(scorer, shard.read(), bar):
            if isinstance(scores, ValueError):
                failed += 1
                print(scores, file=sys.stderr)
            else:
                best = np.argsort(-scores)[:3]
                print(file, "  ".join(f"{scorer.labels[place]} {scores[place]:.0%}" for place in best), sep="\t")
    return SOME_FAILED if failed else 0


def _say(outcome: Outcome, output: Path) -> int:
    print(f"{outcome.scored} clips scored: {output}")
    if not outcome.failed:
        return 0
    errors = output.with_name(f"{output.stem}.errors.csv") if output.suffix in WRITERS else output / "_errors.csv"
    print(f"{outcome.failed} clips not, with the reason: {errors}", file=sys.stderr)
    return SOME_FAILED

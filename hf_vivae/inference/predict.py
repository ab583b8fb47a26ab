"""Labels of many clips, printed or written to a file or a folder."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from ..models.cpu_attention import has_bfloat16
from ..validation import UserError
from .output import DURATION, ERROR, WRITERS, errors_file, terminal_text, write_output
from .scorer import ClipScores, Scorer
from .shards import Parts, ProcessShard, Row, work_through
from .sources import STANDARD_INPUT, Shard, UnreadClip, find_shards, read_whole

RECORD = "_predict.json"  # of the settings, in the folder of parts


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

    See `work_through` for shards of an earlier start and of other processes. Columns are the clip's file, label,
    probability, a `p_<label>` for each label, duration and how much of it was used in seconds, and error.

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
        UserError: as `work_through`.
        DiskError: as `work_through`.
    """
    labels, text = scorer.labels, pa.string()
    columns = [("file", text), ("label", text), ("probability", pa.float32())]
    columns += [(f"p_{label}", pa.float32()) for label in labels]
    columns += [(DURATION, pa.float64()), ("duration_used", pa.float64()), (ERROR, text)]
    schema = pa.schema(columns)

    def open_parts(folder: Path) -> Parts:
        return Parts(folder, RECORD, settings | {"labels": labels}, schema, "scores")

    def compute(clips: Iterable[UnreadClip]) -> Iterator[Row]:
        for file, result in score_clips(scorer, clips, bar):
            if isinstance(result, ValueError):
                yield file, result
                continue
            probabilities, best = map(float, result.probabilities), int(result.probabilities.argmax())
            scores = {f"p_{label}": score for label, score in zip(labels, probabilities, strict=True)}
            used = {DURATION: result.duration, "duration_used": result.duration_used}
            yield file, {"label": labels[best], "probability": scores[f"p_{labels[best]}"], **scores, **used}

    def join(tables: Iterable[pa.Table]) -> PredictResult:
        return PredictResult(*write_output(output, schema, tables, scorer.longest_input))

    return work_through(shards, output, open_parts, compute, join, share, bar)


SOME_FAILED = 3  # exit code


def input_shards(
    inputs: Sequence[str], dataset: str | None, split: str, files_per_shard: int | None = None
) -> Callable[[], Iterable[Shard]]:
    """Return a function that returns the shards of a command's clips, the same at each call.

    Args:
        inputs: files, folders, patterns and tables, or `-` for standard input, which is read at once.
        dataset: in place of inputs.
        split: of the dataset.
        files_per_shard: as for `find_shards`.

    Raises:
        UserError: for both or neither of inputs and dataset.
    """
    if bool(inputs) == bool(dataset):
        raise UserError("expected clips or --dataset, found both or neither; give one of the two.")
    if dataset:
        from .streamed_dataset import StreamedDataset  # imports datasets, which files and tables do not need

        return StreamedDataset(dataset, split).shards
    content = read_whole(sys.stdin.buffer, "<stdin>") if STANDARD_INPUT in inputs else b""
    return lambda: find_shards(inputs, content, files_per_shard)


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
    if output and output.suffix and output.suffix not in WRITERS:
        raise UserError(
            f"expected --output as {', '.join(WRITERS)} or a folder, found {output.name}; give one of them."
        )
    shards = input_shards(inputs, dataset, split)
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
    return report(result, output, scorer, "clips scored", " (column duration_used)")


def report(result: PredictResult, output: Path, scorer: Scorer, content: str, where: str = "") -> int:
    """Print what a command has written, and return the exit code.

    Args:
        result: numbers of rows and clips.
        output: of the command.
        scorer: its checkpoint.
        content: of the output, such as `clips scored`.
        where: the output states how much of a clip was used.
    """
    if not scorer.bf16 and scorer.model.device.type == "cpu" and has_bfloat16():
        print("This processor has instructions for bfloat16: --bf16 would have been faster.", file=sys.stderr)
    print(f"{result.scored} {content}: {terminal_text(str(output))}")
    if result.longer:
        print(f"{_cut_clips_note(result.longer, scorer)}{where}", file=sys.stderr)
    if not result.failed:
        return 0
    print(f"{result.failed} clips not, with the reason: {terminal_text(str(errors_file(output)))}", file=sys.stderr)
    return SOME_FAILED


def _print_table(scorer: Scorer, shards: Iterable[Shard], bar: tqdm) -> int:
    failed = longer = 0
    for shard in shards:
        for file, result in score_clips(scorer, shard.read(), bar):
            if isinstance(result, ValueError):
                failed += 1
                print(f"{terminal_text(file)}\t{terminal_text(str(result))}", file=sys.stderr)
                continue
            longer += result.duration > scorer.longest_input
            scores = result.probabilities
            likeliest = (f"{scorer.labels[index]} {scores[index]:.0%}" for index in np.argsort(-scores)[:3])
            print(f"{terminal_text(file)}\t{terminal_text('  '.join(likeliest))}")
    if longer:
        print(_cut_clips_note(longer, scorer), file=sys.stderr)
    return SOME_FAILED if failed else 0


def _cut_clips_note(count: int, scorer: Scorer) -> str:
    return (
        f"{count} clips are longer than the {scorer.longest_input:.3g} s that the model takes, and were used in part"
    )

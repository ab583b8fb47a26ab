"""The command `hf-vivae timeline`."""

from collections.abc import Sequence
from pathlib import Path

from ..files import OUTPUT_REMEDY, atomic_file, check_new
from ..inference.scorer import Scorer
from ..inference.timeline import Recording, Windows, find_segments, make_timeline
from ..validation import UserError, printable
from .formats import FORMATS, write_timeline


def run_timeline(
    checkpoint: str,
    path: Path,
    *,
    outputs: Sequence[Path],
    windows: Windows,
    min_seconds: float = 0.0,
    min_score: float = 0.0,
    revision: str | None = None,
    device: str | None = None,
    bf16: bool = False,
) -> int:
    """Label the parts of a recording, print or write its segments, and return the exit code."""
    suffixes = (*FORMATS, ".png")
    for file in outputs:
        if file.suffix not in suffixes:
            raise UserError(
                f"expected --output with a suffix of {', '.join(suffixes)}, found {file.name}; give one of them."
            )
        check_new(file)
    recording = Recording.open(path)
    timeline = make_timeline(Scorer(checkpoint, revision, device, bf16=bf16), recording, windows)
    segments = find_segments(timeline, min_seconds, min_score)
    for file in outputs:
        with atomic_file(file, OUTPUT_REMEDY) as part:
            write_timeline(part, timeline, segments)
        print(file)
    if not outputs:
        for segment in segments:
            print(f"{segment.start:9.2f} {segment.end:9.2f}  {printable(segment.label)}  {segment.score:.0%}")
    return 0

"""What `hf-vivae timeline` does."""

from pathlib import Path

from ..disk import check_new, whole_file
from ..text import printable
from ..validation import UserError
from .recordings import Recording
from .scorer import Scorer
from .timeline import Windows, find_segments, make_timeline
from .timeline_figure import timeline_figure
from .timeline_formats import FORMATS, write_timeline


def run_timeline(
    checkpoint: str,
    recording: Path,
    outputs: list[Path],
    window: float,
    hop: float,
    gate_db: float,
    min_seconds: float,
    min_score: float,
    revision: str | None,
    device: str | None,
    bf16: bool,
) -> int:
    """Say what is heard when; the exit code."""
    for file in outputs:
        if file.suffix not in (*FORMATS, ".png"):
            known = ", ".join((*FORMATS, ".png"))
            raise UserError(f"expected --output with a suffix of {known}, found {file.name}; give one of them.")
        check_new(file)
    windows = Windows(window, hop, gate_db)
    heard = Recording.open(recording)
    timeline = make_timeline(Scorer(checkpoint, revision, device, bf16=bf16), heard, windows)
    segments = find_segments(timeline, min_seconds, min_score)
    for file in outputs:
        with whole_file(file) as part:
            if file.suffix == ".png":
                timeline_figure(timeline).savefig(part)
            else:
                write_timeline(part, timeline, segments)
        print(file)
    if not outputs:
        for one in segments:
            print(f"{one.start:9.2f} {one.end:9.2f}  {printable(one.label)}  {one.score:.0%}")
    return 0

"""Measure time and memory of reading, splitting and probing a corpus of EmoGator's size, from copies of a few clips.

python benchmarks/emogator.py --clips clips/ --encoder whisper-base-encoder/

The MP3 files below the folder are copied in turn under EmoGator's 32,130 names, each with a tag of its own (ID3v1, 128
bytes), so that no two files are equal. The labels of such copies have no meaning, and neither have scores. The copies
and all caches are in the folder of temporary files (about 0.6 GB and the embeddings), and are removed at the end.

- read: names are compared, and every clip is decoded once.
- split: digests of all files, and the folds of speaker-k-fold.
- probe: embeddings of all clips, the linear layer of the first fold, and its scores.
- MB: largest resident memory of the process during the step; before: at its start, with all libraries.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import hf_vivae  # noqa: F401 - first: its error states which packages do not load

# isort: split
from hf_vivae.cli_parser import parse_flags, run_script
from hf_vivae.corpus.emogator import CATEGORIES, SPEAKERS, TAKES
from hf_vivae.files import write_json
from hf_vivae.reporting.tables import Table
from hf_vivae.run_folder import environment, peak_memory_mb, reset_peak_memory
from hf_vivae.training.recipes import parse_run

RECIPES = Path(__file__).parents[1] / "recipes"
TAG_BYTES = 128


@dataclass
class EmogatorBenchmarkArguments:
    """Arguments of the benchmark."""

    clips: str = field(metadata={"help": "Folder with MP3 files at any depth."})
    encoder: str = field(metadata={"help": "Folder or Hub id of the encoder of the probe."})
    speakers: int = field(default=SPEAKERS, metadata={"help": "Speakers of the copies; fewer for a trial."})
    output: str = field(default="runs/benchmark-emogator.json", metadata={"help": "JSON file."})


def main(argv: list[str]) -> None:
    arguments = parse_flags(EmogatorBenchmarkArguments, argv, description=__doc__.splitlines()[0])
    clips = sorted(Path(arguments.clips).rglob("*.mp3"))
    if not clips or not 1 <= arguments.speakers <= SPEAKERS:
        found = f"{len(clips)} files and --speakers {arguments.speakers}"
        sys.exit(f"error: expected MP3 files and --speakers from 1 to {SPEAKERS}, found {found}; correct them.")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_VIVAE_CACHE"] = str(Path(folder, "cache"))
        copies = Path(folder, "mp3")
        write_copies(clips, copies, arguments.speakers)
        rows = measure(copies, arguments, Path(folder, "run"))
    write_json(Path(arguments.output), {"environment": environment(), "rows": rows})
    print(cost_table(rows).to_markdown())
    print(f"figures   {arguments.output}")


def write_copies(clips: list[Path], folder: Path, speakers: int) -> None:
    """Write copies of clips in turn under EmoGator's names, with tags that differ."""
    folder.mkdir()
    contents = cycle([clip.read_bytes() for clip in clips])
    for speaker in range(1, speakers + 1):
        for number in range(1, len(CATEGORIES) + 1):
            for take in range(1, TAKES + 1):
                name = f"{speaker:06}-{number:02}-{take}.mp3"
                tag = b"TAG" + name.encode()
                (folder / name).write_bytes(next(contents) + tag.ljust(TAG_BYTES, b"\0"))


def measure(copies: Path, arguments: EmogatorBenchmarkArguments, output: Path) -> list[dict[str, Any]]:
    """Return clips, seconds and memory of each step."""
    # not on top, where recipes/evaluate.py would still hide the library `evaluate`
    from hf_vivae.training.build import load_training_data
    from hf_vivae.training.run import train

    flags = ["--model", f"probe:{arguments.encoder}", "--data", "emogator", "--categories", "all", "--folds", "0"]
    flags += ["--data_dir", str(copies), "--output_dir", str(output)]
    flags += ["--allow_partial"] if arguments.speakers < SPEAKERS else []
    run, args = parse_run(flags, recipes=RECIPES)
    rows: list[dict[str, Any]] = []

    def measured(step: str, function: Callable[[], Any]) -> Any:
        reset_peak_memory()
        before, started = peak_memory_mb(), time.perf_counter()
        result = function()
        # the kernel's count lags behind by some pages, so that a peak can lie below what was there before
        seconds, peak = time.perf_counter() - started, max(before, peak_memory_mb())
        rows.append({"step": step, "seconds": seconds, "peak_memory_mb": peak, "before_mb": before})
        return result

    corpus = measured("read", run.load)
    measured("split", lambda: load_training_data(run, args.seed, corpus))
    measured("probe", lambda: train(run, args, corpus))
    return [{"clips": len(corpus.dataset), **row} for row in rows]


def cost_table(rows: list[dict[str, Any]]) -> Table:
    """Return the figures of all steps."""
    where = environment()
    return Table(
        name="benchmark-emogator",
        caption=(
            f"Copies under EmoGator's names on {where['device']} ({where['threads']} CPU threads), torch "
            f"{where['versions']['torch']}."
        ),
        columns=("clips", "step", "s", "MB", "before, MB"),
        rows=tuple(tuple(row.values()) for row in rows),
        formats=(",d", None, ",.1f", ",.0f", ",.0f"),
    )


if __name__ == "__main__":
    run_script(main)

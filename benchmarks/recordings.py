"""Write recordings made of real clips at known times, each with its TextGrid, for `hf-vivae timeline --reference`.

python benchmarks/recordings.py runs/probe/1-of-5 --part test --others events --data emogator --data_dir clips --allow_partial --output recordings

A recording is a sequence of clips of one part of a run's fold, in random order, each used once, at their own loudness;
between two of them are 0.5 to 2 s. The whole lies on pink noise 60 dB below full scale. The reference has a segment for
each clip: from the first to the last 10 ms that are less than 40 dB below its loudest 10 ms, with its label. With
`--others`, every third sound is a clip from that folder, drawn at random, which has no segment.
"""  # noqa: E501 (a command is one line)

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import hf_vivae  # noqa: F401 - first: its error states which packages do not load

# isort: split
import numpy as np
import soundfile

from hf_vivae import audio
from hf_vivae.annotations.segment import Annotation, Segment
from hf_vivae.annotations.write import write_annotation
from hf_vivae.cli_parser import FlagParser, refuse_unknown, run_script
from hf_vivae.corpus.arguments import CorpusArguments
from hf_vivae.corpus.folder import may_be_clip
from hf_vivae.files import read_json, walk_files
from hf_vivae.models.silence import non_silent_range
from hf_vivae.run_folder import read_predictions

RATE = 16000  # Hz
BACKGROUND = 1e-3  # of full scale, root mean square
GAPS = (0.5, 2.0)  # seconds
SILENCE_DB = 40.0


@dataclass
class RecordingsArguments(CorpusArguments):
    """Arguments of the recordings: clips, their order, and output."""

    part: Literal["test", "validation"] = field(default="test", metadata={"help": "Part of the fold."})
    others: str | None = field(default=None, metadata={"help": "Folder of sounds that have no label."})
    minutes: float = field(default=5.0, metadata={"help": "Length of a recording, at least."})
    seed: int = field(default=0, metadata={"help": "Seed of order, gaps and background."})
    output: str = field(default="recordings", metadata={"help": "New folder of the recordings."})


def make_parser() -> FlagParser:
    """Return the parser of all arguments."""
    parser = FlagParser(RecordingsArguments, allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("run", metavar="RUN", help="Run folder of a fold.")
    return parser


def main(argv: list[str]) -> None:
    flags, unknown = make_parser().parse_known_args(argv)
    refuse_unknown(unknown, vars(flags))
    run = Path(vars(flags).pop("run"))
    if not (run / "predictions.parquet").is_file():
        sys.exit(f"error: expected the run folder of a fold, found no predictions.parquet in {run}; give one.")
    arguments = RecordingsArguments(**vars(flags))
    output = Path(arguments.output)
    if output.exists():
        sys.exit(f"error: expected a new folder as --output, found {output}; give another name.")
    names = read_json(run / "config.json")["id2label"]
    labels = {row["file"]: names[str(row["label"])] for row in read_predictions(run) if row["split"] == arguments.part}
    dataset = arguments.load().dataset
    clips = [
        (sound, labels[file]) for file, sound in zip(dataset["file"], dataset["audio"], strict=True) if file in labels
    ]
    others = [path for path in walk_files(Path(arguments.others)) if may_be_clip(path)] if arguments.others else []
    output.mkdir(parents=True)
    rng = np.random.default_rng(arguments.seed)
    order = iter(rng.permutation(len(clips)))
    number = count = 0
    while count < len(clips):
        number += 1
        pieces, segments, seconds = [], [], 0.0
        for samples, label in sounds(clips, others, order, rng):
            gap = rng.uniform(*GAPS)
            first, last = non_silent_range(samples, RATE, SILENCE_DB, 0.0, 0.0)
            start = seconds + gap
            if label is not None:
                segments.append(Segment(start + first / RATE, start + last / RATE, label))
                count += 1
            pieces += [np.zeros(round(gap * RATE), np.float32), samples]
            seconds = sum(map(len, pieces)) / RATE
            if label is not None and seconds >= 60 * arguments.minutes:
                break
        samples = np.concatenate([*pieces, np.zeros(RATE, np.float32)])
        samples += pink_noise(len(samples), rng)
        stem = output / f"{arguments.part}-{number:02}"
        soundfile.write(stem.with_suffix(".flac"), np.clip(samples, -1, 1), RATE)
        annotation = Annotation(f"{stem.name}.flac", tuple(segments), len(samples) / RATE)
        write_annotation(stem.with_suffix(".TextGrid"), annotation)
        print(f"{stem}.flac  {len(samples) / RATE:.1f} s, {len(segments)} segments")


def sounds(
    clips: list[tuple[dict, str]], others: list[Path], order: Iterator[int], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, str | None]]:
    """Yield samples `(samples,)` and label of each sound, in order; the label of others is None."""
    for place, index in enumerate(order):
        if others and place % 2:
            yield audio.load(others[rng.integers(len(others))], RATE)[0], None
        sound, label = clips[index]
        yield audio.load(sound, RATE)[0], label


def pink_noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise whose power falls by 3 dB an octave, `(count,)`, with the root mean square `BACKGROUND`."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    noise = np.fft.irfft(spectrum, count)
    return (BACKGROUND * noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


if __name__ == "__main__":
    run_script(main)

"""Measure the speed of this package and of what a user would run instead: training, scoring, features and start-up.

python benchmarks/speed.py
python benchmarks/speed.py --rows train predict --repeats 5
python benchmarks/speed.py --quick

Each row has one or two sides: this package, and the obvious way, a script of `benchmarks/sides/` with the notebook's
loop, transformers' plain pipeline or its example of fine-tuning. Each side is a new process, on the same clips with the
same number of threads; sides alternate, in an order that alternates too, and every figure is a median over the repeats.
docs/speed.md describes the rows.

The limit is the share of the machine's matrix rate that a row uses, or of its memory bandwidth, measured in the same
run. Clips are generated; those of MP3 and the recording stay in the folder of downloads and features, everything else
is removed at the end. The package is the one that Python imports: with PYTHONPATH set to another version, that one.
"""

# ruff: noqa: E402 - the environment of the processes is the user's, before the package sets variables of threads
import os

ENVIRONMENT = dict(os.environ)

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal

import hf_vivae  # first: its error states which packages do not load

# isort: split
import numpy as np
import soundfile
import torch
from tqdm.auto import tqdm

from hf_vivae.cli_parser import parse_flags, run_script
from hf_vivae.corpus.synthetic import synthesize_corpus
from hf_vivae.files import cache_folder, write_json
from hf_vivae.reporting.tables import Cell, Table
from hf_vivae.run_folder import environment
from hf_vivae.validation import check_choice

SIDES = Path(__file__).parent / "sides"
PACKAGE = Path(hf_vivae.__file__).parents[1]
RATE = 44100  # Hz, of the synthetic voices
MP3_RATE, MP3_SECONDS = 48000, 1.9
SPIN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # variables that the row contention leaves to the package


@dataclass
class SpeedArguments:
    """Arguments of the benchmark."""

    rows: list[str] | None = field(default=None, metadata={"help": "Names of rows; all of them by default."})
    repeats: int = field(default=3, metadata={"help": "Processes for each side of a row."})
    quick: bool = field(default=False, metadata={"help": "Few clips, to try the script: ratios are others then."})
    output: str = field(default="runs/benchmark-speed.json", metadata={"help": "JSON file."})


@dataclass(frozen=True)
class Sizes:
    """Numbers of clips, seconds and steps of all rows."""

    clips: int = 1085
    epochs: int = 2  # the first one is not measured
    mp3_clips: int = 3222
    probed_clips: int = 400
    recording_seconds: int = 3600
    steps: int = 5  # of fine-tuning
    contended_steps: int = 12


QUICK = Sizes(66, 2, 48, 8, 60, 1, 3)
# limits of the machine, and their units in the caption
LIMITS = {
    "fp32_gflops": "GFLOP/s in 32-bit floats", "bf16_gflops": "GFLOP/s in bfloat16", "memory_gb_per_second": "GB/s",
}  # fmt: skip
Process = dict[str, Any]  # seconds and peak_memory_mb of a process, and the figures that it printed


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        subject: the row's first cell.
        unit: of both figures.
        bar: the least, or the largest, ratio or figure of ours.
        estimate: seconds of one repeat on two cores.
        commands: function of the inputs that returns the command of each side, `ours` and mostly `baseline`.
        figure: function of the inputs and a process that returns the figure of a side.
        work: function of inputs and process that returns the operations in a second, or the bytes, for the limit.
        limit: name of the limit that `work` is compared with.
    """

    subject: str
    unit: str
    bar: tuple[Literal["ratio", "ours"], Literal[">=", "<="], float] | None
    estimate: float
    commands: Callable[["Inputs"], dict[str, list[str]]]
    figure: Callable[["Inputs", Process], float]
    higher: bool = True
    limit: str | None = None
    work: Callable[[Process], float] | None = None

    def ratio(self, ours: float, baseline: float) -> float:
        """Return how many times as fast ours is; for a bar that is an upper one, how many times as slow."""
        faster = ours / baseline if self.higher else baseline / ours
        return 1 / faster if self.bar and self.bar[:2] == ("ratio", "<=") else faster


class Inputs:
    """Clips and checkpoints of the rows, each made at its first use.

    Args:
        folder: of everything that is removed at the end.
        sizes: numbers of clips and steps.
    """

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        self._outputs = 0

    def new_output(self, suffix: str = "") -> str:
        """Return a path in the folder that does not exist."""
        self._outputs += 1
        return str(self.folder / f"output-{self._outputs}{suffix}")

    @cached_property
    def clips(self) -> Path:
        """A folder with synthetic voices as WAV, one subfolder for each emotion."""
        files = sorted((synthesize_corpus() / "full_set").glob("*.wav"))
        for file in files[:: max(1, len(files) // self.sizes.clips)][: self.sizes.clips]:
            emotion = self.folder / "clips" / file.name.split("_")[1]
            emotion.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, emotion)
        return self.folder / "clips"

    @cached_property
    def clip(self) -> Path:
        """One of them."""
        return next(self.clips.rglob("*.wav"))

    @cached_property
    def mp3_clips(self) -> Path:
        """A folder with different clips of MP3 at 48 kHz, each cut from the joined voices."""
        return self._mp3_folder(self.sizes.mp3_clips)

    @cached_property
    def probed_clips(self) -> Path:
        """The same with fewer clips."""
        return self._mp3_folder(self.sizes.probed_clips)

    def _mp3_folder(self, count: int) -> Path:
        folder = cache_folder() / "benchmark-speed" / f"mp3-{count}"
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            voices, samples = np.concatenate(self._voices), round(MP3_SECONDS * MP3_RATE)
            for number, start in enumerate(np.linspace(0, len(voices) - samples, count).astype(int)):
                clip = voices[start : start + samples]
                soundfile.write(partial / f"{number:05}.mp3", clip, MP3_RATE, format="MP3")
            partial.rename(folder)
        return folder

    @cached_property
    def recording(self) -> Path:
        """A recording of voices and pauses as FLAC."""
        seconds = self.sizes.recording_seconds
        file = cache_folder() / "benchmark-speed" / f"recording-{seconds}.flac"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            rng, partial, written = np.random.default_rng(0), file.with_suffix(".partial"), 0
            voices = self._voices
            with soundfile.SoundFile(partial, "w", RATE, 1, format="FLAC") as sound:
                while written < seconds * RATE:
                    voice = voices[rng.integers(len(voices))]
                    pause = np.zeros(round(rng.uniform(0.3, 2.0) * RATE), dtype=np.int16)
                    part = np.concatenate((voice, pause + rng.integers(-4, 5, len(pause), dtype=np.int16)))
                    sound.write(part[: seconds * RATE - written])
                    written += len(part)
            partial.rename(file)
        return file

    @cached_property
    def _voices(self) -> list[np.ndarray]:
        files = sorted((synthesize_corpus() / "full_set").glob("*.wav"))
        return [soundfile.read(file, dtype="int16")[0] for file in files]

    @cached_property
    def checkpoint(self) -> Path:
        """An untrained checkpoint of `vit-32-30`."""
        torch.manual_seed(0)
        folder = self.folder / "vit-32-30"
        hf_vivae.build_model("vit-32-30").save_pretrained(folder)
        extractor = hf_vivae.build_feature_extractor("vit-32-30")
        extractor.peak = 1.0
        extractor.save_pretrained(folder)
        return folder


# fmt: off
ROWS = {
    "train": Row(
        "vit-32-30, an epoch with its scoring", "s", ("ratio", ">=", 2.5), 90,
        lambda inputs: {
            "ours": package("train", clips=inputs.clips, output=inputs.new_output(), epochs=inputs.sizes.epochs),
            "baseline": side("notebook_loop", inputs.clips, "--epochs", inputs.sizes.epochs),
        },
        lambda inputs, process: median(process["epoch_seconds"][1:]), higher=False,
        limit="bf16_gflops", work=lambda process: process["operations"] / 1e9 / median(process["epoch_seconds"][1:]),
    ),
    "predict": Row(
        "predict, MP3 of 48 kHz, vit-32-30", "clips/s", ("ratio", ">=", 2), 70,
        lambda inputs: {
            "ours": command("predict", inputs.checkpoint, inputs.mp3_clips, "--output", inputs.new_output(".csv")),
            "baseline": side("plain_pipeline", inputs.checkpoint, inputs.mp3_clips, "--batch_size", 32),
        },
        lambda inputs, process: inputs.sizes.mp3_clips / process["seconds"],
    ),
    "timeline": Row(
        "timeline, one recording, vit-32-30", "times real time", ("ours", ">=", 120), 75,
        lambda inputs: {
            "ours": command("timeline", inputs.checkpoint, inputs.recording, "--output", inputs.new_output(".csv")),
        },
        lambda inputs, process: inputs.sizes.recording_seconds / process["seconds"],
    ),
    "start-predict": Row(
        "predict of one clip, from start to end", "s", ("ours", "<=", 3.5), 15,
        lambda inputs: {
            "ours": command("predict", inputs.checkpoint, inputs.clip),
            "baseline": side("plain_pipeline", inputs.checkpoint, inputs.clip),
        },
        lambda inputs, process: process["seconds"], higher=False,
    ),
    "contention": Row(
        "training step of vit-32-30, next to a busy process", "s/step", ("ratio", "<=", 3), 60,
        lambda inputs: {
            "ours": step(inputs, busy=True),
            "baseline": step(inputs, busy=False),
        },
        lambda inputs, process: process["step_seconds"], higher=False,
    ),
}
# fmt: on


def side(script: str, *arguments: Any) -> list[str]:
    """Return the command of a script of `sides/`."""
    return [str(SIDES / f"{script}.py"), *map(str, arguments)]


def package(measurement: str, **arguments: Any) -> list[str]:
    """Return the command that measures a part of this package."""
    return side("package", measurement, json.dumps(arguments, default=str))


def command(*arguments: Any) -> list[str]:
    """Return a command line of `hf-vivae`."""
    return ["-m", "hf_vivae_cli", *map(str, arguments)]


def step(inputs: Inputs, busy: bool) -> list[str]:
    """Return the command that measures training steps."""
    steps = inputs.sizes.contended_steps
    return package("step", clips=inputs.clips, output=inputs.new_output(), steps=steps, busy=busy)


def main(argv: list[str]) -> None:
    arguments = parse_flags(SpeedArguments, argv, description=__doc__.splitlines()[0])
    if arguments.repeats < 1:
        sys.exit(f"error: expected --repeats of at least 1, found {arguments.repeats}; raise it.")
    names = list(dict.fromkeys(arguments.rows or ROWS))
    for name in names:
        check_choice("the row", name, ROWS)
    print(announcement(names, arguments))
    content = {"environment": environment(), "repeats": arguments.repeats, "quick": arguments.quick}
    content |= {"limits": {}, "rows": {}}
    with tempfile.TemporaryDirectory() as folder:
        inputs = Inputs(Path(folder), QUICK if arguments.quick else Sizes())
        content["limits"] = run_apart(side("limits"), inputs)
        for name in tqdm(names, desc="Measuring", unit="row"):
            content["rows"][name] = measure_row(name, inputs, arguments.repeats)
            write_json(Path(arguments.output), content)  # after each row, so that an error loses none
    print(speed_table(content).to_markdown())
    print(f"figures   {arguments.output}")


def announcement(names: Sequence[str], arguments: SpeedArguments) -> str:
    """Return a sentence on the time that measuring takes."""
    seconds = sum(30 if arguments.quick else ROWS[name].estimate for name in names) * arguments.repeats
    note = " Few clips: the ratios are not those of docs/speed.md." if arguments.quick else ""
    return f"{len(names)} rows, about {max(1, round(seconds / 60))} minutes on two cores.{note}"


def measure_row(name: str, inputs: Inputs, repeats: int) -> dict[str, Any]:
    """Return the medians of a row's sides, and all processes."""
    row = ROWS[name]
    measured: dict[str, list[Process]] = {}
    for repeat in range(repeats):
        sides = list(row.commands(inputs).items())
        for label, words in sides[:: -1 if repeat % 2 else 1]:
            measured.setdefault(label, []).append(run_apart(words, inputs, SPIN if name == "contention" else ()))
    figures = {label: median(row.figure(inputs, process) for process in each) for label, each in measured.items()}
    work = median(map(row.work, measured["ours"])) if row.work else None
    memory = max(process["peak_memory_mb"] for process in measured["ours"])
    return {**figures, "unit": row.unit, "work": work, "peak_memory_mb": memory, "measured": measured}


def run_apart(words: Sequence[str], inputs: Inputs, unset: Sequence[str] = ()) -> Process:
    """Run Python in a new process; return its seconds, its largest memory and the figures that it printed."""
    variables = {name: value for name, value in ENVIRONMENT.items() if name not in unset}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGE), variables.get("PYTHONPATH"))))
    variables["HF_VIVAE_CACHE"] = str(inputs.folder / "cache")
    variables["HF_MODULES_CACHE"] = str(inputs.folder / "modules")
    variables["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        # -P: neither the folder of the script nor this one comes before the package
        process = subprocess.Popen([sys.executable, "-P", *words], env=variables, stdout=printed, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (printed, errors):
            file.seek(0)
        if process.returncode:
            end = f"exit status {process.returncode} and this output:\n{errors.read().strip()[-2000:]}"
            sys.exit(f"error: {' '.join(words)} ended with {end}")
        last = (printed.read().splitlines() or [""])[-1]
    memory = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux kilobytes
    return {"seconds": seconds, "peak_memory_mb": memory, **(json.loads(last) if last.startswith("{") else {})}


def speed_table(content: dict[str, Any]) -> Table:
    """Return the table of all measured rows."""
    where, limits = content["environment"], content["limits"]
    rates = ", ".join(f"{limits[name]:,.0f} {unit}" for name, unit in LIMITS.items())
    return Table(
        name="benchmark-speed",
        caption=(
            f"Speed on {where['device']} ({where['threads']} CPU threads), torch {where['versions']['torch']}: "
            f"medians over {content['repeats']} processes of each side, on synthetic voices. Limits of the machine: {rates}."
        ),
        columns=("row", "subject", "unit", "obvious way", "ours", "ratio", "bar", "met", "limit", "MB"),
        rows=tuple(table_row(name, figures, limits) for name, figures in content["rows"].items()),
        formats=(None, None, None, ",.3g", ",.3g", ".2f", None, None, None, ",.0f"),
    )


def table_row(name: str, figures: dict[str, Any], limits: dict[str, float]) -> tuple[Cell, ...]:
    """Return the cells of a row."""
    row, baseline, ours = ROWS[name], figures.get("baseline"), figures["ours"]
    ratio = None if baseline is None else row.ratio(ours, baseline)
    bar = met = limit = None
    if row.bar:
        of, relation, value = row.bar
        compared = ratio if of == "ratio" else ours
        bar = f"{of}, at {'least' if relation == '>=' else 'most'} {value:g}"
        met = "yes" if (compared >= value if relation == ">=" else compared <= value) else "no"
    if row.limit:
        limit = f"{figures['work'] / limits[row.limit]:.0%} of {row.limit.split('_')[0]}"
    return name, row.subject, row.unit, baseline, ours, ratio, bar, met, limit, figures["peak_memory_mb"]


if __name__ == "__main__":
    run_script(main)

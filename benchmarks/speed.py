"""Measure the speed of this package and of what a user would run instead: training, scoring, features and start-up.

python benchmarks/speed.py
python benchmarks/speed.py --rows train predict --repeats 5
python benchmarks/speed.py --quick

Each row has one or two sides: this package, and the obvious way, a script of `benchmarks/sides/` with the notebook's
loop, transformers' plain pipeline or its example of fine-tuning. Each side is a new process, on the same clips with as
many threads; sides alternate, in an order that alternates too, and every figure is a median over the repeats.
docs/speed.md describes the rows.

The limit is the share that a row uses of the machine's matrix rate, of its memory bandwidth, or of the clips that all
threads could decode, each measured in the same run. Clips are generated; those of MP3 and the recording stay in the
folder of downloads and features, everything else is removed at the end. The package is the one that Python imports:
with PYTHONPATH set to another version, that one.
"""

# ruff: noqa: E402 - the environment of the processes is the user's, before the package sets variables of threads
import os

ENVIRONMENT = dict(os.environ)

import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import hf_vivae  # first: its error states which packages do not load

# isort: split
import numpy as np
import soundfile
import torch
from tqdm.auto import tqdm
from transformers import (
    AutoModelForAudioClassification,
    PreTrainedConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.utils import logging

from hf_vivae.checkpoints.load import load_probe
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
QUICK_SECONDS = 20  # of a repeat of any row with --quick: mostly imports
LIMITS = {  # of the machine, with their units
    "fp32_gflops": "GFLOP/s in 32-bit floats",
    "bf16_gflops": "GFLOP/s in bfloat16",
    "memory_gb_per_second": "GB/s of memory",
    "decoded_clips_per_second": "MP3 clips/s decoded",
}
Process = dict[str, Any]  # seconds and peak_memory_mb of a process, and the figures that it printed


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
    probed_clips: int = 1000
    recording_seconds: int = 3600
    contended_steps: int = 12
    finetuned_steps: int = 5
    batch_size: int = 8  # of fine-tuning


QUICK = Sizes(66, 2, 48, 8, 60, 3, 1, 8)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        subject: its first cell.
        sides: function of the inputs that returns the command of each side, `ours` and mostly `baseline`.
        estimate: seconds of one repeat on two cores.
        bar: the least, or the largest, ratio or figure of ours.
        seconds: the figure of a process that is compared; by default its time from start to end.
        count: field of `Sizes` that is divided by these seconds, for the unit; None where the seconds are shown.
        unit: of both figures.
        limit: one of `LIMITS`.
        amount: the figure of a process that the limit bounds for each second; where it is None, that of ours.
        unset: variables of the environment that the sides do not have.
    """

    subject: str
    sides: Callable[["Inputs"], dict[str, list[str]]]
    estimate: float
    bar: tuple[Literal["ratio", "ours"], Literal["least", "most"], float] | None
    seconds: str = "seconds"
    count: str | None = None
    unit: str = "s"
    limit: str | None = None
    amount: str | None = None
    unset: tuple[str, ...] = ()

    def figure(self, process: Process, sizes: Sizes) -> float:
        """Return the figure of a side."""
        return getattr(sizes, self.count) / process[self.seconds] if self.count else process[self.seconds]

    def ratio(self, ours: float, baseline: float) -> float:
        """Return how many times as fast ours is; for a ratio that a bar keeps small, how many times as slow."""
        faster = ours / baseline if self.count else baseline / ours
        return 1 / faster if self.bar and self.bar[:2] == ("ratio", "most") else faster


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
        """Folder with synthetic voices as WAV, one subfolder for each emotion."""
        files = _voice_files()
        for file in files[:: len(files) // self.sizes.clips][: self.sizes.clips]:
            emotion = self.folder / "clips" / file.name.split("_")[1]
            emotion.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, emotion)
        return self.folder / "clips"

    @cached_property
    def known_clips(self) -> Path:
        """The same folder, once a training has left its features in the cache."""
        run_apart(first_step(self, self.clips), self)
        return self.clips

    @cached_property
    def mp3_clips(self) -> Path:
        """Folder with different clips of MP3 at 48 kHz, each cut from the joined voices."""
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
        """Recording of voices and pauses as FLAC."""
        samples = self.sizes.recording_seconds * RATE
        file = cache_folder() / "benchmark-speed" / f"recording-{self.sizes.recording_seconds}.flac"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            rng, partial, written = np.random.default_rng(0), file.with_suffix(".partial"), 0
            with soundfile.SoundFile(partial, "w", RATE, 1, format="FLAC") as sound:
                while written < samples:
                    pause = rng.integers(-4, 5, round(rng.uniform(0.3, 2.0) * RATE), dtype=np.int16)
                    part = np.concatenate((self._voices[rng.integers(len(self._voices))], pause))
                    sound.write(part[: samples - written])
                    written += len(part)
            partial.rename(file)
        return file

    @cached_property
    def _voices(self) -> list[np.ndarray]:
        return [soundfile.read(file, dtype="int16")[0] for file in _voice_files()]

    @cached_property
    def checkpoint(self) -> Path:
        """Untrained checkpoint of `vit-32-30`."""
        torch.manual_seed(0)
        folder = self.folder / "vit-32-30"
        hf_vivae.build_model("vit-32-30").save_pretrained(folder)
        hf_vivae.build_feature_extractor("vit-32-30", peak=1.0).save_pretrained(folder)
        return folder

    @cached_property
    def whisper(self) -> Path:
        """Checkpoint with the shape of Whisper base and random weights."""
        shape = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
        return self._encoder("random-whisper", WhisperConfig(**shape), WhisperFeatureExtractor())

    @cached_property
    def wav2vec2(self) -> Path:
        """Checkpoint with the shape of wav2vec 2.0 base and random weights."""
        return self._encoder("random-wav2vec2", Wav2Vec2Config(), Wav2Vec2FeatureExtractor())

    def _encoder(self, name: str, config: PreTrainedConfig, extractor: FeatureExtractionMixin) -> Path:
        torch.manual_seed(0)
        folder = self.folder / name
        AutoModelForAudioClassification.from_config(config).save_pretrained(folder)
        extractor.save_pretrained(folder)
        return folder

    @cached_property
    def probe(self) -> Path:
        """Untrained probe of Whisper."""
        folder = self.folder / "probe"
        for part in load_probe(self.whisper, dict(enumerate(hf_vivae.EMOTIONS)), {}, MP3_SECONDS):
            part.save_pretrained(folder)
        return folder


def _voice_files() -> list[Path]:
    return sorted((synthesize_corpus() / "full_set").glob("*.wav"))


def script(name: str, *arguments: Any) -> list[str]:
    """Return the command of a script of `sides/`."""
    return [str(SIDES / f"{name}.py"), *map(str, arguments)]


def package(measurement: str, **arguments: Any) -> list[str]:
    """Return the command that measures a part of this package."""
    return script("package", measurement, json.dumps(arguments, default=str))


def hf_vivae_command(*arguments: Any) -> list[str]:
    """Return a command of `hf-vivae`."""
    return ["-m", "hf_vivae_cli", *map(str, arguments)]


def train(inputs: Inputs) -> dict[str, list[str]]:
    sizes = inputs.sizes
    return {
        "ours": package("train", clips=inputs.clips, output=inputs.new_output(), epochs=sizes.epochs),
        "baseline": script("notebook_loop", inputs.clips, "--epochs", sizes.epochs),
    }


def predict(inputs: Inputs, *flags: str) -> dict[str, list[str]]:
    checkpoint, clips, output = inputs.checkpoint, inputs.mp3_clips, inputs.new_output(".csv")
    return {
        "ours": hf_vivae_command("predict", checkpoint, clips, "--output", output, *flags),
        "baseline": script("plain_pipeline", checkpoint, clips, "--batch_size", 32),
    }


def predict_probe(inputs: Inputs, *flags: str) -> dict[str, list[str]]:
    probe, clips, output = inputs.probe, inputs.probed_clips, inputs.new_output(".csv")
    return {
        "ours": hf_vivae_command("predict", probe, clips, "--output", output, *flags),
        "baseline": script("plain_pipeline", probe, clips, "--batch_size", 1),
    }


def timeline(inputs: Inputs, *flags: str) -> dict[str, list[str]]:
    output = inputs.new_output(".csv")
    return {"ours": hf_vivae_command("timeline", inputs.checkpoint, inputs.recording, "--output", output, *flags)}


def finetune(inputs: Inputs, encoder: str) -> dict[str, list[str]]:
    folder, sizes = getattr(inputs, encoder), inputs.sizes
    amount = {"batch_size": sizes.batch_size, "steps": sizes.finetuned_steps}
    flags = [word for name, value in amount.items() for word in (f"--{name}", value)]
    return {
        "ours": package("finetune", clips=inputs.clips, output=inputs.new_output(), encoder=folder, **amount),
        "baseline": script("library_example", folder, inputs.clips, *flags),
    }


def features(inputs: Inputs) -> dict[str, list[str]]:
    return {
        "ours": package("features", clips=inputs.clips, cache=inputs.new_output()),
        "baseline": script("notebook_loop", inputs.clips, "--features_only"),
    }


def start_predict(inputs: Inputs) -> dict[str, list[str]]:
    clip = next(inputs.clips.rglob("*.wav"))
    return {
        "ours": hf_vivae_command("predict", inputs.checkpoint, clip),
        "baseline": script("plain_pipeline", inputs.checkpoint, clip),
    }


def start_train(inputs: Inputs) -> dict[str, list[str]]:
    return {"ours": first_step(inputs, inputs.known_clips)}


def first_step(inputs: Inputs, clips: Path) -> list[str]:
    """Return the command of a training that ends after its first step."""
    flags = ["--model", "vit-32-30", "--bf16", "--data", "folder", "--protocol", "random-80-20"]
    flags += ["--data_dir", str(clips), "--output_dir", inputs.new_output()]
    return package("first_step", script=PACKAGE / "recipes" / "train.py", flags=flags)


def contention(inputs: Inputs) -> dict[str, list[str]]:
    steps, clips = inputs.sizes.contended_steps, inputs.clips
    return {
        label: package("step", clips=clips, output=inputs.new_output(), steps=steps, busy=busy)
        for label, busy in (("ours", True), ("baseline", False))
    }


def scoring_rows(suffix: str, note: str, *flags: str) -> dict[str, Row]:
    """Return the rows of the commands that score clips, with further flags."""

    def with_flags(sides: Callable[..., dict[str, list[str]]]) -> Callable[[Inputs], dict[str, list[str]]]:
        return lambda inputs: sides(inputs, *flags)

    return {
        f"predict{suffix}": Row(
            f"predict by vit-32-30{note}, MP3 of 48 kHz", with_flags(predict), 60, ("ratio", "least", 2),
            count="mp3_clips", unit="clips/s", limit="decoded_clips_per_second",
        ),
        f"predict-probe{suffix}": Row(
            f"predict by a probe of Whisper base{note}, MP3 of 48 kHz", with_flags(predict_probe), 30,
            ("ratio", "least", 2.5), count="probed_clips", unit="clips/s",
        ),
        f"timeline{suffix}": Row(
            f"timeline by vit-32-30{note}, one recording", with_flags(timeline), 50, ("ours", "least", 120),
            count="recording_seconds", unit="times real time",
        ),
    }  # fmt: skip


OPERATIONS = ("bf16_gflops", "gigaflop")  # limit and amount
# fmt: off
ROWS = {
    "train": Row(
        "an epoch of vit-32-30, with its scoring", train, 90, ("ratio", "least", 2.5), "epoch_seconds", None, "s",
        *OPERATIONS,
    ),
    **scoring_rows("", ""),
    **scoring_rows("-bf16", " with --bf16", "--bf16"),
    "finetune": Row(
        "fine-tuning of Whisper base", partial(finetune, encoder="whisper"), 150, ("ratio", "least", 3),
        "step_seconds", "batch_size", "clips/s", *OPERATIONS,
    ),
    "finetune-wav2vec2": Row(
        "fine-tuning of wav2vec 2.0 base", partial(finetune, encoder="wav2vec2"), 60, None,
        "step_seconds", "batch_size", "clips/s", *OPERATIONS,
    ),
    "features": Row(
        "log-mel spectrograms of a corpus, first time", features, 30, ("ratio", "least", 3), "work_seconds", "clips",
        "clips/s", "memory_gb_per_second", "gigabytes",
    ),
    "start-predict": Row("predict of one clip, start to end", start_predict, 12, ("ours", "most", 3.5)),
    "start-train": Row("train.py with known features, start to first step", start_train, 12, ("ours", "most", 7)),
    "contention": Row(
        "training step next to a busy process, and alone", contention, 60, ("ratio", "most", 3), "step_seconds",
        unset=("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"),
    ),
}
# fmt: on


def main(argv: list[str]) -> None:
    arguments = parse_flags(SpeedArguments, argv, description=__doc__.splitlines()[0])
    if arguments.repeats < 1:
        sys.exit(f"error: expected --repeats of at least 1, found {arguments.repeats}; raise it.")
    names = list(dict.fromkeys(arguments.rows or ROWS))
    for name in names:
        check_choice("the row", name, ROWS)
    print(announcement(names, arguments), flush=True)
    logging.disable_progress_bar()  # of writing weights
    where = environment() | {"processor": processor()}
    content = {"environment": where, "repeats": arguments.repeats, "quick": arguments.quick, "rows": {}}
    with tempfile.TemporaryDirectory() as folder:
        inputs = Inputs(Path(folder), QUICK if arguments.quick else Sizes())
        content["limits"] = run_apart(script("limits", next(inputs.probed_clips.iterdir())), inputs)
        for name in tqdm(names, desc="Measuring", unit="row"):
            content["rows"][name] = measure_row(ROWS[name], inputs, arguments.repeats)
            write_json(Path(arguments.output), content)  # after each row, so that an error loses none
    print(speed_table(content).to_markdown())
    print(f"figures   {arguments.output}")


def announcement(names: Sequence[str], arguments: SpeedArguments) -> str:
    """Return a sentence on the time that measuring takes."""
    seconds = arguments.repeats * sum(QUICK_SECONDS if arguments.quick else ROWS[name].estimate for name in names)
    note = " Few clips are measured: ratios are not those of docs/speed.md." if arguments.quick else ""
    made = "" if (cache_folder() / "benchmark-speed").exists() else ", and two more for making clips"
    return f"{len(names)} rows: about {max(1, round(seconds / 60))} min on two cores{made}.{note}"


def processor() -> str:
    """Return the name of the processor, and the widest instructions that torch uses on it."""
    listing = Path("/proc/cpuinfo")  # Linux, where platform has no name
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(names, platform.processor() or platform.machine())
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def measure_row(row: Row, inputs: Inputs, repeats: int) -> dict[str, Any]:
    """Return the medians of a row's sides, and all processes."""
    measured: dict[str, list[Process]] = {}
    for repeat in range(repeats):
        sides = list(row.sides(inputs).items())
        for label, words in sides[:: -1 if repeat % 2 else 1]:
            measured.setdefault(label, []).append(run_apart(words, inputs, row.unset))
    ours, sizes = measured["ours"], inputs.sizes
    figures = {label: median(row.figure(each, sizes) for each in several) for label, several in measured.items()}
    if row.limit:
        amounts = [process[row.amount] / process[row.seconds] for process in ours] if row.amount else [figures["ours"]]
        figures["per_second"] = median(amounts)
    return {**figures, "peak_memory_mb": max(process["peak_memory_mb"] for process in ours), "measured": measured}


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
            f"Speed on {where['device']} ({where['processor']}, {where['threads']} threads), torch "
            f"{where['versions']['torch']}: medians over {content['repeats']} processes of each side, on synthetic "
            f"voices. Limits of the machine: {rates}."
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
        compared, end, value = row.bar
        shown = ratio if compared == "ratio" else ours
        bar = f"{compared}, at {end} {value:g}"
        met = "yes" if (shown >= value if end == "least" else shown <= value) else "no"
    if row.limit:
        limit = f"{figures['per_second'] / limits[row.limit]:.1%} of {LIMITS[row.limit]}"
    return name, row.subject, row.unit, baseline, ours, ratio, bar, met, limit, figures["peak_memory_mb"]


if __name__ == "__main__":
    run_script(main)

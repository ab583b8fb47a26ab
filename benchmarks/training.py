"""Measure the time and memory of training on this machine: each of the paper's models, or the whole study.

python benchmarks/training.py
python benchmarks/training.py --models vit-32-30 mlp --steps 20 --repeats 5
python benchmarks/training.py --study quick

For attention by number of tokens, Performer's and exact, see benchmarks/attention.py; for bfloat16, torch.compile and
features in the memory of a GPU, benchmarks/gpu.py.

Models train by their recipe `paper` (batch size, optimizer, 32-bit floats; random weights) on noise clips, each in a
new process, in turns whose order alternates; every figure is a median over the repeats.

- s/step: from the end of an optimizer step to the end of the next, with reading, forward and backward pass. For
  logistic regression one iteration of its solver over all training clips.
- first step: seconds from the start of the training to the end of its first step.
- trained, scored: clips/s with gradients, and without, there with the metrics. checkpoint: seconds for writing weights
  and optimiser to the folder of temporary files.
- MB: largest resident memory of the process, or memory that torch has allocated on a GPU.
- extrapolated: the recipe's whole training, computed from these figures and not measured. An epoch trains on the
  training clips, scores the corpus' other clips and writes a checkpoint.
- paper: the time in the 2022 paper, on its own GPU.

`--study` runs `recipes/reproduce.py --data synthetic --audit` to its end: `quick` is meant for two cores, `full`, with
the paper's epochs, for a GPU. Memory of a run is as above; that of a process is resident, without the GPU's and, on
Linux, since its last run began.
"""

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

import hf_vivae  # noqa: F401 - first: its error states which packages do not load

# isort: split
import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback

from hf_vivae.cli_parser import parse_flags, run_script
from hf_vivae.files import write_json
from hf_vivae.models import MODELS
from hf_vivae.reporting.tables import Table
from hf_vivae.run_folder import environment, peak_memory_mb
from hf_vivae.training.fit import fit_model
from hf_vivae.training.recipes import parse_run
from hf_vivae.training.trainer import VivaeTrainer
from hf_vivae.validation import check_choice

RECIPES = Path(__file__).parents[1] / "recipes"
CLIPS = 240  # that a measurement trains on: eight batches of 30, so that few steps meet the start of an epoch
WARM_UP = 2  # steps before the measured ones, which allocate memory and choose kernels
VITS_IN_PAPER = ("vit-32-30", "vit-16-69", "vit-8-23", "vit-base")
REPORTED_SECONDS = {"mlp": 100, "wav2vec2": 4 * 3600, **dict.fromkeys(VITS_IN_PAPER, 3600)}
# figure -> its column and format
FIGURES = {
    "parameters": ("parameters", ",.0f"),
    "first_step_seconds": ("first step, s", ".2f"),
    "step_seconds": ("s/step", ".3f"),
    "train_clips_per_second": ("trained, clips/s", ",.1f"),
    "eval_clips_per_second": ("scored, clips/s", ",.1f"),
    "checkpoint_seconds": ("checkpoint, s", ".2f"),
    "peak_memory_mb": ("MB", ",.0f"),
    "epochs": ("epochs", "g"),
    "training_seconds_extrapolated": ("extrapolated, s", ",.0f"),
}


@dataclass
class BenchmarkArguments:
    """Arguments of the benchmark."""

    models: list[str] | None = field(default=None, metadata={"help": "Names of models; all of them by default."})
    steps: int = field(default=5, metadata={"help": "Measured optimiser steps of each process."})
    repeats: int = field(default=3, metadata={"help": "Processes for each model."})
    study: Literal["quick", "full"] | None = field(
        default=None, metadata={"help": "Measure recipes/reproduce.py instead, with --quick or without."}
    )
    output: str | None = field(default=None, metadata={"help": "JSON file; runs/benchmark-<what>.json if absent."})
    measure: str | None = field(default=None, metadata={"help": "A model, which is measured in this process."})


class Stopwatch(TrainerCallback):
    """Callback that records when training starts, steps end, and the checkpoint after the last one is written."""

    def __init__(self) -> None:
        self.step_ends: list[float] = []
        self.started = self.saved = math.nan

    def on_train_begin(self, *args, **kwargs) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *args, **kwargs) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the GPU computes asynchronously
        self.step_ends.append(time.perf_counter())

    def on_save(self, *args, **kwargs) -> None:
        self.saved = time.perf_counter()


def main(argv: list[str]) -> None:
    arguments = parse_flags(BenchmarkArguments, argv, description=__doc__.splitlines()[0])
    if arguments.measure:
        write_json(Path(arguments.output), measure_model(arguments.measure, arguments.steps))
        return
    check(arguments)
    output = Path(arguments.output or f"runs/benchmark-{arguments.study or 'models'}.json")
    content = measure_study(arguments.study) if arguments.study else measure_models(arguments)
    write_json(output, {"environment": environment(), **content})
    print(json.dumps(content, indent=2) if arguments.study else models_table(content).to_markdown())
    print(f"figures   {output}")
    if content.get("exit_status"):
        sys.exit(f"error: the study ended with exit status {content['exit_status']}; its errors are above.")


def check(arguments: BenchmarkArguments) -> None:
    """Check the arguments before anything is measured."""
    if min(arguments.steps, arguments.repeats) < 1:
        counts = f"{arguments.steps} and {arguments.repeats}"
        sys.exit(f"error: expected --steps and --repeats of at least 1, found {counts}; raise them.")
    if arguments.study and arguments.models:
        sys.exit("error: --study runs all models of the study, found --models too; leave out one of them.")
    for name in arguments.models or ():
        check_choice("the model", name, MODELS)


def measure_models(arguments: BenchmarkArguments) -> dict[str, Any]:
    """Return medians for each model, measured in processes of its own, and the time of all trainings."""
    names = list(dict.fromkeys(arguments.models or MODELS))
    turns = [name for repeat in range(arguments.repeats) for name in names[:: -1 if repeat % 2 else 1]]
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for name in tqdm(turns, desc="Measuring", unit="process"):
        measured[name].append(measure_apart(name, arguments.steps))
    rows = [
        {"model": name, **{figure: median(repeat[figure] for repeat in repeats) for figure in FIGURES}}
        for name, repeats in measured.items()
    ]
    total = sum(row["training_seconds_extrapolated"] for row in rows)
    counts = {"steps": arguments.steps, "repeats": arguments.repeats}
    return {**counts, "models": rows, "training_seconds_extrapolated": total, "measured": measured}


def measure_apart(name: str, steps: int) -> dict[str, float]:
    """Return the figures of `measure_model` from a new process, whose peak memory is the model's own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "figures.json")
        flags = ["--measure", name, "--steps", str(steps), "--output", str(output)]
        done = subprocess.run([sys.executable, __file__, *flags], capture_output=True, text=True, check=False)
        if done.returncode:
            end = f"exit status {done.returncode} and this output:\n{done.stderr.strip()[-2000:]}"
            sys.exit(f"error: measuring {name} ended with {end}")
        return json.loads(output.read_text(encoding="utf-8"))


def measure_model(name: str, steps: int) -> dict[str, float]:
    """Return seconds, clips per second and memory of training one model in this process."""
    with tempfile.TemporaryDirectory() as folder:
        return measure_training(*build_measured_trainer(name, folder, steps))


def measure_training(trainer: VivaeTrainer, training: int, scoring: int) -> dict[str, float]:
    """Train until `max_steps`, score, and return seconds, clips per second and memory.

    Args:
        trainer: of `build_measured_trainer`.
        training: clips that an epoch of the whole training trains on.
        scoring: clips that it scores.
    """
    watch, folder = Stopwatch(), Path(trainer.args.output_dir)
    trainer.add_callback(watch)
    started = time.perf_counter()
    fit_model(trainer, folder)
    if watch.step_ends:
        step = median(end - start for start, end in list(pairwise(watch.step_ends))[WARM_UP - 1 :])
        batch, checkpoint = trainer.args.train_batch_size, watch.saved - watch.step_ends[-1]
        epochs, epoch_steps = trainer.args.num_train_epochs, math.ceil(training / batch)
        first_step = watch.step_ends[0] - watch.started
    else:  # a solver, whose iterations see all training clips
        solved = json.loads((folder / "history.jsonl").read_text(encoding="utf-8"))
        step, batch, checkpoint = (time.perf_counter() - started) / solved["iterations"], training, 0.0
        epochs, epoch_steps, first_step = 1, trainer.model.config.max_iterations, step
    with trainer.accelerator.autocast():  # fit_model ends mixed precision, in which a training's epochs are scored
        trainer.predict(trainer.eval_dataset.select(range(trainer.args.eval_batch_size)))
        started = time.perf_counter()
        trainer.predict(trainer.eval_dataset)
    scored = len(trainer.eval_dataset) / (time.perf_counter() - started)
    return {
        "parameters": trainer.model.num_parameters(),
        "first_step_seconds": first_step,
        "step_seconds": step,
        "train_clips_per_second": batch / step,
        "eval_clips_per_second": scored,
        "checkpoint_seconds": checkpoint,
        "peak_memory_mb": peak_memory_mb(),
        "epochs": epochs,
        "training_seconds_extrapolated": epochs * (epoch_steps * step + scoring / scored + checkpoint),
    }


def build_measured_trainer(
    name: str, folder: str, steps: int, flags: Sequence[str] = (), clips: int | None = CLIPS
) -> tuple[VivaeTrainer, int, int]:
    """Return a Trainer that stops and saves after the measured steps, and the clips an epoch trains on and scores.

    Args:
        name: key of `MODELS`.
        folder: its run folder.
        steps: measured steps, after those that warm up.
        flags: further flags of `recipes/train.py`.
        clips: number of clips that it trains on and scores; None for the whole corpus.
    """
    # not on top, where recipes/evaluate.py would still hide the library `evaluate`
    from hf_vivae.training.build import build_fold_inputs, build_trainer, load_training_data

    last = WARM_UP + steps
    own = (
        f"--model {name} --data noise --max_steps {last} --save_strategy steps --save_steps {last} --eval_strategy no "
        "--logging_strategy no --load_best_model_at_end false --disable_tqdm true --output_dir"
    )
    run, args = parse_run([*own.split(), folder, *flags], recipes=RECIPES)
    data = load_training_data(run, args.seed, run.load())
    fold = data.folds[0]
    # the solver of logistic regression needs all training clips
    rows = fold.train if name == "logistic-regression" else (fold.train + fold.validation + fold.test)[:clips]
    selected = {"labels": [data.labels[row] for row in rows], "clips": [data.clips[row] for row in rows]}
    data = replace(data, corpus=replace(data.corpus, dataset=data.corpus.dataset.select(rows)), **selected)
    parts = dict.fromkeys(("train", "validation"), range(len(rows)))
    trainer = build_trainer(run, args, data, parts, build_fold_inputs(run, args, data, parts, checkpoint=None))
    return trainer, len(fold.train), len(fold.validation) + len(fold.test)


def measure_study(kind: str) -> dict[str, Any]:
    """Return seconds, memory and finished runs of the whole study in an empty folder, and its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--data", "synthetic", "--audit", "--output_dir", folder, *(["--quick"] if kind == "quick" else [])]
        started = time.perf_counter()
        done = subprocess.run([sys.executable, str(RECIPES / "reproduce.py"), *flags], check=False)
        seconds = time.perf_counter() - started
        folders = [file.parent for file in Path(folder, "runs").rglob("results.json")]
        records = [json.loads((run / "run.json").read_text(encoding="utf-8")) for run in folders]
    # a run of several folds has the record of each below its own, which has no memory
    peaks = [record["peak_memory_mb"] for record in records if "peak_memory_mb" in record]
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "study": kind,
        "data": "synthetic",
        "exit_status": done.returncode,
        "seconds": seconds,
        "finished_runs": sum(run.parent not in folders for run in folders),
        "peak_memory_mb_of_a_run": max(peaks, default=None),
        "peak_memory_mb_of_a_process": largest / (2**20 if sys.platform == "darwin" else 2**10),
    }


def models_table(content: dict[str, Any]) -> Table:
    """Return the figures of `measure_models`, with the paper's times."""
    where = environment()
    rows = [(*row.values(), REPORTED_SECONDS.get(row["model"])) for row in content["models"]]
    total = [None] * (len(FIGURES) - 1) + [content["training_seconds_extrapolated"]]
    columns, formats = zip(*FIGURES.values(), strict=True)
    return Table(
        name="benchmark-models",
        caption=(
            f"Cost of training on {where['device']} ({where['threads']} CPU threads), torch "
            f"{where['versions']['torch']}: medians over {content['repeats']} processes of {content['steps']} steps "
            "each, on noise clips; the whole training is extrapolated."
        ),
        columns=("model", *columns, "paper, s"),
        rows=(*rows, ("all of these", *total, sum(row[-1] or 0 for row in rows))),
        formats=(None, *formats, ",d"),
    )


if __name__ == "__main__":
    run_script(main)

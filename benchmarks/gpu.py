"""Measure training on one GPU: each of the paper's models, compiled or not, and with all features on the GPU.

python benchmarks/gpu.py
python benchmarks/gpu.py --minutes 4 --models vit-32-30 vit-base
python benchmarks/gpu.py --device cpu --models mlp --steps 1

Models train by their recipe `paper` in mixed precision (--bf16), with random weights, on noise clips of the paper's
number. All is measured in this process: first each model as it is, then each compiled, so that what the minutes are
too short for are the last compilations: a training starts only if the time left is enough for the longest so far.
Figures are saved after each model.

- Trainer: as recipes/train.py trains. Trainer, compiled: with --torch_compile; scoring is not compiled.
- resident: a plain loop over the same model and optimizer without Trainer, with the features of the whole corpus in
  the memory of the GPU, where batches are indexed: the limit for reading and Trainer.
- solver: logistic regression, which scikit-learn fits on the CPU.
- trained, scored, first step: as in benchmarks/training.py.
- MB: memory that torch has allocated at most on the GPU; with `--device cpu` resident memory of the process.
- share: floating-point operations of a step's matrix products and convolutions (torch's FlopCounterMode) a second, of
  the rate of one large matrix product in bfloat16, measured in the same run.
- extrapolated: the recipe's whole training, computed as in benchmarks/training.py and not measured, with the first
  step; compiled with two of them where the clips do not fill the last batch of an epoch, which is compiled again.
- paper: the time in the 2022 paper, on its own GPU.
"""

import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import hf_vivae  # noqa: F401 - first: its error states which packages do not load

# isort: split
import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm
from training import REPORTED_SECONDS, WARM_UP, build_measured_trainer, measure_training
from transformers import EvalPrediction

from hf_vivae.cli_parser import parse_flags, run_script
from hf_vivae.files import write_json, write_text
from hf_vivae.models import MODELS
from hf_vivae.reporting.tables import Table
from hf_vivae.run_folder import environment, peak_memory_mb, reset_peak_memory
from hf_vivae.training.trainer import VivaeTrainer
from hf_vivae.validation import check_choice

SOLVED = "logistic-regression"
IN_PAPER = [name for name in MODELS if name == SOLVED or name in REPORTED_SECONDS]
GOAL_MINUTES = 20  # for all trainings of the study
WAYS = ("Trainer", "resident", "Trainer, compiled")
MATRIX = {"cuda": 8192, "cpu": 1024}  # rows and columns of the matrices whose product is the limit
SECONDS = 1.0  # of such products at least
REPEATS = 3  # of the measured steps without Trainer
Row = dict[str, Any]
# figure -> its column and format
FIGURES = {
    "train_clips_per_second": ("trained, clips/s", ",.1f"),
    "eval_clips_per_second": ("scored, clips/s", ",.1f"),
    "peak_memory_mb": ("MB", ",.0f"),
    "matrix_rate_share": ("share", ".1%"),
    "first_step_seconds": ("first step, s", ".2f"),
    "training_seconds_extrapolated": ("extrapolated, s", ",.0f"),
}


@dataclass
class GpuBenchmarkArguments:
    """Arguments of the benchmark."""

    models: list[str] = field(default_factory=lambda: list(IN_PAPER), metadata={"help": "Names of models."})
    steps: int = field(default=20, metadata={"help": "Measured optimiser steps of each training."})
    minutes: float = field(default=8.0, metadata={"help": "Time after which no further training is started."})
    device: Literal["cuda", "cpu"] = field(default="cuda", metadata={"help": "cpu tries the script without a GPU."})
    torch_compile: bool | None = field(
        default=None, metadata={"help": "Measure compiled models too; by default on a GPU only."}
    )
    output: str = field(default="runs/benchmark-gpu.json", metadata={"help": "JSON file; the table is next to it."})


def main(argv: list[str]) -> None:
    arguments = parse_flags(GpuBenchmarkArguments, argv, description=__doc__.splitlines()[0])
    check(arguments)
    deadline = time.perf_counter() + 60 * arguments.minutes
    compiles = arguments.device == "cuda" if arguments.torch_compile is None else arguments.torch_compile
    names = list(dict.fromkeys(arguments.models))
    turns = [(name, False) for name in names]
    turns += [(name, True) for name in names if compiles and name != SOLVED]
    content: dict[str, Any] = {
        "environment": environment(),
        "device": arguments.device,
        "steps": arguments.steps,
        "matrix_flops_per_second": matrix_rate(arguments.device),
        "models": [],
        "study": {},
        "left_out": [],
        "failed": {},
    }
    output, longest = Path(arguments.output), 0.0
    for name, compiled in tqdm(turns, desc="Measuring", unit="training"):
        title, started = f"compiled {name}" if compiled else name, time.perf_counter()
        if started + longest > deadline:
            content["left_out"].append(title)
            continue
        try:
            content["models"] += measure(
                name, compiled, arguments.device, arguments.steps, content["matrix_flops_per_second"]
            )
        except RuntimeError as error:  # of torch: memory of the GPU, or a compiler; the others can be measured
            content["failed"][title] = f"{type(error).__name__}: {error}".splitlines()[0]
        longest = max(longest, time.perf_counter() - started)
        content["study"] = study_seconds(content["models"], names)
        write_json(output, content)
    write_json(output, content)
    table = models_table(content).to_markdown()
    write_text(output.with_suffix(".md"), table)
    print(table)
    for way, seconds in content["study"].items():
        goal = f"goal for the paper's {len(IN_PAPER)} models: {GOAL_MINUTES}"
        print(f"{way}: {seconds / 60:.1f} minutes for {', '.join(names)} ({goal})")
    if content["left_out"]:
        print(f"left out  {', '.join(content['left_out'])}: they need more --minutes than {arguments.minutes:g}")
    print(f"figures   {output}")
    if content["failed"]:
        reasons = "; ".join(f"{title} ({reason})" for title, reason in content["failed"].items())
        sys.exit(f"error: expected figures of all models, found errors in {reasons}; the other figures are kept.")


def check(arguments: GpuBenchmarkArguments) -> None:
    """Check the arguments and the machine before anything is measured."""
    if arguments.steps < 1 or not arguments.minutes > 0:
        numbers = f"{arguments.steps} and {arguments.minutes:g}"
        sys.exit(f"error: expected --steps of at least 1 and --minutes above 0, found {numbers}; raise them.")
    for name in arguments.models:
        check_choice("the model", name, MODELS)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: expected a GPU that torch can use, found none; add --device cpu to try the script.")


def matrix_rate(device: str) -> float:
    """Return the floating-point operations a second of one large matrix product in bfloat16."""
    size = MATRIX[device]
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    timer = Timer("left @ right", globals={"left": left, "right": right}, num_threads=torch.get_num_threads())
    return 2 * size**3 / timer.blocked_autorange(min_run_time=SECONDS).median


def measure(name: str, compiled: bool, device: str, steps: int, rate: float) -> list[Row]:
    """Return the figures of one model in one way or, as it is, in two.

    Args:
        name: key of `MODELS`.
        compiled: train with `--torch_compile`.
        device: `cuda` or `cpu`.
        steps: measured optimizer steps.
        rate: of `matrix_rate`.
    """
    gc.collect()  # trainers are in reference cycles with their models, whose memory would count
    torch.compiler.reset()
    flags = ["--bf16", *(["--torch_compile"] if compiled else []), *(["--use_cpu"] if device == "cpu" else [])]
    with tempfile.TemporaryDirectory() as folder:
        trainer, training, scoring = build_measured_trainer(name, folder, steps, flags, clips=None)
        reset_peak_memory()
        figures = measure_training(trainer, training, scoring)
        if name == SOLVED:
            return [{"model": name, "way": "solver", **figures, "matrix_rate_share": None, "peak_memory_mb": None}]
        batch = trainer.args.train_batch_size
        compilations = 1 + bool(training % batch) if compiled else 1
        figures["training_seconds_extrapolated"] += compilations * figures["first_step_seconds"]
        rows = [{"model": name, "way": "Trainer, compiled" if compiled else "Trainer", **figures}]
        corpus = resident_features(trainer)
        if not compiled:
            reset_peak_memory()
            resident = measure_resident(trainer, corpus, steps)
            epoch = training / resident["train_clips_per_second"] + scoring / resident["eval_clips_per_second"]
            seconds = figures["epochs"] * (epoch + figures["checkpoint_seconds"])
            rows.append({"model": name, "way": "resident", **resident, "training_seconds_extrapolated": seconds})
        flops = count_flops(trainer, {column: values[:batch] for column, values in corpus.items()})
    for row in rows:
        row["flops_per_clip"] = flops / batch
        row["matrix_rate_share"] = row["train_clips_per_second"] * row["flops_per_clip"] / rate
    return rows


def resident_features(trainer: VivaeTrainer) -> dict[str, torch.Tensor]:
    """Return features and labels of all clips as one batch on the device; shorter clips are padded to the longest."""
    corpus = trainer.data_collator(list(trainer.train_dataset))
    corpus.pop("clip")
    return {column: values.to(trainer.args.device) for column, values in corpus.items()}


def measure_resident(trainer: VivaeTrainer, corpus: dict[str, torch.Tensor], steps: int) -> Row:
    """Return clips per second and memory of training and scoring without Trainer, on features on the device.

    Args:
        trainer: with a model and an optimizer after some steps.
        corpus: as `resident_features` returns it.
        steps: measured optimizer steps.
    """
    model, optimizer, clips = trainer.model, trainer.optimizer.optimizer, len(corpus["labels"])
    batch, device = trainer.args.train_batch_size, corpus["labels"].device

    def train(count: int) -> float:
        model.train()
        started = time.perf_counter()
        for _ in range(count):
            indices = torch.randint(clips, (batch,), device=device)
            with trainer.accelerator.autocast():
                loss = model(**{column: values[indices] for column, values in corpus.items()}).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        loss.item()  # waits for the GPU
        return (time.perf_counter() - started) / count

    def score() -> float:
        model.eval()
        started = time.perf_counter()
        with torch.inference_mode(), trainer.accelerator.autocast():
            batches = zip(*(values.split(trainer.args.eval_batch_size) for values in corpus.values()), strict=True)
            logits = [model(**dict(zip(corpus, columns, strict=True))).logits for columns in batches]
        labels = corpus["labels"].cpu().numpy()
        trainer.compute_metrics(EvalPrediction(torch.cat(logits).float().cpu().numpy(), labels))
        return time.perf_counter() - started

    first_step = train(1)
    train(WARM_UP)
    score()
    step = median(train(steps) for _ in range(REPEATS))
    return {
        "first_step_seconds": first_step,
        "step_seconds": step,
        "train_clips_per_second": batch / step,
        "eval_clips_per_second": clips / median(score() for _ in range(REPEATS)),
        "features_mb": sum(values.nbytes for values in corpus.values()) / 2**20,
        "peak_memory_mb": peak_memory_mb(),
    }


def count_flops(trainer: VivaeTrainer, batch: dict[str, torch.Tensor]) -> int:
    """Return the floating-point operations of forward and backward pass of a batch."""
    trainer.model.train()
    with FlopCounterMode(display=False) as counter, trainer.accelerator.autocast():
        trainer.model(**batch).loss.backward()
    return counter.get_total_flops()


def study_seconds(rows: Sequence[Row], names: Sequence[str]) -> dict[str, float]:
    """Return the extrapolated seconds of all trainings, for each way in which all models were measured."""
    seconds = {(row["way"], row["model"]): row["training_seconds_extrapolated"] for row in rows}
    totals = {}
    for way in WAYS:
        each = [seconds.get((way, name), seconds.get(("solver", name))) for name in names]
        if None not in each:
            totals[way] = sum(each)
    return totals


def models_table(content: dict[str, Any]) -> Table:
    """Return the figures of all models and ways, with the paper's times."""
    where = content["environment"]
    device = where["device"] if content["device"] == "cuda" else "the CPU"
    columns, formats = zip(*FIGURES.values(), strict=True)
    rows = [
        (row["model"], row["way"], *(row[figure] for figure in FIGURES), REPORTED_SECONDS.get(row["model"]))
        for row in content["models"]
    ]
    for way, seconds in content["study"].items():
        rows.append(("all of these", way, *[None] * (len(FIGURES) - 1), seconds, None))
    return Table(
        name="benchmark-gpu",
        caption=(
            f"Training on {device} ({where['cpu_cores']} CPU cores), torch {where['versions']['torch']}, bfloat16: "
            f"medians over {content['steps']} steps on noise clips; a large matrix product runs at "
            f"{content['matrix_flops_per_second'] / 1e12:,.1f} TFLOP/s. The whole training is extrapolated."
        ),
        columns=("model", "way", *columns, "paper, s"),
        rows=tuple(rows),
        formats=(None, None, *formats, ",d"),
    )


if __name__ == "__main__":
    run_script(main)

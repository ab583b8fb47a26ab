"""Measure time, size and scores of a checkpoint in torch, as ONNX, and as ONNX with weights of 8 bits.

python benchmarks/export.py runs/synthetic/quick/vit-32-30-speaker-k-fold-emotion-seed42/1-of-5 --data synthetic

Each form gets the test clips of the run one by one, as samples at the model's rate, and returns probabilities:
features are part of the time, reading and resampling are not. The three take turns at each clip.

- MB: size of the weights' file, or of the ONNX file.
- ms: median over the clips, with as many threads as torch has (OMP_NUM_THREADS).
- accuracy: of the run's test clips. agree: share of clips with the same label as in torch.
- difference: largest of any probability from that of torch.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hf_vivae  # noqa: F401 - first: its error states which packages do not load

# isort: split
import numpy as np
import torch
from tqdm.auto import tqdm

from hf_vivae.cli_parser import FlagParser, refuse_unknown, run_script
from hf_vivae.corpus.arguments import CorpusArguments
from hf_vivae.files import read_json, write_json
from hf_vivae.inference.export import INT8, MODEL, export_onnx
from hf_vivae.inference.scorer import Scorer
from hf_vivae.reporting.tables import Table
from hf_vivae.run_folder import environment, read_predictions

WARM_UP = 5  # clips before the measured ones, which allocate memory
Answer = Callable[[np.ndarray], np.ndarray]


@dataclass
class ExportBenchmarkArguments(CorpusArguments):
    """Arguments of the benchmark: clips and output."""

    output: str = field(default="runs/benchmark-export.json", metadata={"help": "JSON file."})


def make_parser() -> FlagParser:
    """Return the parser of all arguments."""
    parser = FlagParser(ExportBenchmarkArguments, allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="Run folder of a fold.")
    return parser


def main(argv: list[str]) -> None:
    given, unknown = make_parser().parse_known_args(argv)
    refuse_unknown(unknown, vars(given))
    folders = [Path(folder) for folder in vars(given).pop("checkpoints")]
    for folder in folders:
        if not (folder / "predictions.parquet").is_file():
            sys.exit(f"error: expected the run folder of a fold, found no predictions.parquet in {folder}; give one.")
    arguments = ExportBenchmarkArguments(**vars(given))
    dataset = arguments.load().dataset
    sounds = dict(zip(dataset["file"], dataset["audio"], strict=True))
    rows = [row for folder in folders for row in measure(folder, sounds)]
    write_json(Path(arguments.output), {"environment": environment(), "rows": rows})
    print(cost_table(rows).to_markdown())
    print(f"figures   {arguments.output}")


def measure(folder: Path, sounds: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each form of a checkpoint."""
    scorer = Scorer(str(folder), device="cpu", workers=1)
    tested = [row for row in read_predictions(folder) if row["split"] == "test"]
    truth = np.array([row["label"] for row in tested])
    clips = [scorer.load_audio(sounds[row["file"]]) for row in tested]
    with tempfile.TemporaryDirectory() as temporary:
        exported = Path(temporary)
        export_onnx(scorer, exported)
        forms = {
            "torch": (in_torch(scorer), folder / "model.safetensors"),
            "ONNX": (in_onnx(exported / MODEL), exported / MODEL),
            "ONNX, int8": (in_onnx(exported / INT8), exported / INT8),
        }
        scores, seconds = take_turns({name: answer for name, (answer, _) in forms.items()}, clips, folder.name)
        sizes = {name: file.stat().st_size / 1e6 for name, (_, file) in forms.items()}
    reference = scores["torch"]
    return [
        {
            "checkpoint": read_json(folder / "run.json")["run"]["model"],
            "form": name,
            "clips": len(clips),
            "megabytes": sizes[name],
            "milliseconds": 1000 * float(np.median(seconds[name])),
            "accuracy": float((probabilities.argmax(axis=1) == truth).mean()),
            "agree": float((probabilities.argmax(axis=1) == reference.argmax(axis=1)).mean()),
            "difference": float(np.abs(probabilities - reference).max()),
        }
        for name, probabilities in scores.items()
    ]


def in_torch(scorer: Scorer) -> Answer:
    """Return a function from a clip `(samples,)` to probabilities `(labels,)`, as in `hf-vivae predict`."""

    def answer(samples: np.ndarray) -> np.ndarray:
        (probabilities,) = scorer.score([{"array": samples, "sampling_rate": scorer.sampling_rate}])
        if isinstance(probabilities, ValueError):
            raise probabilities
        return probabilities

    return answer


def in_onnx(file: Path) -> Answer:
    """Return the same function of an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda samples: session.run(None, {"samples": samples[None]})[0][0]


def take_turns(
    forms: dict[str, Answer], clips: list[np.ndarray], name: str
) -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    """Return probabilities `(clips, labels)` and seconds of each clip, by form; the order changes with each clip."""
    scores: dict[str, list[np.ndarray]] = {form: [] for form in forms}
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    for answer in forms.values():
        for clip in clips[:WARM_UP]:
            answer(clip)
    for number, clip in enumerate(tqdm(clips, desc=f"Measuring {name}", unit="clip")):
        for form in list(forms)[:: -1 if number % 2 else 1]:
            started = time.perf_counter()
            scores[form].append(forms[form](clip))
            seconds[form].append(time.perf_counter() - started)
    return {form: np.stack(probabilities) for form, probabilities in scores.items()}, seconds


def cost_table(rows: list[dict[str, Any]]) -> Table:
    """Return the table of all rows, with the machine in its caption."""
    where = environment()
    columns = {"checkpoint": None, "form": None, "clips": ",d", "MB": ",.1f", "ms": ",.2f", "accuracy": ".1%",
               "agree": ".1%", "difference": ".1g"}  # fmt: skip
    return Table(
        name="benchmark-export",
        caption=(
            f"A checkpoint in torch {where['versions']['torch']} and in onnxruntime on {where['device']} "
            f"({where['cpu_cores']} CPU cores, {where['threads']} threads): size, time for a clip, and test clips."
        ),
        columns=tuple(columns),
        rows=tuple(tuple(row.values()) for row in rows),
        formats=tuple(columns.values()),
    )


if __name__ == "__main__":
    run_script(main)

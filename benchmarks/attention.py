"""Measure time and memory of attention by number of tokens on this machine: Performer and exact attention.

python benchmarks/attention.py
python benchmarks/attention.py --tokens 46 240 --repeats 5

One attention layer of the paper's ViT (tokens of 200 numbers, 16 heads of 64), forward and backward pass for one
clip, in 32-bit floats with random weights. Every figure is a median over new processes, in turns whose order
alternates.

- performer: with the number of random features in the paper of Performer, 266.
- sdpa: torch's fused kernel, exact. sdpa, dropout: the same with `attention_dropout` 0.05, the default of the ViT,
  which torch does without its fused kernel on CPUs.
- eager: exact, written out.
- ms: median of as many passes as fit into a second, and of one at least, after two that warm up.
- MB: growth of the largest resident memory of the process in its first such pass, or of the memory that torch has
  allocated on a GPU; without weights, libraries and input.

Attention with a weight for each pair of tokens is measured up to 2500 tokens only.
"""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import hf_vivae  # noqa: F401 - first: its error states which packages do not load

# isort: split
import torch
from torch.utils.benchmark import Timer
from tqdm.auto import tqdm

from hf_vivae.cli_parser import parse_flags, run_script
from hf_vivae.files import write_json
from hf_vivae.models import build_model
from hf_vivae.reporting.plots import BLUE, GREEN, PURPLE, VERMILION, blank_figure
from hf_vivae.reporting.tables import Table
from hf_vivae.run_folder import environment, peak_memory_mb, reset_peak_memory

SECONDS = 1.0  # of passes at least, in each process
# kind -> the settings of the ViT, largest number of tokens, colour
KINDS = {
    "performer": ({"attention": "performer"}, None, BLUE),
    "sdpa": ({"attention_dropout": 0.0}, None, VERMILION),
    "sdpa, dropout": ({}, 2500, PURPLE),
    "eager": ({"attention_dropout": 0.0, "attn_implementation": "eager"}, 2500, GREEN),
}
FIGURES = {"milliseconds": ("ms", ",.1f"), "memory_mb": ("MB", ",.1f")}  # figure -> its unit and format
Measured = dict[str, dict[int, dict[str, float]]]  # kind -> tokens -> figure -> value


@dataclass
class AttentionArguments:
    """Arguments of the benchmark."""

    tokens: list[int] = field(
        default_factory=lambda: [46, 240, 1000, 2500, 5000, 10_000], metadata={"help": "Numbers of tokens of a clip."}
    )
    repeats: int = field(default=3, metadata={"help": "Processes for each attention and number of tokens."})
    output: str = field(
        default="runs/benchmark-attention.json", metadata={"help": "JSON file; the picture has the same name."}
    )


def main(argv: list[str]) -> None:
    arguments = parse_flags(AttentionArguments, argv, description=__doc__.splitlines()[0])
    if min(*arguments.tokens, arguments.repeats) < 1:
        found = f"{min(arguments.tokens)} and {arguments.repeats}"
        sys.exit(f"error: expected --tokens and --repeats of at least 1, found {found}; raise them.")
    output = Path(arguments.output)
    measured = measure(sorted(set(arguments.tokens)), arguments.repeats)
    content = {"environment": environment(), "repeats": arguments.repeats, "measured": measured}
    write_json(output, content)
    picture = output.with_suffix(".png")
    draw(measured).savefig(picture)
    for figure in FIGURES:
        print(cost_table(measured, figure, arguments.repeats).to_markdown())
    print(f"figures   {output}\npicture   {picture}")


def measure(tokens: list[int], repeats: int) -> Measured:
    """Return medians for each kind of attention and number of tokens."""
    pairs = [(count, kind) for count in tokens for kind, (_, most, _) in KINDS.items() if count <= (most or count)]
    turns = [pair for repeat in range(repeats) for pair in pairs[:: -1 if repeat % 2 else 1]]
    costs: dict[tuple[int, str], list[dict[str, float]]] = {pair: [] for pair in pairs}
    for count, kind in tqdm(turns, desc="Measuring", unit="process"):
        costs[count, kind].append(measure_apart(kind, count))
    measured: Measured = {kind: {} for kind in KINDS}
    for (count, kind), several in costs.items():
        measured[kind][count] = {figure: median(cost[figure] for cost in several) for figure in FIGURES}
    return measured


def measure_apart(kind: str, tokens: int) -> dict[str, float]:
    """Return the figures of `measure_layer` from a new process, without memory of earlier measurements."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure_layer, kind, tokens).result()


def measure_layer(kind: str, tokens: int) -> dict[str, float]:
    """Return milliseconds and megabytes of a forward and backward pass of an attention layer, in this process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model("vit-32-30", num_hidden_layers=1, **KINDS[kind][0])
    layer = model.layers[0].attention.to(device).train()

    def train(hidden_states: torch.Tensor) -> None:
        layer(hidden_states).sum().backward()

    train(torch.randn(1, 8, model.config.hidden_size, device=device))  # loads what torch loads on first use
    clip = torch.randn(1, tokens, model.config.hidden_size, device=device, requires_grad=True)
    reset_peak_memory()
    before = peak_memory_mb()
    train(clip)
    memory = peak_memory_mb() - before
    timer = Timer("train(clip)", globals={"train": train, "clip": clip}, num_threads=torch.get_num_threads())
    seconds = timer.blocked_autorange(min_run_time=SECONDS).median
    return {"milliseconds": 1000 * seconds, "memory_mb": memory}


def cost_table(measured: Measured, figure: str, repeats: int) -> Table:
    """Return a table of one figure of all kinds by tokens, with the ratio of performer to sdpa."""
    unit, spec = FIGURES[figure]
    where = environment()
    rows = []
    for tokens in measured["performer"]:
        values = {kind: costs[tokens][figure] if tokens in costs else None for kind, costs in measured.items()}
        rows.append((tokens, *values.values(), values["performer"] / values["sdpa"]))
    return Table(
        name=f"benchmark-attention-{figure}",
        caption=(
            f"{unit} of a forward and backward pass of one attention layer for one clip, on {where['device']} "
            f"({where['cpu_cores']} CPU cores, {where['threads']} threads), torch {where['versions']['torch']}: "
            f"medians over {repeats} processes."
        ),
        columns=("tokens", *(f"{kind}, {unit}" for kind in measured), "performer / sdpa"),
        rows=tuple(rows),
        formats=(",d", *[spec] * len(measured), ".2f"),
    )


def draw(measured: Measured) -> Any:
    """Draw time and memory over tokens, on logarithmic axes."""
    figure = blank_figure(10, 4.4)
    panels, tokens = figure.subplots(1, 2), list(measured["performer"])
    for axes, (name, (unit, _)) in zip(panels, FIGURES.items(), strict=True):
        for kind, costs in measured.items():
            values = [cost[name] for cost in costs.values()]
            axes.loglog(list(costs), values, label=kind, color=KINDS[kind][2], marker="o", markersize=4)
        axes.set(xlabel="tokens", ylabel=f"forward and backward pass ({unit})")
        axes.set_xticks(tokens, [f"{count:,d}" for count in tokens])
        axes.minorticks_off()
        axes.grid(which="major", alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(measured))
    return figure


if __name__ == "__main__":
    run_script(main)

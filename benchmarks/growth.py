"""Measure seconds a clip and memory of each step over the size of a corpus: both must stay flat.

python benchmarks/growth.py
python benchmarks/growth.py --quick
python benchmarks/growth.py --steps predict --sizes 1 16 64
python benchmarks/growth.py --emogator_size --steps train

The corpus is a folder of MP3 files: synthetic voices, of which each further copy has a tag of its own (ID3v1, 128
bytes) and its own speaker, so that no two files are equal. The scores have no meaning. Corpora and caches are in the
folder of temporary files, and are removed at the end. Each figure is of a new process, and a median over the repeats.

- load: names, one decoding of every clip to check it, digests of all files, folds.
- features: load, and the features of the model with an empty cache.
- train: load, one epoch with these features, and the scores and files of the run.
- evaluate: intervals, tables and report of that run.
- predict: `hf-vivae predict` on all files, with an untrained checkpoint.
- s: the whole process, with its imports. step, s: without them. marginal, ms/clip: of the step, the difference to the
  next smaller size for each clip more.
- MB: largest resident memory of the process; of train, since the training began, after load.

Bars: a clip more takes at most 10 % longer in the largest corpus than in the second smallest, and memory grows by a
factor of at most 1.5; with `--emogator_size`, one corpus of 32,130 clips stays below 3,000 MB.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import hf_vivae  # first: its error states which packages do not load

# isort: split
from tqdm.auto import tqdm

from hf_vivae.cli_parser import parse_flags, run_script
from hf_vivae.corpus.emogator import CATEGORIES, SPEAKERS, TAKES
from hf_vivae.corpus.manifest import SAMPLING_RATE, read_manifest
from hf_vivae.files import write_json
from hf_vivae.reporting.plots import BLUE, GREEN, GREY, PURPLE, SKY, VERMILION, blank_figure
from hf_vivae.reporting.tables import Table
from hf_vivae.run_folder import environment, peak_memory_mb
from hf_vivae.validation import check_choice

RECIPES = Path(__file__).parents[1] / "recipes"
# step -> its largest multiple of --base by default, milliseconds for a clip on two cores, colour
STEPS = {
    "load": (16, 3, BLUE),
    "features": (16, 8, VERMILION),
    "train": (16, 20, GREEN),
    "evaluate": (16, 2, PURPLE),
    "predict": (64, 9, SKY),
}
START_SECONDS = 8  # of each process, on two cores
EMOGATOR_CLIPS = SPEAKERS * len(CATEGORIES) * TAKES
LARGEST_MB = 3000  # of a training on as many
FLAT_SECONDS, FLAT_MEMORY = 1.1, 1.5  # largest ratio of marginal seconds, and of memory
TAG_BYTES = 128
Costs = dict[str, dict[int, dict[str, float]]]  # step -> clips -> figure -> value


@dataclass
class GrowthArguments:
    """Arguments of the benchmark."""

    sizes: list[int] = field(
        default_factory=lambda: [1, 4, 16, 64],
        metadata={"help": "Multiples of --base; above 16 for predict alone, unless --steps names the steps."},
    )
    base: int = field(default=300, metadata={"help": "Clips of the smallest corpus, up to 1085: different voices."})
    steps: list[str] | None = field(default=None, metadata={"help": f"Steps: {', '.join(STEPS)}; all by default."})
    repeats: int = field(default=3, metadata={"help": "Processes for each step and size."})
    quick: bool = field(default=False, metadata={"help": "24, 48 and 96 clips and one repeat: a trial, no result."})
    emogator_size: bool = field(
        default=False, metadata={"help": f"One corpus of {EMOGATOR_CLIPS:,d} clips instead of --sizes, once."}
    )
    model: str = field(default="vit-32-30", metadata={"help": "Model of the paper."})
    output: str = field(
        default="runs/benchmark-growth.json", metadata={"help": "JSON file; the picture has the same name."}
    )
    measure: str | None = field(default=None, metadata={"help": "A step, which is measured in this process."})
    folder: str | None = field(default=None, metadata={"help": "Of the corpus and the run, with --measure."})


def main(argv: list[str]) -> None:
    arguments = parse_flags(GrowthArguments, argv, description=__doc__.splitlines()[0])
    if arguments.measure:
        seconds = measure_step(arguments.measure, arguments.model, Path(arguments.folder))
        write_json(Path(arguments.output), {"step_seconds": seconds, "peak_memory_mb": peak_memory_mb()})
        return
    if arguments.quick:
        arguments.base, arguments.sizes = 24, [1, 2, 4]
    plan = plan_steps(arguments)
    repeats = 1 if arguments.quick or arguments.emogator_size else arguments.repeats
    seconds = repeats * sum(START_SECONDS + count * STEPS[step][1] / 1000 for count in plan for step in plan[count])
    print(f"about {seconds / 60:.0f} minutes on two cores, and the time to write the clips")
    costs = measure(plan, arguments, repeats)
    output = Path(arguments.output)
    write_json(output, {"environment": environment(), "repeats": repeats, "model": arguments.model, "costs": costs})
    print(cost_table(costs, arguments.model, repeats).to_markdown())
    if not arguments.quick:
        print("\n".join(verdicts(costs)))
    picture = output.with_suffix(".png")
    draw(costs).savefig(picture)
    print(f"figures   {output}\npicture   {picture}")


def plan_steps(arguments: GrowthArguments) -> dict[int, list[str]]:
    """Return the steps to measure by number of clips, in the order in which each uses the files of the ones before.

    Raises:
        UserError: for an unknown step.
    """
    for step in arguments.steps or ():
        check_choice("the step", step, STEPS)
    base, sizes = arguments.base, sorted(set(arguments.sizes))
    if min(*sizes, arguments.repeats) < 1 or not 2 <= base <= len(read_manifest()):
        found = f"{min(sizes)}, {arguments.repeats} and {base}; change them"
        sys.exit(f"error: expected --sizes and --repeats of at least 1 and --base of 2 to 1085, found {found}.")
    chosen = [step for step in STEPS if step in (arguments.steps or STEPS)]
    if arguments.emogator_size:
        return {EMOGATOR_CLIPS: chosen}
    return {
        size * base: [step for step in chosen if arguments.steps or size <= STEPS[step][0]]
        for size in sizes
        if arguments.steps or size <= max(largest for largest, *_ in STEPS.values())
    }


def measure(plan: dict[int, list[str]], arguments: GrowthArguments, repeats: int) -> Costs:
    """Return medians for each step and number of clips."""
    turns = [count for repeat in range(repeats) for count in sorted(plan, reverse=bool(repeat % 2))]
    measured: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        voices = write_voices(Path(folder, "voices"), arguments.base)
        for count in tqdm(turns, desc="Measuring", unit="corpus"):
            with tempfile.TemporaryDirectory(dir=folder) as work:
                write_corpus(voices, Path(work, "clips"), count)
                for step in plan[count]:
                    figures = measure_apart(step, arguments.model, Path(work))
                    measured.setdefault((step, count), []).append(figures)
    costs: Costs = {step: {} for step in STEPS if any(step == name for name, _ in measured)}
    for (step, count), several in sorted(measured.items(), key=lambda item: item[0][1]):
        costs[step][count] = {figure: median(one[figure] for one in several) for figure in several[0]}
    return costs


def write_voices(folder: Path, count: int) -> list[Path]:
    """Write synthetic clips as MP3 files, in one folder for each emotion, and return their paths."""
    import soundfile

    from hf_vivae.corpus.synthetic import synthesize_clip

    files = []
    rows = read_manifest()
    for row in tqdm(rows[:: len(rows) // count][:count], desc="Voices", unit="clip"):
        file = folder / row["emotion"] / f"{row['speaker']}_{Path(row['file_name']).stem}.mp3"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, synthesize_clip(row["file_name"]), SAMPLING_RATE)
        files.append(file)
    return files


def write_corpus(voices: list[Path], folder: Path, count: int) -> None:
    """Write a number of clips, copies of the voices in turn, each with a tag of its own and by its copy's speaker."""
    for number in range(count):
        voice, copy = voices[number % len(voices)], number // len(voices)
        file = folder / voice.parent.name / f"{copy:04}{voice.name}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(voice.read_bytes() + b"TAG" + f"{number:08}".encode().ljust(TAG_BYTES - 3, b"\0"))


def measure_apart(step: str, model: str, folder: Path) -> dict[str, float]:
    """Return seconds and peak memory of a step, in a new process."""
    output = folder / "figures.json"
    flags = ["--measure", step, "--model", model, "--folder", str(folder), "--output", str(output)]
    cache = {"HF_VIVAE_CACHE": str(folder / "cache")}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, *flags], env=os.environ | cache, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        end = f"exit status {done.returncode} and this output:\n{done.stderr.strip()[-2000:]}"
        sys.exit(f"error: measuring {step} ended with {end}")
    return {"seconds": seconds, **json.loads(output.read_text(encoding="utf-8"))}


def measure_step(step: str, model: str, folder: Path) -> float:
    """Carry out a step in this process, with the files of the steps before it, and return its seconds.

    Args:
        step: of `STEPS`.
        model: of the paper.
        folder: with `clips/`.
    """
    # not on top, where recipes/evaluate.py would still hide the library `evaluate`
    from hf_vivae.corpus.decoded import decode_once
    from hf_vivae.evaluation.evaluate import evaluate
    from hf_vivae.files import cache_folder
    from hf_vivae.inference.predict import run_predict
    from hf_vivae.training.build import build_fold_inputs, fold_parts, load_training_data
    from hf_vivae.training.recipes import parse_run
    from hf_vivae.training.run import train

    flags = ["--model", model, "--data", "folder", "--data_dir", str(folder / "clips")]
    flags += ["--speaker_pattern", "^([^_]+)_", "--folds", "0", "--num_train_epochs", "1", "--disable_tqdm", "true"]
    flags += ["--output_dir", str(folder / "run")]
    started = time.perf_counter()
    if step in ("load", "features"):
        run, args = parse_run(flags, recipes=RECIPES)
        with decode_once(cache_folder()):
            data = load_training_data(run, args.seed, run.load())
            if step == "features":
                parts = fold_parts(data.folds[0], run.select_on)
                build_fold_inputs(run, args, data, parts, checkpoint=None)
    elif step == "train":
        train(*parse_run(flags, recipes=RECIPES))
    elif step == "evaluate":
        evaluate([folder / "run"], folder / "evaluation")
    else:
        checkpoint = folder / "checkpoint"
        hf_vivae.build_model(model).save_pretrained(checkpoint)
        hf_vivae.build_feature_extractor(model).save_pretrained(checkpoint)
        run_predict(str(checkpoint), [str(folder / "clips")], output=folder / "scores.csv")
    return time.perf_counter() - started


def marginals(costs: dict[int, dict[str, float]]) -> dict[int, float]:
    """Return milliseconds for each clip that a corpus has more than the next smaller one, by number of clips."""
    return {
        count: 1000 * (costs[count]["step_seconds"] - costs[fewer]["step_seconds"]) / (count - fewer)
        for fewer, count in pairwise(costs)
    }


def cost_table(costs: Costs, model: str, repeats: int) -> Table:
    """Return the figures of all steps and sizes."""
    where = environment()
    rows = []
    for step, sizes in costs.items():
        extra = marginals(sizes)
        for count, figures in sizes.items():
            whole, own = figures["seconds"], figures["step_seconds"]
            rows.append((step, count, whole, own, 1000 * own / count, extra.get(count), figures["peak_memory_mb"]))
    return Table(
        name="benchmark-growth",
        caption=(
            f"Cost over the number of synthetic clips, {model}, on {where['device']} ({where['cpu_cores']} CPU cores, "
            f"{where['threads']} threads), torch {where['versions']['torch']}: medians over {repeats} processes."
        ),
        columns=("step", "clips", "s", "step, s", "ms/clip", "marginal, ms/clip", "MB"),
        rows=tuple(rows),
        formats=(None, ",d", ",.1f", ",.1f", ",.2f", ",.2f", ",.0f"),
    )


def verdicts(costs: Costs) -> list[str]:
    """Return a line for each step: the ratios of marginal seconds and of memory, with their bars."""
    lines = []
    for step, sizes in costs.items():
        counts, extra = [*sizes], [*marginals(sizes).values()]
        peak = max(figures["peak_memory_mb"] for figures in sizes.values())
        if counts == [EMOGATOR_CLIPS]:
            lines.append(f"{step}: {peak:,.0f} MB, {'within' if peak < LARGEST_MB else 'ABOVE'} {LARGEST_MB:,d}")
        if len(extra) > 1:
            ratio = extra[-1] / extra[0]
            within = "within" if ratio <= FLAT_SECONDS else "ABOVE"
            lines.append(f"{step}: each further clip takes {ratio:.2f} times as long, {within} {FLAT_SECONDS}")
        if extra:
            ratio = peak / sizes[counts[0]]["peak_memory_mb"]
            within = "within" if ratio <= FLAT_MEMORY else "ABOVE"
            lines.append(f"{step}: memory grows by {ratio:.2f}, {within} {FLAT_MEMORY}")
    return lines


def draw(costs: Costs) -> Any:
    """Draw marginal milliseconds a clip and memory over clips, the latter on a logarithmic axis."""
    figure = blank_figure(10, 4.4)
    time_axes, memory_axes = figure.subplots(1, 2)
    for step, sizes in costs.items():
        style = {"label": step, "color": STEPS[step][2], "marker": "o", "markersize": 4}
        extra = marginals(sizes)
        time_axes.plot([*extra], [*extra.values()], **style)
        memory_axes.plot([*sizes], [figures["peak_memory_mb"] for figures in sizes.values()], **style)
    counts = sorted({count for sizes in costs.values() for count in sizes})
    for axes, name in ((time_axes, "time of each further clip (ms)"), (memory_axes, "largest memory (MB)")):
        axes.set(xscale="log", xlabel="clips", ylabel=name)
        axes.set_xticks(counts, [f"{count:,d}" for count in counts])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(which="major", alpha=0.3)
    if counts == [EMOGATOR_CLIPS]:
        memory_axes.axhline(LARGEST_MB, color=GREY, linestyle=":")
    figure.legend(*memory_axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(costs))
    return figure


if __name__ == "__main__":
    run_script(main)

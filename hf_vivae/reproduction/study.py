"""Training of the runs of the reproduction, resumable and shared by several processes."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import run_folder
from ..checkpoints.checks import explain_build_errors
from ..cli_parser import parse_flags
from ..corpus.schema import Corpus, clip_digests, corpus_digest
from ..corpus.tasks import task_labels
from ..files import claim, read_json, write_json
from ..models import build_config
from ..run_folder import REPEAT, check_version, drop_checkpoints
from ..splits import make_folds
from ..training.arguments import RunArguments, VivaeTrainingArguments
from ..training.recipes import parse_run, read_switches
from ..training.run import train
from ..training.scoring import report_scores
from ..validation import UserError
from .audit import Described
from .plan import PlannedRun, StudyArguments, plan_runs
from .report import report_study

SHOWN = ("table5-test-accuracy", "table6", "audit", "patches", "noise")  # tables that end a study on the terminal


@dataclass(frozen=True)
class StudyReport:
    """Where the report lies, and its tables of accuracy and audit as text."""

    folder: Path
    text: str


def reproduce(argv: list[str], recipes: Path) -> StudyReport:
    """Train what is missing of a study and write its report; the report of what is finished, where a run fails.

    Args:
        argv: flags of `recipes/reproduce.py`, those of `StudyArguments`.
        recipes: folder of the recipes.

    Raises:
        ValueError: for what cannot be meant, and where a run fails; see `run_study`.
    """
    study = parse_flags(StudyArguments, argv, description="The whole study of the 2022 report.")
    run_folder.check_report_folder(study.output, "runs")
    planned = plan_runs(study, recipes)
    if any(run.apart for run in planned) and "RANK" in os.environ:
        raise UserError(
            "--patches measures each patch in a process of its own, found a launcher of several; leave out --patches, "
            "or start with `python recipes/reproduce.py`."
        )
    switches = read_switches(recipes).values()
    described = {switch.name: (switch.row, switch.report, switch.notebook) for switch in switches}
    for run in planned:
        check_version(study.output / run.name)
    with claim(study.output) if _is_main_process() else nullcontext():
        keep_kind(study.output, study.quick)
        corpus = study.load()
        possible, notes = leave_out(planned, recipes, corpus)
        try:
            run_study(possible, study.output, recipes, {study.data: corpus})
        except Exception as error:
            notes.append(f"**The study stopped**: {error}")
            try:
                _report(study, corpus, described, notes)
            except UserError as unreported:  # nothing is finished yet; what stopped the study is the news
                error.add_note(f"no report: {unreported}")
            raise
        return _report(study, corpus, described, notes)


def _report(study: StudyArguments, corpus: Corpus, described: Described, notes: Sequence[str]) -> StudyReport:
    if not _is_main_process():
        return StudyReport(study.output, "")
    labels, _ = task_labels(corpus.dataset, "emotion")
    digest = corpus_digest(corpus, labels)
    tables = report_study(study.output, corpus, digest, described, study.quick, notes)
    shown = [table.to_markdown() for table in tables if table.name in SHOWN]
    return StudyReport(study.output, "\n".join([*shown, *notes]))


def leave_out(planned: Sequence[PlannedRun], recipes: Path, corpus: Corpus) -> tuple[list[PlannedRun], list[str]]:
    """The runs that a corpus allows, and a sentence for each of the notebook's habits that it does not.

    Raises:
        ValueError: where it does not allow a run without habits.
    """
    possible, notes = [], []
    for run in planned:
        arguments, args = parse_run(run.argv, recipes)
        try:
            _check_possible(arguments, args.seed, corpus)
            possible.append(run)
        except UserError as error:
            if arguments.recipe == "paper" and not arguments.as_coded and "/audit/" not in run.name:
                raise
            notes.append(f"Left out, since these clips do not allow it: {run.name} ({error})")
    return possible, notes


def _check_possible(arguments: RunArguments, seed: int, corpus: Corpus) -> None:
    if arguments.data != corpus.name:  # the control on noise brings its own clips
        return
    if not arguments.resample and corpus.dataset.features["audio"].sampling_rate is None:
        raise UserError("it needs clips of one sampling rate.")
    labels, _ = task_labels(corpus.dataset, "emotion")
    digests = clip_digests(corpus.dataset)
    make_folds(corpus.dataset, arguments.protocol, labels, seed, digests=digests, duplicates=arguments.duplicates)


def run_study(planned: Sequence[PlannedRun], output: Path, recipes: Path, corpora: dict[str, Corpus]) -> None:
    """Train the planned runs that are not finished.

    Args:
        planned: runs in their order; those that share a training come after it.
        output: folder of the study.
        recipes: folder of the recipes.
        corpora: by `--data`; others are loaded as they are needed, and added.

    Raises:
        ValueError: where a run fails, naming it; those before it stay. And where its folder holds another run, of
            another corpus or with other settings.
    """
    parsed = {run.name: _divided(*parse_run(run.argv, recipes)) for run in planned}
    for arguments, _ in parsed.values():  # before hours of training
        with explain_build_errors(arguments.model, "give other --patches"):
            build_config(arguments.model, **arguments.model_config)
    progress = tqdm(planned, desc="study", unit="run", disable=not _is_main_process())
    for run in progress:
        progress.set_postfix_str(run.name)
        if run.apart:
            _train_apart(run, output, recipes)
        else:
            _carry_out(run, *parsed[run.name], output, corpora)


def _divided(arguments: RunArguments, args: VivaeTrainingArguments) -> tuple[RunArguments, VivaeTrainingArguments]:
    """The batch of a recipe is that of all processes together, so that several train what one would."""
    batch, processes = args.per_device_train_batch_size, args.world_size
    if batch % processes:
        raise UserError(
            f"expected a number of processes that divides the {batch} clips of a step of {arguments.model}, found "
            f"{processes}; start fewer."
        )
    args.per_device_train_batch_size = batch // processes
    args.per_device_eval_batch_size = max(1, args.per_device_eval_batch_size // processes)
    return arguments, args


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _carry_out(
    run: PlannedRun, arguments: RunArguments, args: VivaeTrainingArguments, output: Path, corpora: dict[str, Corpus]
) -> None:
    try:
        if run.shares:
            if _is_main_process():
                share_training(run, arguments, args, output)
            return
        if arguments.data not in corpora:
            corpora[arguments.data] = arguments.load()
        _, folders = train(arguments, args, corpora[arguments.data])
        if _is_main_process():
            drop_checkpoints(folders)
    except Exception as error:
        said = f"the run {run.name} failed; {REPEAT}"
        if isinstance(error, ValueError):
            raise UserError(f"{str(error).rstrip('.')} ({said}).") from error
        error.add_note(said)
        raise
    finally:
        gc.collect()  # a model refers to its trainer in circles


def _train_apart(run: PlannedRun, output: Path, recipes: Path) -> None:
    """Train in a process of its own, so that its memory is not that of the runs before it."""
    done = subprocess.run(
        [sys.executable, str(recipes / "train.py"), *run.argv], stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise UserError(
            f"the run {run.name} failed with exit status {done.returncode}, its own words are above; {REPEAT}."
        )
    drop_checkpoints([output / run.name])


def keep_kind(output: Path, quick: bool) -> None:
    """Note whether a study is quick, and refuse to mix the two kinds.

    Raises:
        ValueError: where the folder holds the other kind.
    """
    file, kinds = output / "study.json", {True: "a quick study", False: "a study with the report's epochs"}
    before = read_json(file)["quick"] if file.is_file() else quick
    if before != quick:
        raise UserError(f"expected {kinds[quick]} in {output}, found {kinds[before]}; give another --output_dir.")
    write_json(file, {"quick": quick})


def share_training(planned: PlannedRun, run: RunArguments, args: VivaeTrainingArguments, output: Path) -> None:
    """Write the folder of a run whose training was another's, since its settings change only what is reported."""
    base, folder = output / planned.shares, output / planned.name
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(base, part, ignore=shutil.ignore_patterns("checkpoint-*", ".*"))
    record, results = read_json(base / "run.json"), read_json(base / "results.json")
    changes: dict[str, Any] = {name: getattr(run, name) for name in record["run"] if name in vars(run)}
    write_json(part / "run.json", record | {"run": changes, "shares_training_with": planned.shares})
    rows = run_folder.read_predictions(base)
    reported = report_scores(run, rows, results["labels"], args.seed)
    write_json(part / "results.json", results | {"as_coded": run.as_coded, "reported": reported})
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)

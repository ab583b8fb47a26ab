"""Training of the runs of the reproduction, resumable and shared by several processes."""

import gc
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import run_folder
from ..checkpoints.checks import explain_build_errors
from ..cli_parser import parse_flags, run_script
from ..corpus.schema import Corpus, clip_digests, corpus_digest
from ..corpus.tasks import task_labels
from ..files import claim, read_json, write_json
from ..models import build_config
from ..run_folder import REPEAT, check_version, drop_checkpoints
from ..splits import make_folds
from ..training.arguments import RunArguments, VivaeTrainingArguments
from ..training.recipes import parse_run, read_deviations
from ..training.run import train
from ..training.scoring import report_scores
from ..validation import UserError
from .audit import Described
from .plan import PlannedRun, StudyArguments, plan_runs
from .report import report_study

DESCRIPTION = """Reproduce the study of the 2022 paper.

python recipes/reproduce.py --data synthetic --quick --audit"""
SHOWN = ("table5-test-accuracy", "table6", "audit", "patches", "noise")  # tables that are printed at the end


@dataclass(frozen=True)
class StudyReport:
    """Folder of the report, and its tables of accuracy and audit as text."""

    folder: Path
    text: str


def reproduce(argv: list[str], recipes: Path) -> StudyReport:
    """Train the missing runs of a study and write its report, also where a run fails.

    Args:
        argv: flags of `recipes/reproduce.py`, those of `StudyArguments`.
        recipes: folder of the recipes.

    Raises:
        UserError: for arguments that do not fit, and where a run fails; see `run_study`.
    """
    study = parse_flags(StudyArguments, argv, DESCRIPTION)
    run_folder.check_report_folder(study.output, "runs")
    planned = plan_runs(study, recipes)
    if any(run.apart for run in planned) and "RANK" in os.environ:
        raise UserError(
            "--patches measures each patch in a process of its own, found a launcher of several; leave out --patches, "
            "or start with `python recipes/reproduce.py`."
        )
    deviations = read_deviations(recipes).values()
    described = {deviation.name: (deviation.row, deviation.report, deviation.notebook) for deviation in deviations}
    for run in planned:
        check_version(study.output / run.name)
    with claim(study.output) if _is_main_process() else nullcontext():
        check_kind(study.output, study.quick)
        corpus = study.load()
        possible, notes = leave_out(planned, corpus)
        try:
            run_study(possible, study.output, recipes, {study.data: corpus})
        except Exception as error:
            notes.append(f"**The study stopped**: {error}")
            try:
                _report(study, corpus, described, notes)
            except UserError as unreported:  # no run is finished yet; the error that stopped the study comes first
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


def leave_out(planned: Sequence[PlannedRun], corpus: Corpus) -> tuple[list[PlannedRun], list[str]]:
    """Return the runs that a corpus allows, and a sentence for each run with a deviation that it does not allow.

    Raises:
        UserError: where it does not allow a run without deviations.
    """
    possible, notes = [], []
    for run in planned:
        try:
            _check_possible(run.arguments, run.training.seed, corpus)
            possible.append(run)
        except UserError as error:
            if run.arguments.recipe == "paper" and not run.arguments.as_coded and "/audit/" not in run.name:
                raise
            notes.append(f"Left out, since these clips do not allow it: {run.name} ({error})")
    return possible, notes


def _check_possible(arguments: RunArguments, seed: int, corpus: Corpus) -> None:
    if arguments.data == "noise" and corpus.name != "noise":  # this control has clips of its own
        return
    if not arguments.resample and corpus.dataset.features["audio"].sampling_rate is None:
        raise UserError("it needs clips of one sampling rate.")
    labels, _ = task_labels(corpus.dataset, "emotion")
    digests = clip_digests(corpus.dataset)
    make_folds(corpus.dataset, arguments.protocol, labels, seed, digests=digests, duplicates=arguments.duplicates)


def run_study(planned: Sequence[PlannedRun], output: Path, recipes: Path, corpora: dict[str, Corpus]) -> None:
    """Train the planned runs that are not finished.

    Args:
        planned: runs in their order; those that share the training of another come after it.
        output: folder of the study.
        recipes: folder of the recipes.
        corpora: by `--data`; others are loaded as they are needed, and added.

    Raises:
        UserError: where a run fails, with its name; those before it stay. And where its folder contains another run,
            of another corpus or with other settings.
    """
    for run in planned:
        _divide_batch(run.arguments, run.training)
        with explain_build_errors(run.arguments.model, "give other --patches"):  # before hours of training
            build_config(run.arguments.model, **run.arguments.model_config)
    progress = tqdm(planned, desc="study", unit="run", disable=not _is_main_process())
    for run in progress:
        progress.set_postfix_str(run.name)
        if run.apart:
            _train_apart(run, output, recipes)
        else:
            _carry_out(run, output, corpora)


def _divide_batch(arguments: RunArguments, args: VivaeTrainingArguments) -> None:
    """Divide the batch of a recipe among the processes, so that several train as one would; in place."""
    batch, processes = args.per_device_train_batch_size, args.world_size
    if batch % processes:
        raise UserError(
            f"expected a number of processes that divides the {batch} clips of a step of {arguments.model}, found "
            f"{processes}; start fewer."
        )
    args.per_device_train_batch_size = batch // processes
    args.per_device_eval_batch_size = max(1, args.per_device_eval_batch_size // processes)


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _carry_out(run: PlannedRun, output: Path, corpora: dict[str, Corpus]) -> None:
    data = run.arguments.data
    try:
        if run.shares:
            if _is_main_process():
                share_training(run, output)
            return
        if data not in corpora:
            corpora[data] = run.arguments.load()
        _, folders = train(run.arguments, run.training, corpora[data])
        if _is_main_process():
            drop_checkpoints(folders)
    except Exception as error:
        note = f"the run {run.name} failed; {REPEAT}"
        if isinstance(error, ValueError):
            raise UserError(f"{str(error).rstrip('.')} ({note}).") from error
        error.add_note(note)
        raise
    finally:
        gc.collect()  # a model refers to its trainer in reference cycles


def _train_apart(run: PlannedRun, output: Path, recipes: Path) -> None:
    """Train in a process of its own, so that its memory is measured without that of the runs before it."""
    process = multiprocessing.get_context("spawn").Process(target=_train_settings, args=(run.settings, recipes))
    process.start()
    process.join()
    if process.exitcode:
        raise UserError(
            f"the run {run.name} failed with exit status {process.exitcode}, its error is above; {REPEAT}."
        )
    drop_checkpoints([output / run.name])


def _train_settings(settings: dict[str, Any], recipes: Path) -> None:
    with redirect_stdout(None):
        run_script(lambda _: train(*parse_run([], recipes, settings)))


def check_kind(output: Path, quick: bool) -> None:
    """Check that a folder has no study of the other kind, quick or not, and record the kind in `study.json`.

    Raises:
        UserError: where its study is of the other kind.
    """
    file, kinds = output / "study.json", {True: "a quick study", False: "a study with the paper's epochs"}
    before = read_json(file)["quick"] if file.is_file() else quick
    if before != quick:
        raise UserError(f"expected {kinds[quick]} in {output}, found {kinds[before]}; give another --output_dir.")
    write_json(file, {"quick": quick})


def share_training(planned: PlannedRun, output: Path) -> None:
    """Write the folder of a run that shares the training of another."""
    run, base, folder = planned.arguments, output / planned.shares, output / planned.name
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(base, part, ignore=shutil.ignore_patterns("checkpoint-*", ".*"))
    record, results = read_json(base / "run.json"), read_json(base / "results.json")
    changes: dict[str, Any] = {name: getattr(run, name) for name in record["run"] if name in vars(run)}
    write_json(part / "run.json", record | {"run": changes, "shares_training_with": planned.shares})
    rows = run_folder.read_predictions(base)
    reported = report_scores(run, rows, results["labels"], planned.training.seed)
    write_json(part / "results.json", results | {"as_coded": run.as_coded, "reported": reported})
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)

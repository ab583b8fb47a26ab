"""One run: corpus and arguments in, run folders with checkpoint, predictions and scores out.

The only place where model, data and Trainer meet.
"""

import copy
import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from transformers import PreTrainedModel, set_seed
from transformers.feature_extraction_utils import FeatureExtractionMixin

from . import runs
from .arguments import RunArguments, VivaeTrainingArguments
from .checkpoints import find_checkpoint, load_any, load_named
from .collator import ClipCollator
from .corpus.schema import Corpus
from .corpus.tasks import task_labels
from .features import corpus_key, fit_extractor, measure_peaks
from .fitting import fit
from .habits import marks
from .metrics import make_compute_metrics
from .models import MODELS, WaveformFeatureExtractor
from .scoring import predict_parts, report_scores, score_rows, selection
from .splits import PARTS, Fold, make_folds
from .trainer import VivaeTrainer

logger = logging.getLogger(__name__)
LONGEST_INPUT = 30.0  # seconds: what Whisper was made for, and enough for a vocal burst


@dataclass(frozen=True)
class Prepared:
    """A corpus that is ready to be split: usable clips, the peak of each `(clips,)`, labels `(clips,)` and names."""

    corpus: Corpus
    peaks: np.ndarray
    labels: list[int]
    label_names: list[str]
    folds: list[Fold]


def train(
    run: RunArguments, args: VivaeTrainingArguments, corpus: Corpus | None = None
) -> tuple[dict[str, Any], list[Path]]:
    """Train and score a model on every chosen fold; the content of `results.json`, and the folds' run folders.

    A fold that is finished is not trained again, one that was interrupted goes on from its last checkpoint.

    Args:
        run: what to train on what.
        args: how to train.
        corpus: what `run.load()` has given, for several runs on one corpus; read anew by default.

    Raises:
        ValueError: for everything in arguments, clips, checkpoint or run folder that a user can mend.
    """
    _use_all_cores(args)
    with runs.claim(Path(args.output_dir)) if args.process_index == 0 else nullcontext():
        return _train_folds(run, args, corpus)


def _train_folds(
    run: RunArguments, args: VivaeTrainingArguments, corpus: Corpus | None
) -> tuple[dict[str, Any], list[Path]]:
    with args.main_process_first(desc="reading checkpoint and corpus"):
        # first, since it fails at once where there is no network, and the corpus may take a minute
        checkpoint = find_checkpoint(run.model, run.model_name_or_path, run.from_scratch, run.trust_remote_code)
        prepared = prepare(run, args.seed, corpus or run.load())
    chosen = _choose_folds(prepared.folds, run.folds)
    output = Path(args.output_dir)
    if len(prepared.folds) == 1:
        return run_fold(run, args, prepared, chosen[0], output, checkpoint), [output]
    record = _record(run, args, prepared)
    runs.check_same_run(output, record)
    if args.should_save:
        runs.write_json(output / "run.json", record)
    results, folders = {}, [output / _folder_name(fold) for fold in chosen]
    for fold, folder in zip(chosen, folders, strict=True):
        with _named(fold, folder):
            results[fold.name] = run_fold(run, args, prepared, fold, folder, checkpoint)
    return _pool(run, args, prepared, results, folders), folders


def _use_all_cores(args: VivaeTrainingArguments) -> None:
    # both launchers set OMP_NUM_THREADS=1 where the user has set nothing, and one thread halves the speed of two cores
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
    if not (args.use_cpu and launched and os.environ.get("OMP_NUM_THREADS") == "1"):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, cores // local_processes))


def prepare(run: RunArguments, seed: int, corpus: Corpus) -> Prepared:
    """Measure, label and split the corpus."""
    labels, label_names = task_labels(corpus.dataset, run.task)
    peaks = measure_peaks(corpus.dataset)
    return Prepared(corpus, peaks, labels, label_names, make_folds(corpus.dataset, run.protocol, labels, seed))


def run_fold(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: Prepared,
    fold: Fold,
    folder: Path,
    checkpoint: Path | None,
) -> dict[str, Any]:
    """Train on one fold into its run folder, and score the best epoch once; the content of its `results.json`."""
    args = copy.copy(args)
    args.output_dir = str(folder)
    files = prepared.corpus.dataset["file"][:]
    parts = _parts(fold, run.select_on)
    record = _record(run, args, prepared)
    record["fold"] = {part: [files[row] for row in parts.get(part, ())] for part in PARTS}
    runs.check_same_run(folder, record)
    if (finished := runs.finished_results(folder)) is not None:
        logger.warning("%s is finished and not trained again; its scores follow.", folder)
        return finished
    started = time.perf_counter()
    runs.reset_peak_memory()
    set_seed(args.seed)
    dataset = prepared.corpus.dataset
    max_seconds = run.max_seconds or min(max(dataset["duration"]), LONGEST_INPUT)
    model, extractor = _load(run, checkpoint, prepared.label_names, max_seconds)
    if not run.resample:
        _hear_unresampled(extractor, prepared.corpus)
    with args.main_process_first(desc="features"):
        features = fit_extractor(
            extractor, dataset, prepared.peaks, parts["train"], run.normalization, max_seconds, run.scale
        )
    features = features.add_column("labels", prepared.labels).with_format("torch")
    trainer = VivaeTrainer(
        model=model,
        args=args,
        train_dataset=features.select(parts["train"]),
        eval_dataset=features.select(parts[run.select_on]),
        watched=features.select(parts["test"]) if run.watch_test and run.select_on != "test" else None,
        data_collator=ClipCollator(extractor),
        compute_metrics=make_compute_metrics(prepared.label_names),
        title=f"{Path(run.model).name} on {prepared.corpus.name} clips",
        select_on=run.select_on,
    )
    if args.should_save:
        runs.write_json(folder / "run.json", record)
    fit(trainer, folder)
    rows = predict_parts(trainer, features, fold.name, parts, dataset, prepared.labels)
    results = _identity(run, args, prepared) | {"fold": fold.name} | _scores(run, args, trainer, rows, prepared)
    if args.should_save:
        trainer.model.save_pretrained(folder)
        extractor.save_pretrained(folder)
        runs.write_predictions(folder, rows)
        seconds = time.perf_counter() - started
        runs.write_json(
            folder / "run.json",
            record | {"finished": True, "seconds": seconds, "peak_memory_mb": runs.peak_memory_mb()},
        )
        runs.write_json(folder / "results.json", results)
    trainer.accelerator.wait_for_everyone()
    return results


def _parts(fold: Fold, select_on: str) -> dict[str, tuple[int, ...]]:
    if select_on == "validation":
        return {part: getattr(fold, part) for part in PARTS}
    return {"train": tuple(sorted(fold.train + fold.validation)), "test": fold.test}


def _hear_unresampled(extractor: FeatureExtractionMixin, corpus: Corpus) -> None:
    rate = corpus.dataset.features["audio"].sampling_rate
    if rate is None or not isinstance(extractor, WaveformFeatureExtractor):
        raise ValueError(
            "--resample false needs a model of this package and clips of one sampling rate, found "
            f"{type(extractor).__name__} and {f'{rate} Hz' if rate else 'several rates'}; leave it out."
        )
    extractor.sampling_rate = rate  # so that the checkpoint, too, is given such clips as they are


def _scores(
    run: RunArguments, args: VivaeTrainingArguments, trainer: VivaeTrainer, rows: list[dict], prepared: Prepared
) -> dict[str, Any]:
    chosen = selection(trainer, run.select_on)
    return {
        "selection": chosen,
        "habits": marks(run, args.eval_dropout, selected=chosen is not None),
        "reported": report_scores(run, rows, prepared.label_names, args.seed),
        **score_rows(rows, prepared.label_names),
    }


def _load(
    run: RunArguments, checkpoint: Path | None, label_names: Sequence[str], max_seconds: float
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    labels = dict(enumerate(label_names))
    if run.model in MODELS:
        return load_named(run.model, labels, run.model_config, checkpoint)
    return load_any(checkpoint, labels, run.model_config, max_seconds, run.from_scratch, run.trust_remote_code)


def _identity(run: RunArguments, args: VivaeTrainingArguments, prepared: Prepared) -> dict[str, Any]:
    return {
        "model": run.model,
        "recipe": run.recipe,
        "as_coded": run.as_coded,
        "data": prepared.corpus.name,
        "protocol": run.protocol,
        "task": run.task,
        "seed": args.seed,
        "labels": prepared.label_names,
    }


def _pool(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: Prepared,
    results: dict[str, dict],
    folders: Sequence[Path],
) -> dict[str, Any]:
    """Scores over the clips of all folds together, beside those of each fold."""
    rows = [row for folder in folders for row in runs.read_predictions(folder)]
    content = {
        **_identity(run, args, prepared),
        "of_folds": len(prepared.folds),
        **score_rows(rows, prepared.label_names),
        "folds": {name: {part: result[part] for part in PARTS if part in result} for name, result in results.items()},
        "habits": next(iter(results.values()))["habits"],
    }
    if args.should_save:
        runs.write_json(Path(args.output_dir) / "results.json", content)
    return content


def _record(run: RunArguments, args: VivaeTrainingArguments, prepared: Prepared) -> dict[str, Any]:
    corpus = prepared.corpus
    return {
        "run": asdict(run),
        "training": args.to_dict(),
        "corpus": {
            "name": corpus.name,
            "clips": len(corpus.dataset),
            "digest": corpus_digest(corpus, prepared.labels),
            "problems": list(corpus.problems),
        },
        "processes": args.world_size,
        "environment": runs.environment(),
        "finished": False,
    }


def corpus_digest(corpus: Corpus, labels: Sequence[int]) -> str:
    """What tells two corpora apart: content and names of all clips, their speakers and labels."""
    content = [corpus_key(corpus.dataset), corpus.dataset["speaker"][:], list(labels)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _choose_folds(folds: Sequence[Fold], numbers: Sequence[int] | None) -> list[Fold]:
    if numbers is None:
        return list(folds)
    wrong = [number for number in numbers if not 0 <= number < len(folds)]
    if wrong:
        raise ValueError(
            f"expected --folds between 0 and {len(folds) - 1}, found {', '.join(map(str, wrong))}; "
            "this protocol has no such fold."
        )
    return [folds[number] for number in sorted(set(numbers))]


def _folder_name(fold: Fold) -> str:
    return quote(fold.name, safe=" ").replace("..", "%2E%2E")  # speakers of a folder may be named anyhow


@contextmanager
def _named(fold: Fold, folder: Path):
    try:
        yield
    except Exception as error:
        error.add_note(f"in fold {fold.name}, run folder {folder}")
        raise

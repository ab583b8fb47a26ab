"""One fold: a model is trained on its training clips and scored on all parts, into a run folder of its own."""

import copy
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor, set_seed
from transformers.feature_extraction_utils import FeatureExtractionMixin

from . import machine, runs
from .arguments import RunArguments, VivaeTrainingArguments
from .collator import ClipCollator
from .corpus.schema import Corpus
from .extractors import remember_cut
from .features import build_embeddings, fit_extractor
from .fitting import fit
from .habits import marks
from .loading import LONGEST_INPUT, load_any, load_named, load_probe
from .metrics import make_compute_metrics
from .models import MODELS, PROBE, WaveformFeatureExtractor, short_name
from .models.probe import ProbeForAudioClassification
from .prepared import Prepared, fold_parts, fold_record, identity, run_record
from .probing import refit
from .publishing import Publisher
from .scoring import most_frequent, predict_parts, report_scores, score_rows
from .splits import Fold
from .trainer import VivaeTrainer

logger = logging.getLogger(__name__)


def train_fold(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: Prepared,
    fold: Fold,
    folder: Path,
    checkpoint: Path | None,
    publisher: Publisher | None = None,
) -> dict[str, Any]:
    """Train on one fold into its run folder, and score what was selected once; the content of its `results.json`.

    Args:
        run: what to train on what.
        args: how to train.
        prepared: the corpus.
        fold: its clips of each part.
        folder: of the run; a finished one is not trained again.
        checkpoint: what the model starts from; None for random weights.
        publisher: of its checkpoints while it trains.

    Raises:
        ValueError: where another process trains in the folder, or it holds another run.
    """
    args = copy.copy(args)
    args.output_dir, args.push_to_hub = str(folder), False  # Trainer would push its pickled arguments, too
    with runs.claim(folder) if args.process_index == 0 else nullcontext():
        record = fold_record(run_record(run, args, prepared), prepared, fold)
        runs.check_same_run(folder, record)
        if (finished := runs.finished_results(folder)) is not None:
            logger.warning("%s is finished and not trained again; its scores follow.", folder)
            return finished
        return _train(run, args, prepared, fold, folder, checkpoint, record, publisher)


def _train(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: Prepared,
    fold: Fold,
    folder: Path,
    checkpoint: Path | None,
    record: dict[str, Any],
    publisher: Publisher | None,
) -> dict[str, Any]:
    started = time.perf_counter()
    machine.reset_peak_memory()
    parts = fold_parts(fold, run.select_on)
    setup = set_up(run, args, prepared, parts, checkpoint)
    trainer = make_trainer(run, args, prepared, parts, setup)
    if args.should_save:
        runs.write_json(folder / "run.json", record)
    if publisher:
        trainer.add_callback(publisher.while_training(setup.extractor, record))
    chosen = fit(trainer, folder)
    rows = _predict(trainer, setup.features, fold.name, parts, prepared)
    results = {
        **identity(run, args, prepared),
        "fold": fold.name,
        "selection": chosen and {"on": run.select_on, **chosen},
        "habits": marks(run, args.eval_dropout, selected=chosen is not None),
        "reported": report_scores(run, rows, prepared.label_names, args.seed),
        **score_rows(rows, prepared.label_names),
    }
    if args.should_save:
        trainer.model.save_pretrained(folder)
        setup.extractor.save_pretrained(folder)
        runs.write_predictions(folder, rows)
        spent = {"seconds": time.perf_counter() - started, "peak_memory_mb": machine.peak_memory_mb()}
        runs.write_json(folder / "run.json", record | {"finished": True, **spent})
        runs.write_json(folder / "results.json", results)
    trainer.accelerator.wait_for_everyone()
    return results


@dataclass(frozen=True)
class Setup:
    """A model before its training, and the corpus as it takes it.

    Args:
        model: with its starting weights.
        extractor: of its features, which has taken its scale from the training clips.
        features: of all clips of the corpus, in its order, with `labels`.
    """

    model: PreTrainedModel
    extractor: FeatureExtractionMixin
    features: Dataset


def set_up(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: Prepared,
    parts: dict[str, Sequence[int]],
    checkpoint: Path | None,
) -> Setup:
    """The model of a run, seeded, and the features of all clips.

    Args:
        run: what to train on what.
        args: how to train.
        prepared: the corpus.
        parts: row indices of each part, as `fold_parts` gives them.
        checkpoint: what the model starts from; None for random weights.
    """
    set_seed(args.seed)
    longest = max(prepared.corpus.dataset["duration"])
    max_seconds = run.max_seconds or min(longest, LONGEST_INPUT)
    model, extractor = _load(run, checkpoint, prepared.label_names, max_seconds)
    if not run.resample:
        _hear_unresampled(extractor, prepared.corpus)
    if run.max_seconds or (max_seconds < longest and run.model not in MODELS):
        remember_cut(extractor, max_seconds)
    with args.main_process_first(desc="features"):
        features = _build_features(run, args, model, extractor, prepared, parts["train"], max_seconds)
    return Setup(model, extractor, features)


def _load(
    run: RunArguments, checkpoint: Path | None, label_names: Sequence[str], max_seconds: float
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    labels = dict(enumerate(label_names))
    if run.model in MODELS:
        return load_named(run.model, labels, run.model_config, checkpoint)
    settings = (checkpoint, labels, run.model_config, max_seconds, run.from_scratch)
    return load_probe(*settings) if run.model.startswith(PROBE) else load_any(*settings, run.trust_remote_code)


def _hear_unresampled(extractor: FeatureExtractionMixin, corpus: Corpus) -> None:
    rate = corpus.dataset.features["audio"].sampling_rate
    if rate is None or not isinstance(extractor, (WaveformFeatureExtractor, Wav2Vec2FeatureExtractor)):
        raise ValueError(
            "--resample false needs a model of this package and clips of one sampling rate, found "
            f"{type(extractor).__name__} and {f'{rate} Hz' if rate else 'several rates'}; leave it out."
        )
    extractor.sampling_rate = rate  # so that the checkpoint, too, is given such clips as they are


def _build_features(
    run: RunArguments,
    args: VivaeTrainingArguments,
    model: PreTrainedModel,
    extractor: FeatureExtractionMixin,
    prepared: Prepared,
    train: Sequence[int],
    max_seconds: float,
) -> Dataset:
    dataset = prepared.corpus.dataset
    if isinstance(model, ProbeForAudioClassification):
        features = build_embeddings(dataset, extractor, model.to(args.device), max_seconds)
    else:
        features = fit_extractor(extractor, dataset, prepared.peaks, train, run.normalization, max_seconds, run.scale)
    return features.add_column("labels", prepared.labels).with_format("torch")


def make_trainer(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: Prepared,
    parts: dict[str, Sequence[int]],
    setup: Setup,
    trainer_class: type[VivaeTrainer] = VivaeTrainer,
    **more,
) -> VivaeTrainer:
    """The trainer of a run: training clips, clips that select, loss and scores.

    Args:
        run: what to train on what.
        args: how to train.
        prepared: the corpus.
        parts: row indices of each part.
        setup: as `set_up` gives it.
        trainer_class: whose trainer it is.
        more: further arguments of it; `model_init` takes the place of the model.
    """
    features = setup.features
    selecting = np.asarray(prepared.labels)[list(parts[run.select_on])]
    majority = most_frequent(np.asarray(prepared.labels)[list(parts["train"])])
    return trainer_class(
        **({} if "model_init" in more else {"model": setup.model}),
        **more,
        args=args,
        train_dataset=features.select(parts["train"]),
        eval_dataset=features.select(parts[run.select_on]),
        watched=features.select(parts["test"]) if run.watch_test and run.select_on != "test" else None,
        data_collator=ClipCollator(setup.extractor),
        compute_metrics=make_compute_metrics(prepared.label_names),
        title=f"{short_name(run.model)} on {prepared.corpus.name} clips",
        select_on=run.select_on,
        majority=float((selecting == majority).mean()),
    )


def _predict(
    trainer: VivaeTrainer, features: Dataset, fold: str, parts: dict[str, Sequence[int]], prepared: Prepared
) -> list[dict[str, Any]]:
    described = prepared.described, prepared.labels
    model = trainer.model
    if not (isinstance(model, ProbeForAudioClassification) and model.config.refit and "validation" in parts):
        return predict_parts(trainer, features, fold, parts, *described)
    # a probe learns from its validation clips too, once they have chosen and been predicted
    rows = predict_parts(trainer, features, fold, {"validation": parts["validation"]}, *described)
    refit(trainer, features.select(sorted((*parts["train"], *parts["validation"]))))
    return rows + predict_parts(trainer, features, fold, {part: parts[part] for part in ("train", "test")}, *described)

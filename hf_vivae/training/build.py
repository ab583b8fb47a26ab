"""Clips, model, features and Trainer of one fold."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor, set_seed
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.utils import logging

from .. import run_folder
from ..checkpoints.adapters import add_lora, find_encoder, freeze
from ..checkpoints.calibration import TEMPERATURE_FIELD
from ..checkpoints.checks import explain_build_errors
from ..checkpoints.load import (
    LONGEST_INPUT,
    fix_spec_augment,
    load_checkpoint,
    load_encoder,
    load_probe,
    load_registered,
)
from ..checkpoints.resolve import starting_point
from ..corpus.schema import Corpus, clip_digests, corpus_digest, describe_clips
from ..corpus.tasks import task_labels
from ..features.augmentation import AugmentedDataset, SetEpochCallback, build_waveforms, parse_augmentation
from ..features.cache import build_embeddings, by_length, feature_lengths, fit_extractor, measure_peaks
from ..features.extraction import AudioDataCollator, max_input_seconds, set_max_length
from ..metrics import make_compute_metrics, most_frequent
from ..models import MODELS, PROBE, WaveformFeatureExtractor, short_name
from ..models.backbones import is_encoder
from ..models.features_trimmed import trimming_extractor
from ..models.probe import ProbeForAudioClassification
from ..models.silence import SilenceTrimmingMixin
from ..models.wrapped import WrappedForAudioClassification
from ..network import bare_address
from ..splits import make_folds
from ..splits.folds import PARTS, Fold
from ..validation import UserError
from .arguments import RunArguments, VivaeTrainingArguments
from .trainer import EarlyStopping, VivaeTrainer

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class TrainingData:
    """A corpus that is ready for a run.

    Args:
        corpus: its usable clips.
        digest: what tells it, its speakers and labels from others.
        peaks: largest absolute sample of each clip, `(clips,)`.
        labels: index of the label of each clip, `(clips,)`.
        label_names: name of each label.
        described: name, digest, speaker, intensity and duration of each clip.
        folds: of the protocol.
        duplicates: number of clips that are copies of another.
    """

    corpus: Corpus
    digest: str
    peaks: np.ndarray
    labels: list[int]
    label_names: list[str]
    described: list[dict[str, Any]]
    folds: list[Fold]
    duplicates: int


def load_training_data(run: RunArguments, seed: int, corpus: Corpus) -> TrainingData:
    """Measure, label and split the corpus."""
    labels, label_names = task_labels(corpus.dataset, run.task)
    peaks = measure_peaks(corpus.dataset)
    digests = clip_digests(corpus.dataset)
    folds = make_folds(corpus.dataset, run.protocol, labels, seed, run.num_groups, digests, run.duplicates)
    digest, described = corpus_digest(corpus, labels), describe_clips(corpus.dataset)
    copies = len(digests) - len(set(digests))
    return TrainingData(corpus, digest, peaks, labels, label_names, described, folds, copies)


def fold_parts(fold: Fold, select_on: str) -> dict[str, tuple[int, ...]]:
    """Row indices of each part; where those of validation do not select, they train."""
    if select_on == "validation":
        return {part: getattr(fold, part) for part in PARTS}
    return {"train": tuple(sorted(fold.train + fold.validation)), "test": fold.test}


def untrained_labels(prepared: TrainingData, folds: Iterable[Fold], select_on: str) -> dict[str, list[str]]:
    """Labels of the corpus without a training clip in some of these folds, each with the names of those folds."""
    untrained: dict[str, list[str]] = {}
    for fold in folds:
        trained = {prepared.labels[row] for row in fold_parts(fold, select_on)["train"]}
        for index, label in enumerate(prepared.label_names):
            if index not in trained:
                untrained.setdefault(label, []).append(fold.name)
    return untrained


def identity(run: RunArguments, args: VivaeTrainingArguments, prepared: TrainingData) -> dict[str, Any]:
    """What `results.json` says of the run before its scores."""
    return {
        "model": run.model,
        "recipe": run.recipe,
        "as_coded": run.as_coded,
        "data": prepared.corpus.name,
        "protocol": run.protocol,
        "of_folds": len(prepared.folds),
        "task": run.task,
        "seed": args.seed,
        "labels": prepared.label_names,
    }


def run_record(run: RunArguments, args: VivaeTrainingArguments, prepared: TrainingData) -> dict[str, Any]:
    """The content of `run.json` before the run."""
    corpus = prepared.corpus
    source = starting_point(run.model, run.model_name_or_path)
    return {
        "run": asdict(run) | {"data_url": run.data_url and bare_address(run.data_url)},
        "from_folder": source is not None and Path(source).is_dir(),  # what looks like a Hub id may be one elsewhere
        "training": args.to_dict(),
        "corpus": {
            "name": corpus.name,
            "clips": len(corpus.dataset),
            "digest": prepared.digest,
            "problems": list(corpus.problems),
        },
        "duplicates": prepared.duplicates,
        "processes": args.world_size,
        "environment": run_folder.environment(),
        "finished": False,
    }


def fold_record(record: dict[str, Any], prepared: TrainingData, fold: Fold) -> dict[str, Any]:
    """The record of a run as that of one of its folds, which names the clips of each part."""
    parts = fold_parts(fold, record["run"]["select_on"])
    names = {part: [prepared.described[row]["file"] for row in parts.get(part, ())] for part in PARTS}
    return {**record, "fold": names}


logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class FoldInputs:
    """A model before its training, and the corpus as it takes it.

    Args:
        model: with its starting weights, and with LoRA's matrices in it where these are asked for.
        extractor: of its features, which has taken its scale from the training clips.
        features: of all clips of the corpus, in its order, with `labels` and the number of each `clip`.
        max_seconds: length to which encoders of the library cut clips.
        lora: the same model as peft knows it; None without LoRA.
    """

    model: PreTrainedModel
    extractor: FeatureExtractionMixin
    features: Dataset
    max_seconds: float
    lora: "PeftModel | None" = None


def build_fold_inputs(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: TrainingData,
    parts: dict[str, Sequence[int]],
    checkpoint: Path | None,
) -> FoldInputs:
    """The model of a run, seeded, and the features of all clips.

    Args:
        run: what to train on what.
        args: how to train.
        prepared: the corpus.
        parts: row indices of each part, as `fold_parts` gives them.
        checkpoint: what the model starts from; None for random weights.

    Raises:
        ValueError: where clips, model and flags do not go together.
    """
    set_seed(args.seed)
    durations = prepared.corpus.dataset["duration"][:]
    max_seconds = run.max_seconds or min(max(durations), LONGEST_INPUT)
    model, extractor = _load(run, checkpoint, prepared.label_names, max_seconds)
    # fitted on the clips of an earlier training; lengths and trimming follow from this one's arguments below
    vars(model.config).pop(TEMPERATURE_FIELD, None)
    if isinstance(extractor, WaveformFeatureExtractor):
        extractor.mean, extractor.std = 0.0, 1.0
    fix_spec_augment(model)
    if not run.resample:
        _keep_sampling_rate(model, extractor, prepared.corpus)
    if run.trim or isinstance(extractor, SilenceTrimmingMixin):  # which a checkpoint may have brought along, trimming
        if not run.trim and extractor.trim_db is not None and args.process_index == 0:
            logger.warning_once(
                "%s heard clips trimmed with --trim_db %g, and now whole ones.", run.model, extractor.trim_db
            )
        extractor = trimming_extractor(extractor, run.trim or {"trim_db": None})
    if run.max_seconds or run.model not in MODELS:
        extractor, max_seconds = _cut(run, args, model, extractor, durations, max_seconds)
    freeze(model, run.freeze)
    if args.head_learning_rate:
        find_encoder(model, "head_learning_rate")
    source = starting_point(run.model, run.model_name_or_path)
    lora = add_lora(model, run, source, checkpoint) if run.lora_rank else None
    with args.main_process_first(desc="features"):
        features = _build_features(run, args, model, extractor, prepared, parts["train"], max_seconds)
    return FoldInputs(model, extractor, features, max_seconds, lora)


def _load(
    run: RunArguments, checkpoint: Path | None, label_names: Sequence[str], max_seconds: float
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    labels = dict(enumerate(label_names))
    settings = (checkpoint, labels, run.model_config, max_seconds, run.from_scratch)
    cure = f"correct --model_config {json.dumps(run.model_config)}" if run.model_config else "give another --model"
    with explain_build_errors(run.model, cure):
        if run.model in MODELS:
            return load_registered(run.model, labels, run.model_config, checkpoint)
        if run.model.startswith(PROBE):
            return load_probe(*settings)
        return load_encoder(*settings) if is_encoder(run.model) else load_checkpoint(*settings, run.trust_remote_code)


def _cut(
    run: RunArguments,
    args: VivaeTrainingArguments,
    model: PreTrainedModel,
    extractor: FeatureExtractionMixin,
    durations: Sequence[float],
    max_seconds: float,
) -> tuple[FeatureExtractionMixin, float]:
    """The extractor for clips of so many seconds or of as many as its model hears, which are told too."""
    window = max_input_seconds(extractor)
    if run.max_seconds and run.max_seconds > window:
        raise UserError(
            f"expected --max_seconds of {window:g} at most, which {run.model} hears, found {run.max_seconds:g}; leave "
            "it out."
        )
    seconds = min(max_seconds, window)
    longer = sum(duration > seconds for duration in durations)
    if longer and not run.max_seconds and args.process_index == 0:
        logger.warning_once(
            "%s hears %g s of a clip at most, and %d clips are longer.", short_name(run.model), seconds, longer
        )
    if seconds < window and (run.max_seconds or longer):
        # a checkpoint of a wrapped encoder brings code along, cut or not
        extractor = set_max_length(extractor, seconds, isinstance(model, WrappedForAudioClassification))
    return extractor, seconds


def _keep_sampling_rate(model: PreTrainedModel, extractor: FeatureExtractionMixin, corpus: Corpus) -> None:
    rate = corpus.dataset.features["audio"].sampling_rate
    of_any_rate = isinstance(extractor, (WaveformFeatureExtractor, Wav2Vec2FeatureExtractor))
    if rate is None or not of_any_rate or isinstance(model, WrappedForAudioClassification):
        raise UserError(
            "--resample false needs a model of this package and clips of one sampling rate, found "
            f"{type(extractor).__name__} and {f'{rate} Hz' if rate else 'several rates'}; leave it out."
        )
    extractor.sampling_rate = rate  # so that the checkpoint, too, is given such clips as they are


def _build_features(
    run: RunArguments,
    args: VivaeTrainingArguments,
    model: PreTrainedModel,
    extractor: FeatureExtractionMixin,
    prepared: TrainingData,
    train: Sequence[int],
    max_seconds: float,
) -> Dataset:
    dataset = prepared.corpus.dataset
    if isinstance(model, ProbeForAudioClassification):
        features = build_embeddings(dataset, extractor, model.to(args.device), max_seconds)
    else:
        features = fit_extractor(extractor, dataset, prepared.peaks, train, run.normalization, max_seconds, run.scale)
    numbered = features.add_column("labels", prepared.labels).add_column("clip", list(range(len(dataset))))
    return numbered.with_format("torch")


def build_trainer(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: TrainingData,
    parts: dict[str, Sequence[int]],
    setup: FoldInputs,
    trainer_class: type[VivaeTrainer] = VivaeTrainer,
    **more,
) -> VivaeTrainer:
    """The trainer of a run: training clips, clips that select, loss and scores.

    Args:
        run: what to train on what.
        args: how to train.
        prepared: the corpus.
        parts: row indices of each part.
        setup: as `build_fold_inputs` gives it.
        trainer_class: whose trainer it is.
        more: further arguments of it; `model_init` takes the place of the model.
    """
    features, lengths = setup.features, feature_lengths(setup.features)
    labels = np.asarray(prepared.labels)
    selecting = parts.get(run.select_on)
    trainer = trainer_class(
        **({} if "model_init" in more else {"model": setup.model}),
        **more,
        args=args,
        train_dataset=training_clips(run, args, prepared, parts["train"], setup),
        train_lengths=[lengths[row] for row in parts["train"]],
        eval_dataset=selecting and features.select(by_length(features, selecting)),
        watched=features.select(parts["test"]) if run.watch_test and run.select_on != "test" else None,
        data_collator=AudioDataCollator(setup.extractor),
        compute_metrics=make_compute_metrics(prepared.label_names),
        files=[clip["file"] for clip in prepared.described],
        class_weights=_class_weights(args, labels[list(parts["train"])], len(prepared.label_names)),
        title=f"{short_name(run.model)} on {prepared.corpus.name} clips",
        select_on=run.select_on,
        majority=selecting and float((labels[list(selecting)] == most_frequent(labels[list(parts["train"])])).mean()),
    )
    if run.augment:
        trainer.add_callback(SetEpochCallback())
    if args.early_stopping_patience:
        trainer.add_callback(EarlyStopping(args.early_stopping_patience))
    return trainer


def training_clips(
    run: RunArguments, args: VivaeTrainingArguments, prepared: TrainingData, rows: Sequence[int], setup: FoldInputs
) -> Dataset | AugmentedDataset:
    """The clips that train, as they are or augmented anew in each epoch."""
    if not run.augment:
        return setup.features.select(rows)
    with args.main_process_first(desc="waveforms"):
        return AugmentedDataset(
            features=setup.features,
            waveforms=partial(build_waveforms, prepared.corpus.dataset, setup.extractor.sampling_rate),
            labels=prepared.labels,
            num_labels=len(prepared.label_names),
            extractor=setup.extractor,
            max_seconds=setup.max_seconds,
            augmentation=parse_augmentation(run.augment),
            seed=args.seed,
            rows=rows,
        )


def _class_weights(args: VivaeTrainingArguments, labels: np.ndarray, num_labels: int) -> torch.Tensor | None:
    """A weight for each label by which those of the training clips weigh the same, and the mean clip 1."""
    if args.class_weights == "none":
        return None
    from sklearn.utils.class_weight import compute_class_weight

    present, weights = np.unique(labels), torch.zeros(num_labels)
    weights[present] = torch.tensor(compute_class_weight("balanced", classes=present, y=labels), dtype=torch.float32)
    return weights

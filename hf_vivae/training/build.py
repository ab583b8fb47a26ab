"""Data, model, features and Trainer of one fold."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor, set_seed
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.trainer_callback import PrinterCallback, ProgressCallback
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
from ..checkpoints.open_set import BACKGROUND_FIELD, OPEN_SET_FIELD, background_labels
from ..checkpoints.resolve import starting_point
from ..checkpoints.timeline_settings import TIMELINE_FIELDS
from ..corpus.hub_shards import ShardedRows
from ..corpus.schema import Corpus, clip_digests, corpus_digest, corpus_record, describe_clips
from ..corpus.tasks import task_labels
from ..features.augmentation import AugmentedDataset, SetEpochCallback, build_waveforms, parse_augmentation
from ..features.cache import build_embeddings, by_length, feature_lengths, fit_extractor
from ..features.extraction import max_input_seconds, needs_scale, set_max_length, trims
from ..features.streamed import StreamedArrays, StreamedClips, shuffle_shards
from ..files import read_json
from ..metrics import make_compute_metrics, most_frequent
from ..models import PROBE, REGISTERED, WaveformFeatureExtractor, short_name
from ..models.backbones import is_encoder
from ..models.features_trimmed import trimming_extractor
from ..models.probe import ProbeForAudioClassification
from ..models.wrapped import WrappedForAudioClassification
from ..network import bare_address
from ..splits import make_folds
from ..splits.folds import PARTS, Fold
from ..splits.speakers import check_speakers, draw_speakers
from ..validation import UserError
from .arguments import DataArguments, ModelArguments, RunArguments, VivaeTrainingArguments
from .trainer import EpochProgressCallback, HistoryCallback, VivaeTrainer

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """A corpus with labels and folds.

    Args:
        corpus: its usable clips.
        digest: of content, names, speakers and labels of all clips.
        labels: label index of each clip, `(clips,)`.
        label_names: name of each label.
        clips: file, digest, speaker, intensity, duration and `label` of each clip; where clips are streamed, by row,
            without those that train.
        folds: of the protocol, with the speakers of `train_speakers`.
        duplicates: number of clips that are copies of another; None where clips are streamed.
        sounds: of all clips, where these are streamed.
    """

    corpus: Corpus
    digest: str
    labels: list[int]
    label_names: list[str]
    clips: Sequence[dict[str, Any]] | Mapping[int, dict[str, Any]]
    folds: list[Fold]
    duplicates: int | None
    sounds: ShardedRows | None = None


def load_training_data(run: DataArguments, seed: int, corpus: Corpus) -> TrainingData:
    """Label the clips of a corpus for the task, and divide them into folds, with all or some of the speakers."""
    labels, label_names = task_labels(corpus.dataset, run.task)
    digests = clip_digests(corpus.dataset)
    folds = make_folds(corpus.dataset, run.protocol, labels, seed, run.num_groups, digests, run.duplicates)
    if run.train_speakers is not None:
        speakers = corpus.dataset["speaker"][:]
        check_speakers(folds, speakers)
        folds = [draw_speakers(fold, speakers, run.train_speakers, run.speaker_draw) for fold in folds]
    clips = [clip | {"label": label} for clip, label in zip(describe_clips(corpus.dataset), labels, strict=True)]
    copies = len(digests) - len(set(digests))
    return TrainingData(corpus, corpus_digest(corpus, labels), labels, label_names, clips, folds, copies)


def fold_parts(fold: Fold, select_on: str) -> dict[str, tuple[int, ...]]:
    """Return row indices of each part; where validation clips do not select, they train."""
    if select_on == "validation":
        return {part: getattr(fold, part) for part in PARTS}
    return {"train": tuple(sorted(fold.train + fold.validation)), "test": fold.test}


def untrained_labels(data: TrainingData, folds: Iterable[Fold], select_on: str) -> dict[str, list[str]]:
    """Return labels without a training clip in some of the folds, each with the names of those folds."""
    untrained: dict[str, list[str]] = {}
    for fold in folds:
        trained = {data.labels[row] for row in fold_parts(fold, select_on)["train"]}
        for index, label in enumerate(data.label_names):
            if index not in trained:
                untrained.setdefault(label, []).append(fold.name)
    return untrained


def identity(run: RunArguments, args: VivaeTrainingArguments, data: TrainingData) -> dict[str, Any]:
    """Return the entries of `results.json` that describe the run."""
    return {
        "model": run.model,
        "recipe": run.recipe,
        "as_coded": run.as_coded,
        "data": data.corpus.name,
        **({"label_map": data.corpus.label_map.name} if data.corpus.label_map else {}),
        "protocol": run.protocol,
        "of_folds": len(data.folds),
        "task": run.task,
        "seed": args.seed,
        "labels": data.label_names,
    }


def run_record(run: RunArguments, args: VivaeTrainingArguments, data: TrainingData) -> dict[str, Any]:
    """Return the content of `run.json` before the run."""
    source = starting_point(run.model, run.model_name_or_path)
    return {
        "run": asdict(run) | {"data_url": run.data_url and bare_address(run.data_url)},
        "from_folder": source is not None and Path(source).is_dir(),  # elsewhere, it may look like a Hub id
        "training": args.to_dict(),
        "corpus": corpus_record(data.corpus, data.digest),
        "duplicates": data.duplicates,
        "processes": args.world_size,
        "environment": run_folder.environment(),
        "finished": False,
    }


def fold_record(record: dict[str, Any], data: TrainingData, fold: Fold) -> dict[str, Any]:
    """Return the record of a run with the file names of each part of one fold, without streamed training clips."""
    parts = fold_parts(fold, record["run"]["select_on"])
    if data.sounds is not None:
        parts["train"] = ()
    return {**record, "fold": {part: [data.clips[row]["file"] for row in parts.get(part, ())] for part in PARTS}}


def check_run_folder(run: RunArguments, args: VivaeTrainingArguments, data: TrainingData) -> None:
    """Check that the folder of a run is of this version, and that its run has these settings and this corpus.

    Raises:
        UserError: with the version, or the settings that differ.
    """
    folder = Path(args.output_dir)
    run_folder.check_version(folder)
    file = folder / "run.json"
    # the clips of its fold follow from its other settings
    fold = read_json(file).get("fold") if file.is_file() else None
    run_folder.check_same_run(folder, run_record(run, args, data) | {"fold": fold})


@dataclass(frozen=True)
class FoldInputs:
    """A model before its training, and the features that it takes.

    Args:
        model: with its starting weights, and with LoRA's matrices if the run uses LoRA.
        extractor: of its features, with the scale of the training clips.
        features: of all clips of the corpus, in its order, with `labels` and the index of each `clip`.
        max_seconds: length to which extractors of the library cut clips.
        lora: the same model wrapped by peft; None without LoRA.
    """

    model: PreTrainedModel
    extractor: FeatureExtractionMixin
    features: Dataset | StreamedClips
    max_seconds: float
    lora: "PeftModel | None" = None


def build_fold_inputs(
    run: RunArguments,
    args: VivaeTrainingArguments,
    data: TrainingData,
    parts: dict[str, Sequence[int]],
    checkpoint: Path | None,
) -> FoldInputs:
    """Build the model of a run after setting the seed, and compute the features of all clips.

    Args:
        run: the data and the model.
        args: the training.
        data: the corpus.
        parts: row indices of each part, as `fold_parts` returns them.
        checkpoint: weights that the model starts from; None for random ones.

    Raises:
        UserError: where clips, model and arguments are incompatible.
    """
    set_seed(args.seed)
    durations = data.corpus.dataset["duration"][:] if data.sounds is None else [LONGEST_INPUT]
    max_seconds = run.max_seconds or min(max(durations), LONGEST_INPUT)
    model, extractor = _load_model(run, checkpoint, data.label_names, max_seconds)
    # of an earlier training on other clips; lengths and trimming follow from this run's arguments below
    for field in (TEMPERATURE_FIELD, BACKGROUND_FIELD, OPEN_SET_FIELD, *TIMELINE_FIELDS):
        vars(model.config).pop(field, None)
    if background := background_labels(data.label_names):
        setattr(model.config, BACKGROUND_FIELD, background)
    setattr(model.config, run_folder.CORPUS_FIELD, data.corpus.name)
    if needs_scale(extractor):
        extractor.mean, extractor.std = 0.0, 1.0
    fix_spec_augment(model)
    if not run.resample:
        _keep_sampling_rate(model, extractor, data.corpus)
    if trims(extractor) and not run.trim and args.process_index == 0:
        logger.warning_once(
            "%s was trained on clips trimmed with --trim_db %g, and now gets whole ones.", run.model, extractor.trim_db
        )
    if run.trim or trims(extractor):
        extractor = trimming_extractor(extractor, run.trim or {"trim_db": None})
    if run.max_seconds or run.model not in REGISTERED:
        extractor, max_seconds = _limit_length(run, args, model, extractor, durations, max_seconds)
    freeze(model, run.freeze)
    if args.head_learning_rate:
        find_encoder(model, "head_learning_rate")
    source = starting_point(run.model, run.model_name_or_path)
    lora = add_lora(model, run, source, checkpoint) if run.lora_rank else None
    if data.sounds is not None:
        if needs_scale(extractor):
            raise UserError(
                "expected an encoder whose features need no pass over all clips with --streaming, found --model "
                f"{run.model}; give another, or leave out --streaming."
            )
        features = StreamedClips(data.sounds, range(len(data.sounds)), data.labels, extractor, max_seconds)
        return FoldInputs(model, extractor, features, max_seconds, lora)
    dataset = data.corpus.dataset
    with args.main_process_first(desc="features"):
        if isinstance(model, ProbeForAudioClassification):
            features = build_embeddings(dataset, extractor, model.to(args.device), max_seconds)
        else:
            features = fit_extractor(extractor, dataset, parts["train"], run.normalization, max_seconds, run.scale)
        features = features.add_column("labels", data.labels).add_column("clip", list(range(len(dataset))))
    return FoldInputs(model, extractor, features.with_format("torch"), max_seconds, lora)


def _load_model(
    run: ModelArguments, checkpoint: Path | None, label_names: Sequence[str], max_seconds: float
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    labels = dict(enumerate(label_names))
    settings = (checkpoint, labels, run.model_config, max_seconds, run.from_scratch)
    remedy = f"correct --model_config {json.dumps(run.model_config)}" if run.model_config else "give another --model"
    with explain_build_errors(run.model, remedy):
        if run.model in REGISTERED:
            return load_registered(run.model, labels, run.model_config, checkpoint)
        if run.model.startswith(PROBE):
            return load_probe(*settings)
        return load_encoder(*settings) if is_encoder(run.model) else load_checkpoint(*settings, run.trust_remote_code)


def _limit_length(
    run: ModelArguments,
    args: VivaeTrainingArguments,
    model: PreTrainedModel,
    extractor: FeatureExtractionMixin,
    durations: Sequence[float],
    max_seconds: float,
) -> tuple[FeatureExtractionMixin, float]:
    """Return the extractor for clips of `max_seconds` or, if shorter, the model's window; and this length."""
    window = max_input_seconds(extractor)
    if run.max_seconds and run.max_seconds > window:
        raise UserError(
            f"expected --max_seconds of {window:g} at most, the window of {run.model}, found {run.max_seconds:g}; "
            "leave it out."
        )
    seconds = min(max_seconds, window)
    longer = sum(duration > seconds for duration in durations)
    if longer and not run.max_seconds and args.process_index == 0:
        logger.warning_once(
            "%s takes %g s of a clip at most, and %d clips are longer.", short_name(run.model), seconds, longer
        )
    if seconds < window and (run.max_seconds or longer):
        # checkpoints of a wrapped encoder contain code anyway
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
    extractor.sampling_rate = rate  # so that users of the checkpoint do not resample, either


def build_trainer(
    run: RunArguments,
    args: VivaeTrainingArguments,
    data: TrainingData,
    parts: dict[str, Sequence[int]],
    inputs: FoldInputs,
    trainer_class: type[VivaeTrainer] = VivaeTrainer,
    **kwargs,
) -> VivaeTrainer:
    """Build the Trainer of a fold, with its datasets, loss, scores and callbacks.

    Args:
        run: the data and the model.
        args: the training.
        data: the corpus.
        parts: row indices of each part.
        inputs: as `build_fold_inputs` returns them.
        trainer_class: class of the Trainer.
        kwargs: further arguments of it; `model_init` replaces the model.
    """
    features = inputs.features
    lengths = feature_lengths(features) if data.sounds is None else None
    labels, train = np.asarray(data.labels), list(parts["train"])
    selecting = parts.get(run.select_on)
    if "model_init" not in kwargs:
        kwargs["model"] = inputs.model
    trainer = trainer_class(
        **kwargs,
        args=args,
        train_dataset=training_clips(run, args, data, train, inputs),
        train_lengths=lengths and [lengths[row] for row in train],
        train_order=data.sounds and partial(shuffle_shards, data.sounds, train),
        eval_dataset=selecting and features.select(by_length(features, selecting) if lengths else selecting),
        test_dataset=features.select(parts["test"]) if run.watch_test and run.select_on != "test" else None,
        processing_class=inputs.extractor,
        compute_metrics=make_compute_metrics(data.label_names),
        files=data.sounds or [clip["file"] for clip in data.clips],
        class_weights=_class_weights(args, labels[train], len(data.label_names)),
    )
    title = f"{short_name(run.model)} on {data.corpus.title}"
    majority = selecting and float((labels[list(selecting)] == most_frequent(labels[train])).mean())
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(EpochProgressCallback(title, run.select_on))
    trainer.add_callback(HistoryCallback(title, run.select_on, majority))
    if run.augment:
        trainer.add_callback(SetEpochCallback())
    return trainer


def training_clips(
    run: ModelArguments, args: VivaeTrainingArguments, data: TrainingData, rows: Sequence[int], inputs: FoldInputs
) -> Dataset | StreamedClips | AugmentedDataset:
    """Return the training clips, with `--augment` changed in each epoch."""
    if not run.augment:
        return inputs.features.select(rows)
    features = inputs.features
    waveforms = partial(build_waveforms, data.corpus.dataset, inputs.extractor.sampling_rate)
    if isinstance(features, StreamedClips):
        waveforms = partial(StreamedArrays, features, "waveform")
        features = StreamedArrays(features, inputs.extractor.model_input_names[0])
    with args.main_process_first(desc="waveforms"):
        return AugmentedDataset(
            features=features,
            waveforms=waveforms,
            labels=data.labels,
            num_labels=len(data.label_names),
            extractor=inputs.extractor,
            max_seconds=inputs.max_seconds,
            augmentation=parse_augmentation(run.augment),
            seed=args.seed,
            rows=rows,
        )


def _class_weights(args: VivaeTrainingArguments, labels: np.ndarray, num_labels: int) -> torch.Tensor | None:
    """Return a weight for each label with which all labels of the training clips count the same, 1 on average."""
    if args.class_weights == "none":
        return None
    from sklearn.utils.class_weight import compute_class_weight

    present, weights = np.unique(labels), torch.zeros(num_labels)
    weights[present] = torch.tensor(compute_class_weight("balanced", classes=present, y=labels), dtype=torch.float32)
    return weights

"""Checkpoint folders to models and feature extractors, for training, scoring and inference."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import logging

from ..features.extraction import configure_length, fixed_length, matching_extractor
from ..models import MODELS, build_config, refuse_unknown
from ..models.encoder import EncoderConfig, EncoderForAudioClassification
from ..models.features_whisper import MaskedWhisperFeatureExtractor
from ..models.hidden_states import bare_encoder
from ..models.padding import mask_padding
from ..models.probe import ProbeConfig, ProbeForAudioClassification
from ..models.wrapped import WrappedConfig, WrappedForAudioClassification
from ..run_folder import CORPUS_FIELD
from ..validation import UserError
from .adapters import ADAPTER, load_adapter, weights_digest
from .calibration import TEMPERATURE_FIELD
from .checks import (
    UnfitError,
    building,
    check_encoder_fields,
    check_finite,
    check_fit,
    check_labels,
    check_masks,
    check_weights,
    read_config,
    read_extractor,
    read_json,
    whole_weights,
)
from .resolve import is_folder, resolve_checkpoint

LONGEST_INPUT = 30.0  # seconds: what Whisper was made for, and enough for a vocal burst


def load_registered(
    name: str, labels: dict[int, str], config: dict, folder: Path | None
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """A model of `MODELS` and its feature extractor.

    Args:
        name: a key of `MODELS`.
        labels: name of each label index.
        config: fields of its configuration that shall differ.
        folder: checkpoint to start from, as `find_checkpoint` gives it; None for random weights.

    Raises:
        ValueError: see `build_config`; and for checkpoints of another kind or without safetensors.
    """
    spec = MODELS[name]
    label_config = {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    if folder is None:
        model = spec.model_class(build_config(name, **config, **label_config))
        return mask_padding(model), matching_extractor(name, model.config)
    settings = read_json(folder / "config.json")
    check_weights(folder)
    if "architecture" in settings and settings.get("model_type") is None:  # written by timm
        fitted = build_config(name, **{"architecture": settings["architecture"], **config}, **label_config)
        return spec.model_class.from_timm(folder, fitted), matching_extractor(name, fitted)
    if settings.get("model_type") != spec.config_class.model_type:
        raise UserError(
            f"--model {name} expects a checkpoint of type {spec.config_class.model_type!r}, found "
            f"{settings.get('model_type')!r} in {folder}; give another --model_name_or_path, or use it as --model."
        )
    build_config(name, **config)  # refuses fields that are misspelt
    model = _load_weights(spec.model_class, folder, **{**spec.config, **config, **label_config})
    return mask_padding(model), matching_extractor(name, model.config)


def load_checkpoint(
    folder: Path,
    labels: dict[int, str],
    config: dict,
    max_seconds: float,
    from_scratch: bool = False,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """Any checkpoint that `AutoModelForAudioClassification` can load, fed with clips of `max_seconds`.

    A Whisper encoder has its position table cut to the clips (its own accepts nothing but 30 s), and positions stay
    fixed, which the library would train. Padding is kept from the others (see `mask_padding`), so that a score does
    not depend on it.

    Args:
        folder: of the checkpoint.
        labels: name of each label index.
        config: fields of its configuration that shall differ.
        max_seconds: length to which clips are cut.
        from_scratch: leave the weights random.
        trust_remote_code: execute code of the folder.

    Raises:
        ValueError: for folders without `config.json` or safetensors, and for code without consent; for fields that
            the configuration does not have, and weights that do not fit it.
    """
    settings = _configure(folder, labels, config, trust_remote_code)
    extractor = configure_length(read_extractor(folder, trust_remote_code), settings, max_seconds)
    if settings.model_type == "whisper":
        settings.max_source_positions = extractor.nb_max_frames // 2
    if from_scratch:
        model = AutoModelForAudioClassification.from_config(
            settings, dtype=torch.float32, trust_remote_code=trust_remote_code
        )
    else:
        check_weights(folder)
        model = _load_weights(
            AutoModelForAudioClassification, folder, config=settings, trust_remote_code=trust_remote_code
        )
    encoder = bare_encoder(model)
    if isinstance(encoder, WhisperEncoder):
        encoder.embed_positions.requires_grad_(False)
    if not isinstance(model, WrappedForAudioClassification):  # which does so by itself
        mask_padding(model)
    return model, extractor


def _configure(folder: Path, labels: dict[int, str], config: dict, trust_remote_code: bool) -> PreTrainedConfig:
    fields = read_json(folder / "config.json")
    if fields.get("model_type") == ProbeConfig.model_type:
        raise UserError(
            f"expected a checkpoint to train further, found {folder}, whose encoder is frozen; give that encoder, or "
            "probe: and the encoder for another probe."
        )
    as_saved = read_config(folder, trust_remote_code)
    if config.keys() - fields.keys():
        refuse_unknown(config, {*type(as_saved)().to_dict(), *fields}, f"configuration of {folder.name}")
    check_masks(config, as_saved)
    if "encoder" in config:  # of a model of this package
        check_encoder_fields(config["encoder"])
        refuse_unknown(config["encoder"], {*as_saved.encoder.to_dict()}, f"encoder of {folder.name}")
        check_masks(config["encoder"], as_saved.encoder)
    label_config = {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    return read_config(folder, trust_remote_code, **config, **label_config)


def _load_weights(model_class: type, folder: Path, **more) -> PreTrainedModel:
    with silence_loading_report(), whole_weights(folder):
        model, loaded = model_class.from_pretrained(
            folder,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
            **more,
        )
    check_fit(loaded, folder)
    if "layer_weights" in loaded["missing_keys"]:  # which the library leaves as the memory was that they took
        torch.nn.init.constant_(model.layer_weights, 1 / len(model.layer_weights))
    check_finite(model, folder)
    return model


@contextmanager
def silence_loading_report() -> Iterator[None]:
    """Without the library's report of weights that are made anew, which its caller reads."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


# of a classifier's configuration, and nothing to the encoder: embeddings do not depend on them
OF_THE_HEAD = (
    "id2label", "label2id", "num_labels", "architectures", "_name_or_path", "transformers_version", "dtype",
    TEMPERATURE_FIELD, CORPUS_FIELD,
)  # fmt: skip


def load_probe(
    folder: Path,
    labels: dict[int, str],
    config: dict,
    max_seconds: float,
    from_scratch: bool = False,
) -> tuple[ProbeForAudioClassification, FeatureExtractionMixin]:
    """A linear probe on the encoder of one of the library's audio classifiers, and an extractor that tells its frames.

    Args:
        folder: checkpoint of the encoder.
        labels: name of each label.
        config: fields of `ProbeConfig` that shall differ.
        max_seconds: length to which clips are cut.
        from_scratch: leave the encoder's weights random.

    Raises:
        ValueError: see `load_checkpoint` and `ProbeConfig`; and for fields that `ProbeConfig` does not have.
    """
    refuse_unknown(config, _fields(ProbeConfig) - {"encoder"}, "configuration of a probe")
    _kind(folder)  # refuses others
    classifier, extractor = load_checkpoint(folder, labels, {}, max_seconds, from_scratch)
    model = _wrap(ProbeForAudioClassification, classifier, config)
    _check_rate(model.config, extractor, folder)
    if model.config.masked_mean:
        extractor = _telling_frames(extractor, cut_to_clips=False)
    elif isinstance(extractor, Wav2Vec2FeatureExtractor):
        extractor = fixed_length(extractor, max_seconds)
    elif isinstance(extractor, SeamlessM4TFeatureExtractor):
        raise UserError(
            "expected masked_mean of an encoder whose features have no fixed length (w2v-BERT), found false; leave it."
        )
    return model.eval(), extractor


def load_encoder(
    folder: Path,
    labels: dict[int, str],
    config: dict,
    max_seconds: float,
    from_scratch: bool = False,
) -> tuple[EncoderForAudioClassification, FeatureExtractionMixin]:
    """The encoder of one of the library's audio classifiers behind `EncoderHead`, and its feature extractor.

    Args:
        folder: checkpoint of the encoder.
        labels: name of each label.
        config: fields of `EncoderConfig` that shall differ; `encoder` holds those of the encoder's own.
        max_seconds: length to which clips are cut.
        from_scratch: leave the encoder's weights random.

    Raises:
        ValueError: see `load_checkpoint` and `EncoderConfig`; and for fields that they do not have.
    """
    refuse_unknown(config, _fields(EncoderConfig), "configuration of an encoder's head")
    head = dict(config)
    check_encoder_fields(of_encoder := head.pop("encoder", {}))
    if _kind(folder) == "whisper":
        max_seconds = LONGEST_INPUT  # its window costs nothing where the clip alone is heard
    classifier, extractor = load_checkpoint(folder, labels, of_encoder, max_seconds, from_scratch)
    model = _wrap(EncoderForAudioClassification, classifier, head)
    _check_rate(model.config, extractor, folder)
    return model, _telling_frames(extractor)


def _fields(config_class: type[PreTrainedConfig]) -> set[str]:
    named = {*signature(WrappedConfig).parameters, *signature(config_class).parameters}
    return (named | {*PreTrainedConfig().to_dict()}) - {"kwargs"}


def _kind(folder: Path) -> str:
    kind = read_json(folder / "config.json").get("model_type")
    if kind not in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES:
        raise UserError(
            f"expected one of the library's encoders ({', '.join(MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES)}) "
            f"behind probe: or encoder:, found {kind!r} in {folder}; give another."
        )
    return kind


def _wrap(
    model_class: type[WrappedForAudioClassification], classifier: PreTrainedModel, config: dict[str, Any]
) -> WrappedForAudioClassification:
    labels = {"id2label": classifier.config.id2label, "label2id": classifier.config.label2id}
    model = model_class(model_class.config_class(encoder_fields(classifier.config), **config, **labels))
    model.encoder.load_state_dict(bare_encoder(classifier).state_dict())
    return model


def _check_rate(config: WrappedConfig, extractor: FeatureExtractionMixin, folder: Path) -> None:
    if extractor.sampling_rate != config.sampling_rate:
        raise UserError(
            f"expected a feature extractor of {config.sampling_rate} Hz, at which the encoder was pretrained, found "
            f"{extractor.sampling_rate} Hz in {folder}; correct the latter, give another encoder, or say that it was "
            f"pretrained so: --model_config '{{\"sampling_rate\": {extractor.sampling_rate}}}'."
        )


def _telling_frames(extractor: FeatureExtractionMixin, cut_to_clips: bool = True) -> FeatureExtractionMixin:
    if isinstance(extractor, WhisperFeatureExtractor):
        return MaskedWhisperFeatureExtractor(**{**extractor.to_dict(), "cut_to_clips": cut_to_clips})
    extractor.return_attention_mask = True
    return extractor


def encoder_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """What a classifier's configuration says of its encoder."""
    return {name: value for name, value in config.to_dict().items() if name not in OF_THE_HEAD}


def load_for_inference(
    folder: Path, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """A checkpoint as it is, ready to predict, and its feature extractor.

    Raises:
        ValueError: for folders without `config.json` or safetensors, for labels without a name of their own, and for
            weights that are missing, damaged, not finite or do not fit.
    """
    config = read_config(folder, trust_remote_code)
    check_labels(config, folder)
    read_json(folder / "preprocessor_config.json")
    extractor = read_extractor(folder, trust_remote_code)
    model = _load_adapted(folder, config) if (folder / ADAPTER).is_dir() else _load_whole(folder, trust_remote_code)
    check_finite(model, folder)
    return model.eval(), extractor


def _load_whole(folder: Path, trust_remote_code: bool) -> PreTrainedModel:
    check_weights(folder, "train it again")
    with silence_loading_report(), building(f"the model of {folder}"), whole_weights(folder):
        model, loaded = AutoModelForAudioClassification.from_pretrained(
            folder,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
            trust_remote_code=trust_remote_code,
        )
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise UserError(
            f"expected a trained audio classifier in {folder}, found no weights for {len(missing)} of its parts "
            f"(first: {missing[0]}); give a checkpoint that was trained, not an encoder."
        )
    if not isinstance(model, WrappedForAudioClassification):  # which does so by itself
        mask_padding(model)
    return model


def _load_adapted(folder: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """The encoder that an adapter names, fetched if need be, with the adapter merged into it."""
    if not isinstance(config, EncoderConfig):
        raise UserError(
            f"expected the configuration of an adapted encoder beside the adapter in {folder}, found that of a "
            f"{config.model_type}; put back the config.json that was written with it, or train the adapter again."
        )
    head = {name: getattr(config, name) for name in ("pooling", "layer_weights", "head_dropout", "sampling_rate")}
    head["encoder"] = encoder_fields(config.encoder)
    file = folder / ADAPTER / "adapter_config.json"
    fields = read_json(file)
    for name in ("base_model_name_or_path", "revision"):
        if not isinstance(fields.get(name), str):
            raise UserError(
                f"expected {name} as text in {file}, by which the adapter's encoder is found, found "
                f"{fields.get(name)!r:.100}; correct it, or train the adapter again."
            )
    base = _find_base(fields["base_model_name_or_path"], fields["revision"])
    try:
        model, _ = load_encoder(base, config.id2label, head, LONGEST_INPUT)
    except UnfitError as error:  # whose cure is for training
        raise UserError(
            f"expected in {folder / 'config.json'} the encoder that the adapter was trained on, found another than "
            f"that of {base}; put back the config.json that was written with the adapter, or train the adapter again."
        ) from error
    with building(f"the adapter of {folder}", "copy it again, or train it again"), whole_weights(folder / ADAPTER):
        return load_adapter(model, folder / ADAPTER)


def _find_base(source: str, revision: str) -> Path:
    """The folder of the encoder that an adapter names, with the weights that it was trained on."""
    if not is_folder(source):
        return resolve_checkpoint(source, revision=revision)
    if weights_digest(Path(source)) != revision:
        raise UserError(
            f"expected in {source} the weights that the adapter was trained on, found others; put those back, or "
            "train the adapter again."
        )
    return Path(source)


def fix_spec_augment(model: PreTrainedModel) -> None:
    """Have the encoder of a model mask no frames of a batch whose clips are all shorter than one mask.

    The library refuses such a batch, which would end a training at the first one with clips of up to 200 ms alone. And
    where a configuration lacks `mask_feature_min_masks` (WavLM's), which masks of features need, it gets the 0 of the
    others.
    """
    for module in model.modules():
        if hasattr(module, "_mask_hidden_states"):
            module.register_forward_pre_hook(_without_masks, with_kwargs=True)
            if not hasattr(module.config, "mask_feature_min_masks"):
                module.config.mask_feature_min_masks = 0


def _without_masks(encoder: PreTrainedModel, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict] | None:
    inputs = args[0] if args else kwargs[encoder.main_input_name]
    frames = _frames(encoder.config, inputs)
    if not encoder.training or encoder.config.mask_time_prob == 0 or frames >= encoder.config.mask_time_length:
        return None
    none = torch.zeros(len(inputs), frames, dtype=torch.bool, device=inputs.device)
    return args, kwargs | {"mask_time_indices": none}


def _frames(config: PreTrainedConfig, inputs: torch.Tensor) -> int:
    """Frames of waveforms `(batch, samples)` behind the convolutions, or of spectrograms `(batch, frames, bins)`."""
    frames = inputs.shape[1]
    if inputs.ndim == 2:
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
    return frames

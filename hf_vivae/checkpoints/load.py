"""Models and feature extractors of checkpoint folders, for training, scoring and inference.

- `load_registered`: a model of `REGISTERED`, from random weights or a checkpoint of its type;
- `load_checkpoint`: any audio classifier of transformers;
- `load_encoder`, `load_probe`: an encoder of transformers with this package's head, or frozen with a linear layer;
- `load_for_inference`: a trained checkpoint, merged with its LoRA adapter if it has one;
- `fix_spec_augment`: SpecAugment of encoders for batches of very short clips.
"""

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
from ..models import REGISTERED, build_config, check_fields
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
    check_encoder_fields,
    check_finite,
    check_fit,
    check_labels,
    check_masks,
    check_weights,
    explain_build_errors,
    explain_weight_errors,
    read_checkpoint_json,
    read_config,
    read_extractor,
)
from .open_set import BACKGROUND_FIELD, OPEN_SET_FIELD
from .resolve import is_folder, resolve_checkpoint
from .timeline_settings import TIMELINE_FIELDS

LONGEST_INPUT = 30.0  # seconds: Whisper's window, and enough for a vocal burst
# fields of a classifier's configuration that do not belong to its encoder: embeddings do not depend on them
HEAD_FIELDS = (
    "id2label", "label2id", "num_labels", "architectures", "_name_or_path", "transformers_version", "dtype",
    TEMPERATURE_FIELD, CORPUS_FIELD, BACKGROUND_FIELD, OPEN_SET_FIELD, *TIMELINE_FIELDS,
)  # fmt: skip


def load_registered(
    name: str, labels: dict[int, str], config: dict, folder: Path | None
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """Return a model of `REGISTERED` and its feature extractor.

    Args:
        name: a key of `REGISTERED`.
        labels: name of each label index.
        config: fields of its configuration with other values than the defaults.
        folder: checkpoint to start from, as `find_checkpoint` returns it; None for random weights.

    Raises:
        ValueError: see `build_config`.
        UserError: for checkpoints of another type or without safetensors.
    """
    spec = REGISTERED[name]
    label_config = {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    if folder is None:
        model = spec.model_class(build_config(name, **config, **label_config))
        return mask_padding(model), matching_extractor(name, model.config)
    settings = read_checkpoint_json(folder / "config.json")
    check_weights(folder)
    if "architecture" in settings and settings.get("model_type") is None:  # written by timm
        timm_config = build_config(name, **{"architecture": settings["architecture"], **config}, **label_config)
        return spec.model_class.from_timm(folder, timm_config), matching_extractor(name, timm_config)
    if settings.get("model_type") != spec.config_class.model_type:
        raise UserError(
            f"--model {name} expects a checkpoint of type {spec.config_class.model_type!r}, found "
            f"{settings.get('model_type')!r} in {folder}; give another --model_name_or_path, or use it as --model."
        )
    build_config(name, **config)  # refuses misspelt fields
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
    """Return any model that `AutoModelForAudioClassification` can load, and its extractor for clips of `max_seconds`.

    A Whisper encoder has its position table cut to the clips (its own accepts nothing but 30 s), and its positions
    stay fixed, which the library would train. Padding is masked in the others (see `mask_padding`), so that a score
    does not depend on it.

    Args:
        folder: folder of the checkpoint.
        labels: name of each label index.
        config: fields of its configuration with other values than in `config.json`.
        max_seconds: length to which clips are cut, in seconds.
        from_scratch: leave the weights random.
        trust_remote_code: execute code of the folder.

    Raises:
        ValueError: for fields that the configuration does not have.
        UserError: for folders without `config.json` or safetensors, for code without consent, for probes, and for
            weights that do not fit the configuration.
    """
    fields = read_checkpoint_json(folder / "config.json")
    if fields.get("model_type") == ProbeConfig.model_type:
        raise UserError(
            f"expected a checkpoint to train further, found {folder}, whose encoder is frozen; give that encoder, or "
            "probe: and the encoder for another probe."
        )
    saved = read_config(folder, trust_remote_code)
    if config.keys() - fields.keys():
        check_fields(config, {*type(saved)().to_dict(), *fields}, f"configuration of {folder.name}")
    check_masks(config, saved)
    if "encoder" in config:  # of a model of this package
        check_encoder_fields(config["encoder"])
        check_fields(config["encoder"], {*saved.encoder.to_dict()}, f"encoder of {folder.name}")
        check_masks(config["encoder"], saved.encoder)
    label_config = {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    settings = read_config(folder, trust_remote_code, **config, **label_config)
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
    if not isinstance(model, WrappedForAudioClassification):  # masks padding by itself
        mask_padding(model)
    return model, extractor


def load_encoder(
    folder: Path, labels: dict[int, str], config: dict, max_seconds: float, from_scratch: bool = False
) -> tuple[EncoderForAudioClassification, FeatureExtractionMixin]:
    """Return the encoder of one of the library's audio classifiers with `EncoderHead`, and its feature extractor.

    Args:
        folder: folder of the encoder's checkpoint.
        labels: name of each label index.
        config: fields of `EncoderConfig` with other values than the defaults; `encoder` holds the encoder's own.
        max_seconds: length to which clips are cut, in seconds.
        from_scratch: leave the encoder's weights random.

    Raises:
        ValueError: see `EncoderConfig`; and for fields that it does not have.
        UserError: see `load_checkpoint`.
    """
    check_fields(config, _config_fields(EncoderConfig), "configuration of an encoder's head")
    head = dict(config)
    check_encoder_fields(encoder_config := head.pop("encoder", {}))
    if _encoder_type(folder) == "whisper":
        max_seconds = LONGEST_INPUT  # the window costs nothing, since only the frames of the clip are encoded
    classifier, extractor = load_checkpoint(folder, labels, encoder_config, max_seconds, from_scratch)
    model = _wrap(EncoderForAudioClassification, classifier, head, extractor, folder)
    return model, _with_mask(extractor)


def load_probe(
    folder: Path, labels: dict[int, str], config: dict, max_seconds: float, from_scratch: bool = False
) -> tuple[ProbeForAudioClassification, FeatureExtractionMixin]:
    """Return a linear probe on the encoder of one of the library's audio classifiers, and its feature extractor.

    The arguments are those of `load_encoder`, with fields of `ProbeConfig` as `config`.

    Raises:
        ValueError: see `ProbeConfig`; and for fields that it does not have.
        UserError: see `load_checkpoint`; and for a mean over padding of an encoder without inputs of fixed length.
    """
    check_fields(config, _config_fields(ProbeConfig) - {"encoder"}, "configuration of a probe")
    _encoder_type(folder)  # refuses others
    classifier, extractor = load_checkpoint(folder, labels, {}, max_seconds, from_scratch)
    model = _wrap(ProbeForAudioClassification, classifier, config, extractor, folder)
    if model.config.masked_mean:
        extractor = _with_mask(extractor, cut_to_clips=False)
    elif isinstance(extractor, Wav2Vec2FeatureExtractor):
        extractor = fixed_length(extractor, max_seconds)
    elif isinstance(extractor, SeamlessM4TFeatureExtractor):
        raise UserError(
            "expected masked_mean of an encoder whose features have no fixed length (w2v-BERT), found false; leave it."
        )
    return model.eval(), extractor


def load_for_inference(
    folder: Path, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """Return the model of a trained checkpoint, in evaluation mode, and its feature extractor.

    Args:
        folder: folder of the checkpoint, or of a LoRA adapter, whose encoder is downloaded if need be.
        trust_remote_code: execute code of the folder.

    Raises:
        UserError: for folders without `config.json` or safetensors, for labels that are not different names, and for
            weights that are missing, damaged, not finite or do not fit.
    """
    config = read_config(folder, trust_remote_code)
    check_labels(config, folder)
    read_checkpoint_json(folder / "preprocessor_config.json")
    extractor = read_extractor(folder, trust_remote_code)
    if (folder / ADAPTER).is_dir():
        model = _load_adapted(folder, config)
    else:
        check_weights(folder, "train it again")
        with explain_build_errors(f"the model of {folder}"):
            model, loaded = _read_weights(AutoModelForAudioClassification, folder, trust_remote_code=trust_remote_code)
        if missing := sorted(loaded["missing_keys"]):
            raise UserError(
                f"expected a trained audio classifier in {folder}, found no weights for {len(missing)} of its parts "
                f"(first: {missing[0]}); give a checkpoint that was trained, not an encoder."
            )
        if not isinstance(model, WrappedForAudioClassification):  # masks padding by itself
            mask_padding(model)
    check_finite(model, folder)
    return model.eval(), extractor


def _load_adapted(folder: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """Return the encoder that an adapter names, with the adapter merged into it."""
    if not isinstance(config, EncoderConfig):
        raise UserError(
            f"expected the configuration of an adapted encoder with the adapter in {folder}, found that of a "
            f"{config.model_type}; put back the config.json that was written with it, or train the adapter again."
        )
    file = folder / ADAPTER / "adapter_config.json"
    fields = read_checkpoint_json(file)
    for name in ("base_model_name_or_path", "revision"):
        if not isinstance(fields.get(name), str):
            raise UserError(
                f"expected {name} as text in {file}, by which the adapter's encoder is found, found "
                f"{fields.get(name)!r:.100}; correct it, or train the adapter again."
            )
    source, revision = fields["base_model_name_or_path"], fields["revision"]
    if not is_folder(source):
        base = resolve_checkpoint(source, revision=revision)
    elif weights_digest(base := Path(source)) != revision:
        raise UserError(
            f"expected in {source} the weights that the adapter was trained on, found others; put those back, or "
            "train the adapter again."
        )
    head = {name: getattr(config, name) for name in ("pooling", "layer_weights", "head_dropout", "sampling_rate")}
    head["encoder"] = encoder_fields(config.encoder)
    try:
        model, _ = load_encoder(base, config.id2label, head, LONGEST_INPUT)
    except UnfitError as error:  # its remedy is for training
        raise UserError(
            f"expected in {folder / 'config.json'} the encoder that the adapter was trained on, found another than "
            f"that of {base}; put back the config.json that was written with the adapter, or train the adapter again."
        ) from error
    remedy = "copy it again, or train it again"
    with explain_build_errors(f"the adapter of {folder}", remedy), explain_weight_errors(folder / ADAPTER):
        return load_adapter(model, folder / ADAPTER)


def _load_weights(model_class: type, folder: Path, **more) -> PreTrainedModel:
    model, loaded = _read_weights(model_class, folder, ignore_mismatched_sizes=True, **more)
    check_fit(loaded, folder)
    if "layer_weights" in loaded["missing_keys"]:  # the library leaves them uninitialised
        torch.nn.init.constant_(model.layer_weights, 1 / len(model.layer_weights))
    check_finite(model, folder)
    return model


def _read_weights(model_class: type, folder: Path, **more) -> tuple[PreTrainedModel, dict[str, Any]]:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the library would print the loading information that is returned here
    try:
        with explain_weight_errors(folder):
            return model_class.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **more
            )
    finally:
        logging.set_verbosity(verbosity)


def _config_fields(config_class: type[PreTrainedConfig]) -> set[str]:
    named = {*signature(WrappedConfig).parameters, *signature(config_class).parameters}
    return (named | {*PreTrainedConfig().to_dict()}) - {"kwargs"}


def _encoder_type(folder: Path) -> str:
    kind = read_checkpoint_json(folder / "config.json").get("model_type")
    if kind not in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES:
        raise UserError(
            f"expected one of the library's encoders ({', '.join(MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES)}) "
            f"after probe: or encoder:, found {kind!r} in {folder}; give another."
        )
    return kind


def _wrap(
    model_class: type[WrappedForAudioClassification],
    classifier: PreTrainedModel,
    config: dict[str, Any],
    extractor: FeatureExtractionMixin,
    folder: Path,
) -> WrappedForAudioClassification:
    labels = {"id2label": classifier.config.id2label, "label2id": classifier.config.label2id}
    model = model_class(model_class.config_class(encoder_fields(classifier.config), **config, **labels))
    model.encoder.load_state_dict(bare_encoder(classifier).state_dict())
    if extractor.sampling_rate != model.config.sampling_rate:
        raise UserError(
            f"expected a feature extractor of {model.config.sampling_rate} Hz, at which the encoder was pretrained, "
            f"found {extractor.sampling_rate} Hz in {folder}; correct the latter, give another encoder, or state that "
            f"it was pretrained so: --model_config '{{\"sampling_rate\": {extractor.sampling_rate}}}'."
        )
    return model


def _with_mask(extractor: FeatureExtractionMixin, cut_to_clips: bool = True) -> FeatureExtractionMixin:
    if isinstance(extractor, WhisperFeatureExtractor):
        return MaskedWhisperFeatureExtractor(**{**extractor.to_dict(), "cut_to_clips": cut_to_clips})
    extractor.return_attention_mask = True
    return extractor


def encoder_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the fields of a classifier's configuration that belong to its encoder."""
    return {name: value for name, value in config.to_dict().items() if name not in HEAD_FIELDS}


def fix_spec_augment(model: PreTrainedModel) -> None:
    """Turn off SpecAugment's masks over time for batches whose clips are all shorter than one mask.

    The library refuses such a batch, which would end a training at the first one with clips of up to 200 ms only. And
    a configuration without `mask_feature_min_masks` (WavLM's), which masks of features need, gets the 0 of the
    others.
    """
    for module in model.modules():
        if hasattr(module, "_mask_hidden_states"):
            module.register_forward_pre_hook(_without_masks, with_kwargs=True)
            if not hasattr(module.config, "mask_feature_min_masks"):
                module.config.mask_feature_min_masks = 0


def _without_masks(encoder: PreTrainedModel, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict] | None:
    config, inputs = encoder.config, args[0] if args else kwargs[encoder.main_input_name]
    frames = inputs.shape[1]  # of spectrograms (batch, frames, bins)
    if inputs.ndim == 2:  # waveforms (batch, samples), which the convolutions make frames of
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
    if not encoder.training or config.mask_time_prob == 0 or frames >= config.mask_time_length:
        return None
    no_masks = torch.zeros(len(inputs), frames, dtype=torch.bool, device=inputs.device)
    return args, kwargs | {"mask_time_indices": no_masks}

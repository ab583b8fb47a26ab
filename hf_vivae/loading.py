"""Models ready to train: by name from scratch or pretrained, or any audio-classification checkpoint.

Weights are read from safetensors only, in single precision whatever they are kept in, and nothing is executed from a
checkpoint without consent. Library encoders get inputs as long as the clips rather than the 30 s that some of them
were made for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForAudioClassification, PreTrainedConfig, PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import logging

from .checkpoint_checks import (
    check_encoder_fields,
    check_finite,
    check_fit,
    check_masks,
    check_weights,
    read_config,
    read_extractor,
    read_json,
    whole_weights,
)
from .extractors import fit_extractor_length, matching_extractor
from .models import MODELS, build_config, refuse_unknown
from .models.hidden_states import bare_encoder
from .models.padding import ignore_padding
from .models.probe import ProbeConfig
from .models.wrapped import WrappedForAudioClassification
from .validation import UserError

LONGEST_INPUT = 30.0  # seconds: what Whisper was made for, and enough for a vocal burst


def load_named(
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
        return ignore_padding(model), matching_extractor(name, model.config)
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
    return ignore_padding(model), matching_extractor(name, model.config)


def load_any(
    folder: Path,
    labels: dict[int, str],
    config: dict,
    max_seconds: float,
    from_scratch: bool = False,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """Any checkpoint that `AutoModelForAudioClassification` can load, fed with clips of `max_seconds`.

    A Whisper encoder has its position table cut to the clips (its own accepts nothing but 30 s), and positions stay
    fixed, which the library would train. Padding is kept from the others (see `ignore_padding`), so that a score does
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
    extractor = fit_extractor_length(read_extractor(folder, trust_remote_code), settings, max_seconds)
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
        ignore_padding(model)
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
    with hushed(), whole_weights(folder):
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
def hushed() -> Iterator[None]:
    """Without the library's report of weights that are made anew, which its caller reads."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)

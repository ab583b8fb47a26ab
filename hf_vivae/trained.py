"""A trained checkpoint, ready to predict: whole weights, or an adapter beside the encoder that it names."""

from pathlib import Path

import torch
from transformers import AutoModelForAudioClassification, PreTrainedConfig, PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .adapting import ADAPTER, load_adapter, weights_digest
from .checkpoint_checks import (
    UnfitError,
    building,
    check_finite,
    check_labels,
    check_weights,
    read_config,
    read_extractor,
    read_json,
    whole_weights,
)
from .checkpoints import is_folder, resolve_checkpoint
from .loading import LONGEST_INPUT, hushed
from .models.encoder import EncoderConfig
from .models.padding import ignore_padding
from .models.wrapped import WrappedForAudioClassification
from .validation import UserError
from .wrapping import encoder_fields, load_encoder


def load_trained(folder: Path, trust_remote_code: bool = False) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
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
    with hushed(), building(f"the model of {folder}"), whole_weights(folder):
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
        ignore_padding(model)
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

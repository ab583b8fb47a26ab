"""A trained checkpoint, ready to predict: whole weights, or an adapter beside the encoder that it names."""

from pathlib import Path

import torch
from transformers import AutoModelForAudioClassification, PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .adapting import ADAPTER, load_adapter, weights_digest
from .checkpoint_checks import building, check_weights, read_config, read_extractor, read_json, whole_weights
from .checkpoints import resolve_checkpoint
from .loading import LONGEST_INPUT, hushed
from .models.encoder import EncoderConfig
from .models.padding import ignore_padding
from .models.wrapped import WrappedForAudioClassification
from .validation import UserError
from .wrapping import encoder_fields, load_encoder


def load_trained(folder: Path, trust_remote_code: bool = False) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """A checkpoint as it is, ready to predict, and its feature extractor.

    Raises:
        ValueError: for folders without `config.json` or safetensors, and for weights that are missing, damaged or do
            not fit.
    """
    read_config(folder, trust_remote_code)
    read_json(folder / "preprocessor_config.json")
    extractor = read_extractor(folder, trust_remote_code)
    if (folder / ADAPTER).is_dir():
        return _load_adapted(folder), extractor
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
    return model.eval(), extractor


def _load_adapted(folder: Path) -> PreTrainedModel:
    """The encoder that an adapter names, fetched if need be, with the adapter merged into it."""
    config = EncoderConfig.from_pretrained(folder)
    head = {name: getattr(config, name) for name in ("pooling", "layer_weights", "head_dropout", "sampling_rate")}
    head["encoder"] = encoder_fields(config.encoder)
    adapter = read_json(folder / ADAPTER / "adapter_config.json")
    base = _find_base(adapter["base_model_name_or_path"], adapter["revision"])
    model, _ = load_encoder(base, config.id2label, head, LONGEST_INPUT)
    return load_adapter(model, folder / ADAPTER).eval()


def _find_base(source: str, revision: str) -> Path:
    """The folder of the encoder that an adapter names, with the weights that it was trained on."""
    if not Path(source).is_dir():
        return resolve_checkpoint(source, revision=revision)
    if weights_digest(Path(source)) != revision:
        raise UserError(
            f"expected in {source} the weights that the adapter was trained on, found others; put those back, or "
            "train the adapter anew."
        )
    return Path(source)

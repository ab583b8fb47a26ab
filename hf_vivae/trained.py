"""A trained checkpoint, ready to predict: whole weights, or an adapter beside the encoder that it names."""

from pathlib import Path

from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .adapting import ADAPTER, load_adapter
from .checkpoints import resolve_checkpoint
from .loading import check_weights, hushed, read_json
from .models.encoder import EncoderConfig, EncoderForAudioClassification
from .models.padding import ignore_padding
from .models.probe import ProbeForAudioClassification
from .wrapping import load_encoder


def load_trained(folder: Path, trust_remote_code: bool = False) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """A checkpoint as it is, ready to predict, and its feature extractor.

    Raises:
        ValueError: for folders without `config.json` or safetensors, and for weights that are missing or do not fit.
    """
    read_json(folder / "config.json")
    read_json(folder / "preprocessor_config.json")
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if (folder / ADAPTER).is_dir():
        return _load_adapted(folder, extractor), extractor
    check_weights(folder, "train it again")
    with hushed():
        model, loaded = AutoModelForAudioClassification.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, trust_remote_code=trust_remote_code
        )
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise ValueError(
            f"expected a trained audio classifier in {folder}, found no weights for {len(missing)} of its parts "
            f"(first: {missing[0]}); give a checkpoint that was trained, not an encoder."
        )
    # which keep their encoder from padding by themselves
    if not isinstance(model, (ProbeForAudioClassification, EncoderForAudioClassification)):
        ignore_padding(model)
    return model.eval(), extractor


def _load_adapted(folder: Path, extractor: FeatureExtractionMixin) -> PreTrainedModel:
    """The encoder that an adapter names, fetched if need be, with the adapter merged into it."""
    config = EncoderConfig.from_pretrained(folder)
    source = read_json(folder / ADAPTER / "adapter_config.json")["base_model_name_or_path"]
    head = {name: getattr(config, name) for name in ("pooling", "layer_weights", "head_dropout", "encoder")}
    seconds = getattr(extractor, "chunk_length", 30.0)
    model, _ = load_encoder(resolve_checkpoint(source), config.id2label, head, seconds)
    return load_adapter(model, folder / ADAPTER).eval()

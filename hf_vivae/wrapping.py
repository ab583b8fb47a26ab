"""Encoders of the library behind a head of this package: the frozen one of a probe, or one that is trained."""

from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

from .extractors import fixed_length
from .loading import load_library, read_json
from .models.encoder import EncoderConfig, EncoderForAudioClassification
from .models.features_whisper import MaskedWhisperFeatureExtractor
from .models.hidden_states import bare_encoder
from .models.padding import ignore_padding
from .models.probe import ProbeConfig, ProbeForAudioClassification

# of a classifier's configuration, and nothing to the encoder: embeddings do not depend on them
OF_THE_HEAD = ("id2label", "label2id", "num_labels", "architectures", "_name_or_path", "transformers_version")


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
        ValueError: see `load_library` and `ProbeConfig`; and for fields that `ProbeConfig` does not have.
    """
    _refuse_unknown(config, set(signature(ProbeConfig).parameters) - {"encoder", "kwargs"}, "a probe")
    classifier, extractor = _load_classifier(folder, labels, {}, max_seconds, from_scratch)
    probe = ProbeConfig(_encoder_fields(classifier), **config, **_label_config(labels))
    model = _wrap(ProbeForAudioClassification(probe), classifier)
    model.encoder.requires_grad_(False)
    if model.config.masked_mean:
        extractor = _telling_frames(extractor, cut_to_clips=False)
    elif isinstance(extractor, Wav2Vec2FeatureExtractor):
        extractor = fixed_length(extractor, max_seconds)
    elif isinstance(extractor, SeamlessM4TFeatureExtractor):
        raise ValueError(
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
        ValueError: see `load_library` and `EncoderConfig`; and for fields that they do not have.
    """
    _refuse_unknown(config, set(signature(EncoderConfig).parameters) - {"kwargs"}, "an encoder's head")
    config = dict(config)
    classifier, extractor = _load_classifier(folder, labels, config.pop("encoder", {}), max_seconds, from_scratch)
    if hasattr(classifier.config, "layerdrop"):
        classifier.config.layerdrop = 0.0  # a layer that is left out leaves no hidden state to weigh
    encoder = EncoderConfig(_encoder_fields(classifier), **config, **_label_config(labels))
    return _wrap(EncoderForAudioClassification(encoder), classifier), _telling_frames(extractor)


def _load_classifier(
    folder: Path, labels: dict[int, str], config: dict, max_seconds: float, from_scratch: bool
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    kind = read_json(folder / "config.json").get("model_type")
    if kind not in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES:
        raise ValueError(
            f"expected one of the library's encoders ({', '.join(MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES)}) "
            f"behind probe: or encoder:, found {kind!r} in {folder}; give another."
        )
    return load_library(folder, labels, config, max_seconds, from_scratch)


def _wrap(model: PreTrainedModel, classifier: PreTrainedModel) -> PreTrainedModel:
    model.encoder = ignore_padding(bare_encoder(classifier))
    return model


def _telling_frames(extractor: FeatureExtractionMixin, cut_to_clips: bool = True) -> FeatureExtractionMixin:
    if isinstance(extractor, WhisperFeatureExtractor):
        return MaskedWhisperFeatureExtractor(**{**extractor.to_dict(), "cut_to_clips": cut_to_clips})
    extractor.return_attention_mask = True
    return extractor


def _encoder_fields(classifier: PreTrainedModel) -> dict[str, Any]:
    return {name: value for name, value in classifier.config.to_dict().items() if name not in OF_THE_HEAD}


def _label_config(labels: dict[int, str]) -> dict[str, Any]:
    return {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}


def _refuse_unknown(config: dict, known: set[str], what: str) -> None:
    for key in config.keys() - known - set(PreTrainedConfig().to_dict()):
        close = get_close_matches(key, known, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"the configuration of {what} has no field {key!r}{hint}; it has {', '.join(sorted(known))}.")

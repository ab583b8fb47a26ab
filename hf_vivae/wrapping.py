"""Encoders of the library behind a head of this package: the frozen one of a probe, or one that is trained."""

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

from .calibration import TEMPERATURE_FIELD
from .checkpoint_checks import check_encoder_fields, read_json
from .extractors import fixed_length
from .loading import LONGEST_INPUT, load_any
from .models import refuse_unknown
from .models.encoder import EncoderConfig, EncoderForAudioClassification
from .models.features_whisper import MaskedWhisperFeatureExtractor
from .models.hidden_states import bare_encoder
from .models.probe import ProbeConfig, ProbeForAudioClassification
from .models.wrapped import WrappedConfig, WrappedForAudioClassification
from .runs import CORPUS_FIELD
from .validation import UserError

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
        ValueError: see `load_any` and `ProbeConfig`; and for fields that `ProbeConfig` does not have.
    """
    refuse_unknown(config, _fields(ProbeConfig) - {"encoder"}, "configuration of a probe")
    _kind(folder)  # refuses others
    classifier, extractor = load_any(folder, labels, {}, max_seconds, from_scratch)
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
        ValueError: see `load_any` and `EncoderConfig`; and for fields that they do not have.
    """
    refuse_unknown(config, _fields(EncoderConfig), "configuration of an encoder's head")
    head = dict(config)
    check_encoder_fields(of_encoder := head.pop("encoder", {}))
    if _kind(folder) == "whisper":
        max_seconds = LONGEST_INPUT  # its window costs nothing where the clip alone is heard
    classifier, extractor = load_any(folder, labels, of_encoder, max_seconds, from_scratch)
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

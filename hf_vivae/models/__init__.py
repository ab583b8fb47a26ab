"""The report's classifiers by name, and their registration with the library's Auto classes.

One flat folder whose files import only torch, transformers, timm, numpy and their siblings, so that
`save_pretrained` can export a model together with its code.
"""

from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import signature
from pathlib import PurePath

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .encoder import EncoderConfig, EncoderForAudioClassification
from .features_mel import LogMelFeatureExtractor
from .features_trimmed import TRIMMED
from .features_waveform import WaveformFeatureExtractor
from .features_whisper import MaskedWhisperFeatureExtractor
from .logistic_regression import LogisticRegressionConfig, LogisticRegressionForAudioClassification
from .mlp import MLPConfig, MLPForAudioClassification
from .probe import ProbeConfig, ProbeForAudioClassification
from .spectrogram_vit import SpectrogramViTConfig, SpectrogramViTForAudioClassification
from .timm_vit import TimmViTConfig, TimmViTForAudioClassification


@dataclass(frozen=True)
class ModelSpec:
    """What a name stands for: classes, the settings that differ from their defaults, and pretrained weights."""

    config_class: type[PreTrainedConfig]
    model_class: type[PreTrainedModel]
    extractor_class: type[FeatureExtractionMixin]
    config: dict = field(default_factory=dict)
    extractor: dict = field(default_factory=dict)
    pretrained: str | None = None


def _spectrogram_vit(*patch_size: int) -> ModelSpec:
    settings = {"patch_size": patch_size}
    return ModelSpec(
        SpectrogramViTConfig, SpectrogramViTForAudioClassification, LogMelFeatureExtractor, config=settings
    )


MODELS: dict[str, ModelSpec] = {
    "logistic-regression": ModelSpec(
        LogisticRegressionConfig, LogisticRegressionForAudioClassification, WaveformFeatureExtractor
    ),
    "mlp": ModelSpec(MLPConfig, MLPForAudioClassification, WaveformFeatureExtractor),
    "vit-32-30": _spectrogram_vit(32, 30),
    "vit-16-69": _spectrogram_vit(16, 69),
    "vit-8-23": _spectrogram_vit(8, 23),
    "vit-32-69": _spectrogram_vit(32, 69),
    "vit-base": ModelSpec(
        TimmViTConfig,
        TimmViTForAudioClassification,
        LogMelFeatureExtractor,
        # the weights that timm's plain name stood for in May 2022: ImageNet-21k, then ImageNet-1k
        pretrained="timm/vit_base_patch16_224.augreg_in21k_ft_in1k",
    ),
    "wav2vec2": ModelSpec(
        Wav2Vec2Config,
        Wav2Vec2ForSequenceClassification,
        Wav2Vec2FeatureExtractor,
        # the library's own, so that its checkpoints need no code; num_samples is ours: where clips are cut
        extractor={"sampling_rate": 16000, "num_samples": 16000, "return_attention_mask": True},
        pretrained="facebook/wav2vec2-base-960h",
    ),
}

PROBE = "probe:"  # before the folder or Hub id of an encoder that stays frozen
ENCODER = "encoder:"  # before that of one that is trained behind this package's head


def split_name(model: str) -> tuple[str, str]:
    """A model's name as `probe:`, `encoder:` or nothing, and what is behind it."""
    prefix = next((prefix for prefix in (PROBE, ENCODER) if model.startswith(prefix)), "")
    return prefix, model.removeprefix(prefix)


def short_name(model: str) -> str:
    """What tables and folders call a model: a key of `MODELS`, or the last part of a folder or Hub id."""
    prefix, rest = split_name(model)
    return prefix + PurePath(rest).name


def model_spec(name: str) -> ModelSpec:
    """The entry of `MODELS`.

    Raises:
        ValueError: for an unknown name, with the nearest one.
    """
    if name not in MODELS:
        raise ValueError(
            f"expected a model out of {', '.join(MODELS)}, found {name!r}{_nearest(name, MODELS)}; "
            "use one of these names."
        )
    return MODELS[name]


def build_config(name: str, **config) -> PreTrainedConfig:
    """Configuration of a model of `MODELS`, six labels unless `num_labels` or `id2label` says otherwise.

    Args:
        name: a key of `MODELS`.
        config: fields of its configuration that shall differ.

    Raises:
        ValueError: for an unknown name or field, with the nearest one.
    """
    spec = model_spec(name)
    known = {*signature(spec.config_class).parameters, *PreTrainedConfig().to_dict()}
    known |= {"num_labels", "attn_implementation"}
    refuse_unknown(config, known - {"kwargs"}, f"configuration of {name}")
    if not config.keys() & {"num_labels", "id2label"}:
        config["num_labels"] = 6
    return spec.config_class(**{**spec.config, **config})


def build_model(name: str, **config) -> PreTrainedModel:
    """An untrained model of `MODELS`; see `build_config` for the arguments and errors."""
    return model_spec(name).model_class(build_config(name, **config))


def build_feature_extractor(name: str, **config) -> FeatureExtractionMixin:
    """The feature extractor of a model of `MODELS`, with nothing measured on a training set yet.

    Args:
        name: a key of `MODELS`.
        config: arguments of its extractor that shall differ.

    Raises:
        ValueError: for an unknown name or argument, with the nearest one.
    """
    spec = model_spec(name)
    known = {*signature(spec.extractor_class).parameters, *signature(WaveformFeatureExtractor).parameters}
    refuse_unknown(config, known - {"kwargs"}, f"feature extractor of {name}")
    return spec.extractor_class(**{**spec.extractor, **config})


def refuse_unknown(given: dict, known: set[str], what: str) -> None:
    """Refuse fields that something has not.

    Raises:
        ValueError: with the nearest one that it has.
    """
    for key in given:
        if key not in known or key.startswith("_"):  # those are the library's own, and it may not heed them
            raise ValueError(f"the {what} has no field {key!r}{_nearest(key, known)}; correct or remove it.")


def _nearest(name: str, known) -> str:
    close = get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _register() -> None:
    own = {spec.config_class: spec for spec in MODELS.values() if spec.config_class is not Wav2Vec2Config}
    for config_class, spec in own.items():
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModelForAudioClassification.register(config_class, spec.model_class, exist_ok=True)
        AutoFeatureExtractor.register(config_class, spec.extractor_class, exist_ok=True)
        config_class.register_for_auto_class()
        spec.model_class.register_for_auto_class("AutoModelForAudioClassification")
    wrapped = {ProbeConfig: ProbeForAudioClassification, EncoderConfig: EncoderForAudioClassification}
    for config_class, model_class in wrapped.items():
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModelForAudioClassification.register(config_class, model_class, exist_ok=True)
        AutoFeatureExtractor.register(config_class, MaskedWhisperFeatureExtractor, exist_ok=True)
        config_class.register_for_auto_class()
        model_class.register_for_auto_class("AutoModelForAudioClassification")
    for extractor_class in (WaveformFeatureExtractor, LogMelFeatureExtractor, MaskedWhisperFeatureExtractor):
        extractor_class.register_for_auto_class("AutoFeatureExtractor")
    for extractor_class in TRIMMED.values():
        # under their names, by which checkpoints ask for them: their configurations have extractors of the library
        AutoFeatureExtractor.register(extractor_class.__name__, extractor_class, exist_ok=True)
        extractor_class.register_for_auto_class("AutoFeatureExtractor")


_register()

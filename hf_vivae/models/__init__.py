"""Classifiers by name (`MODELS` and `CLASSIC`), and their registration with the Auto classes of transformers.

The other files of this folder import only torch, torchaudio, timm, transformers, numpy, opensmile and each other, so
that `save_pretrained` can export a model with its code.
"""

from collections import ChainMap
from dataclasses import dataclass, field
from importlib.util import find_spec
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

from ..validation import UserError, check_choice, did_you_mean
from .encoder import EncoderConfig, EncoderForAudioClassification
from .features_mel import LogMelFeatureExtractor
from .features_opensmile import OpenSmileFeatureExtractor
from .features_trimmed import TRIMMED
from .features_waveform import WaveformFeatureExtractor
from .features_whisper import MaskedWhisperFeatureExtractor
from .functionals import FunctionalsConfig, FunctionalsForAudioClassification
from .logistic_regression import LogisticRegressionConfig, LogisticRegressionForAudioClassification
from .mlp import MLPConfig, MLPForAudioClassification
from .probe import ProbeConfig, ProbeForAudioClassification
from .spectrogram_vit import SpectrogramViTConfig, SpectrogramViTForAudioClassification
from .timm_vit import TimmViTConfig, TimmViTForAudioClassification


@dataclass(frozen=True)
class ModelSpec:
    """Entry of `MODELS` or `CLASSIC`.

    Args:
        config_class: class of its configuration.
        model_class: class of the model.
        extractor_class: class of its feature extractor.
        config: fields of the configuration with other values than the defaults of the class.
        extractor: arguments of the feature extractor with other values than the defaults of the class.
        pretrained: Hub id of the weights that training starts from; None for random weights.
    """

    config_class: type[PreTrainedConfig]
    model_class: type[PreTrainedModel]
    extractor_class: type[FeatureExtractionMixin]
    config: dict = field(default_factory=dict)
    extractor: dict = field(default_factory=dict)
    pretrained: str | None = None


MODELS: dict[str, ModelSpec] = {
    "logistic-regression": ModelSpec(
        LogisticRegressionConfig, LogisticRegressionForAudioClassification, WaveformFeatureExtractor
    ),
    "mlp": ModelSpec(MLPConfig, MLPForAudioClassification, WaveformFeatureExtractor),
    "vit-32-30": ModelSpec(
        SpectrogramViTConfig, SpectrogramViTForAudioClassification, LogMelFeatureExtractor, {"patch_size": (32, 30)}
    ),
    "vit-16-69": ModelSpec(
        SpectrogramViTConfig, SpectrogramViTForAudioClassification, LogMelFeatureExtractor, {"patch_size": (16, 69)}
    ),
    "vit-8-23": ModelSpec(
        SpectrogramViTConfig, SpectrogramViTForAudioClassification, LogMelFeatureExtractor, {"patch_size": (8, 23)}
    ),
    "vit-32-69": ModelSpec(
        SpectrogramViTConfig, SpectrogramViTForAudioClassification, LogMelFeatureExtractor, {"patch_size": (32, 69)}
    ),
    "vit-base": ModelSpec(
        TimmViTConfig,
        TimmViTForAudioClassification,
        LogMelFeatureExtractor,
        # the weights of timm's plain name `vit_base_patch16_224` in May 2022: ImageNet-21k, then ImageNet-1k
        pretrained="timm/vit_base_patch16_224.augreg_in21k_ft_in1k",
    ),
    "wav2vec2": ModelSpec(
        # classes of transformers, so that its checkpoints need no code
        Wav2Vec2Config,
        Wav2Vec2ForSequenceClassification,
        Wav2Vec2FeatureExtractor,
        # num_samples is a setting of this package, to which training and `load_classifier` cut clips
        extractor={"sampling_rate": 16000, "num_samples": 16000, "return_attention_mask": True},
        pretrained="facebook/wav2vec2-base-960h",
    ),
}

# linear models of openSMILE's functionals; not of the paper, and only with the extra `classic`
CLASSIC: dict[str, ModelSpec] = {
    "egemaps": ModelSpec(FunctionalsConfig, FunctionalsForAudioClassification, OpenSmileFeatureExtractor),
    "compare16": ModelSpec(
        FunctionalsConfig,
        FunctionalsForAudioClassification,
        OpenSmileFeatureExtractor,
        {"num_features": 6373},
        {"feature_set": "ComParE_2016"},
    ),
}
REGISTERED = ChainMap(CLASSIC, MODELS)  # iterates over MODELS first

PROBE = "probe:"  # prefix of the folder or Hub id of an encoder that stays frozen
ENCODER = "encoder:"  # prefix of the folder or Hub id of an encoder that is trained with this package's head


def split_name(model: str) -> tuple[str, str]:
    """Return the prefix of a model's name (`probe:`, `encoder:` or empty), and the name without it."""
    prefix = next((prefix for prefix in (PROBE, ENCODER) if model.startswith(prefix)), "")
    return prefix, model.removeprefix(prefix)


def short_name(model: str) -> str:
    """Return the name of a model in tables and folders: a key of `MODELS`, or the last part of a folder or Hub id."""
    prefix, name = split_name(model)
    return prefix + PurePath(name).name


def model_spec(name: str) -> ModelSpec:
    """Return the entry of `MODELS` or `CLASSIC`.

    Raises:
        UserError: for an unknown name, with the nearest one.
    """
    check_choice("the model", name, REGISTERED)
    return REGISTERED[name]


def check_opensmile(model: str) -> None:
    """Check that the package of classic features is installed.

    Args:
        model: name or folder of the model that needs it, for the message.

    Raises:
        UserError: where it is not, with the extra that installs it.
    """
    if find_spec("opensmile") is None:
        raise UserError(
            f"expected opensmile, which {model} needs, found none; pip install 'hf_vivae[classic]' (its licence "
            "permits no commercial use)."
        )


def build_config(name: str, **config) -> PreTrainedConfig:
    """Return the configuration of a model by name, with six labels unless `num_labels` or `id2label` is given.

    Args:
        name: a key of `MODELS` or `CLASSIC`.
        config: fields of its configuration with other values than the defaults.

    Raises:
        UserError: for an unknown name or field, with the nearest one.
    """
    spec = model_spec(name)
    names = {*signature(spec.config_class).parameters, *PreTrainedConfig().to_dict()}
    names |= {"num_labels", "attn_implementation"}
    check_fields(config, names - {"kwargs"}, f"configuration of {name}")
    if not config.keys() & {"num_labels", "id2label"}:
        config["num_labels"] = 6
    return spec.config_class(**{**spec.config, **config})


def build_model(name: str, **config) -> PreTrainedModel:
    """Return an untrained model by name; see `build_config` for arguments and errors."""
    return model_spec(name).model_class(build_config(name, **config))


def build_feature_extractor(name: str, **config) -> FeatureExtractionMixin:
    """Return the feature extractor of a model by name, before anything is measured on training clips.

    Args:
        name: a key of `MODELS` or `CLASSIC`.
        config: arguments of its extractor with other values than the defaults.

    Raises:
        UserError: for an unknown name or argument, with the nearest one.
    """
    spec = model_spec(name)
    names = {*signature(spec.extractor_class).parameters, *signature(WaveformFeatureExtractor).parameters}
    check_fields(config, names - {"kwargs"}, f"feature extractor of {name}")
    return spec.extractor_class(**{**spec.extractor, **config})


def check_fields(fields: dict, names: set[str], what: str) -> None:
    """Check that all fields are known.

    Args:
        fields: fields and their values.
        names: names of the fields that exist.
        what: name of the object with these fields, for the message.

    Raises:
        UserError: for an unknown field, with the nearest known one.
    """
    for key in fields:
        if key not in names or key.startswith("_"):  # private fields of the library, which may ignore them
            raise UserError(f"the {what} has no field {key!r}{did_you_mean(key, names)}; correct or remove it.")


def _register() -> None:
    own = [
        (spec.config_class, spec.model_class, spec.extractor_class)
        for spec in REGISTERED.values()
        if spec.config_class is not Wav2Vec2Config
    ]
    with_encoders = [
        (ProbeConfig, ProbeForAudioClassification, MaskedWhisperFeatureExtractor),
        (EncoderConfig, EncoderForAudioClassification, MaskedWhisperFeatureExtractor),
    ]
    for config_class, model_class, extractor_class in own + with_encoders:
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModelForAudioClassification.register(config_class, model_class, exist_ok=True)
        AutoFeatureExtractor.register(config_class, extractor_class, exist_ok=True)
        config_class.register_for_auto_class()
        model_class.register_for_auto_class("AutoModelForAudioClassification")
    for extractor_class in (
        WaveformFeatureExtractor, LogMelFeatureExtractor, MaskedWhisperFeatureExtractor, OpenSmileFeatureExtractor,
    ):  # fmt: skip
        extractor_class.register_for_auto_class("AutoFeatureExtractor")
    for extractor_class in TRIMMED.values():
        # by their class names, which checkpoints store: their configurations have extractors of transformers
        AutoFeatureExtractor.register(extractor_class.__name__, extractor_class, exist_ok=True)
        extractor_class.register_for_auto_class("AutoFeatureExtractor")


_register()

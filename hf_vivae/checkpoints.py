"""Models ready to train: by name from scratch or pretrained, or any audio-classification checkpoint.

Weights are read from safetensors only, and nothing is executed from a checkpoint without consent. Library encoders
get inputs as long as the clips rather than the 30 s that some of them were made for.
"""

import json
import math
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .corpus.download import NetworkError, check_reachable
from .models import MODELS, WaveformFeatureExtractor, build_config, build_feature_extractor


def resolve_checkpoint(id_or_folder: str, code: bool = False) -> Path:
    """The local folder of a checkpoint: as given, from the cache, or downloaded from the Hub.

    Args:
        id_or_folder: a folder, or a Hub id such as `facebook/wav2vec2-base-960h`.
        code: fetch the checkpoint's Python files too.

    Raises:
        ValueError: where it is neither a folder nor cached and the Hub does not have it or cannot be reached; said
            within seconds, and not after the library's retries, which take most of a minute.
    """
    if Path(id_or_folder).is_dir():
        return Path(id_or_folder)
    if "/" not in id_or_folder:
        close = get_close_matches(id_or_folder, MODELS, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(
            f"expected one of {', '.join(MODELS)}, a checkpoint folder or a Hub id (owner/name), found "
            f"{id_or_folder!r}{hint}; check the spelling."
        )
    patterns = ["*.json", "*.safetensors", *(["*.py"] if code else [])]
    try:
        cached = Path(snapshot_download(id_or_folder, local_files_only=True, allow_patterns=patterns))
        if any(cached.glob("*.safetensors")):
            return cached
    except HFValidationError as error:
        raise ValueError(
            f"expected a checkpoint folder or a Hub id (owner/name), found {id_or_folder!r}; check the path."
        ) from error
    except LocalEntryNotFoundError:
        pass
    _check_hub_is_reachable(id_or_folder)
    try:
        return Path(snapshot_download(id_or_folder, allow_patterns=patterns))
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"expected a checkpoint folder or a Hub id that can be downloaded, found {id_or_folder!r} ({reason}); "
            "check the name, or log in with `hf auth login` if it is private or gated."
        ) from error


def _check_hub_is_reachable(id_or_folder: str) -> None:
    cure = (
        "download it elsewhere and give its folder with --model_name_or_path (or as --model), or train one of the "
        "report's models with --from_scratch."
    )
    if constants.is_offline_mode():
        raise ValueError(f"{id_or_folder!r} is neither a folder nor in the cache, and HF_HUB_OFFLINE is set; {cure}")
    try:
        check_reachable(constants.ENDPOINT)
    except NetworkError as error:
        raise ValueError(
            f"{id_or_folder!r} is neither a folder nor in the cache, and there is {error.found}; {cure}"
        ) from error


def find_checkpoint(
    name: str, model_name_or_path: str | None = None, from_scratch: bool = False, trust_remote_code: bool = False
) -> Path | None:
    """The folder that a model starts from, fetched if need be; None for a named model from random weights.

    Args:
        name: a key of `MODELS`, or a folder or Hub id.
        model_name_or_path: folder or Hub id of weights for a named model, instead of its usual ones.
        from_scratch: start a named model from random weights.
        trust_remote_code: fetch the checkpoint's Python files too.

    Raises:
        ValueError: see `resolve_checkpoint`; and for weights of a model that brings its own.
    """
    if name not in MODELS:
        if model_name_or_path:
            raise ValueError(
                f"expected --model_name_or_path beside one of {', '.join(MODELS)}, found it beside --model {name}; "
                "give one of the two."
            )
        return resolve_checkpoint(name, code=trust_remote_code)
    source = None if from_scratch else model_name_or_path or MODELS[name].pretrained
    return resolve_checkpoint(source) if source else None


def load_named(
    name: str, labels: dict[int, str], config: dict, folder: Path | None
) -> tuple[PreTrainedModel, WaveformFeatureExtractor]:
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
        return model, matching_extractor(name, model.config)
    settings = _read_json(folder / "config.json")
    _check_weights(folder)
    if "architecture" in settings and settings.get("model_type") is None:  # written by timm
        fitted = build_config(name, **{"architecture": settings["architecture"], **config}, **label_config)
        return spec.model_class.from_timm(folder, fitted), matching_extractor(name, fitted)
    if settings.get("model_type") != spec.config_class.model_type:
        raise ValueError(
            f"--model {name} expects a checkpoint of type {spec.config_class.model_type!r}, found "
            f"{settings.get('model_type')!r} in {folder}; give another --model_name_or_path, or use it as --model."
        )
    build_config(name, **config)  # refuses fields that are misspelt
    fields = {**spec.config, **config, **label_config}
    model, loaded = spec.model_class.from_pretrained(
        folder, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **fields
    )
    _check_fit(loaded["mismatched_keys"], folder)
    return model, matching_extractor(name, model.config)


def matching_extractor(name: str, config: PreTrainedConfig) -> WaveformFeatureExtractor:
    """The feature extractor of a model of `MODELS` whose output has the shape that its configuration asks for."""
    extractor = build_feature_extractor(name)
    if hasattr(config, "num_samples"):
        return build_feature_extractor(name, num_samples=config.num_samples)
    if not hasattr(config, "num_frames"):
        return extractor
    settings = {"num_mel_bins": config.num_mel_bins, "pad_clip": getattr(config, "pad_clip", True)}
    if config.num_frames != extractor.num_frames:
        settings["num_samples"] = (config.num_frames - 1) * extractor.hop_length
    return build_feature_extractor(name, **settings)


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
    fixed, which the library would train. Encoders whose first normalisation runs over padding (`group` norm) get our
    fixed-length extractor, so that a score does not depend on how a clip was padded.

    Raises:
        ValueError: for folders without `config.json` or safetensors, and for code without consent.
    """
    for key in config.keys() - _read_json(folder / "config.json").keys():
        known = type(AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code))().to_dict()
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(f"the configuration of {folder.name} has no field {key!r}{hint}; correct or remove it.")
    label_config = {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    settings = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **config, **label_config)
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=trust_remote_code)
    extractor = fit_extractor_length(extractor, settings, max_seconds)
    if settings.model_type == "whisper":
        settings.max_source_positions = extractor.nb_max_frames // 2
    if from_scratch:
        model = AutoModelForAudioClassification.from_config(settings, trust_remote_code=trust_remote_code)
    else:
        _check_weights(folder)
        model, loaded = AutoModelForAudioClassification.from_pretrained(
            folder,
            config=settings,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
        )
        _check_fit(loaded["mismatched_keys"], folder)
    if settings.model_type == "whisper":
        model.encoder.embed_positions.requires_grad_(False)
    return model, extractor


def fit_extractor_length(
    extractor: FeatureExtractionMixin, settings: PreTrainedConfig, max_seconds: float
) -> FeatureExtractionMixin:
    """The extractor for clips of `max_seconds`, remembering that length where its class can."""
    if settings.model_type == "whisper":
        extractor.chunk_length = min(math.ceil(max_seconds), extractor.chunk_length)
        extractor.n_samples = extractor.chunk_length * extractor.sampling_rate
        extractor.nb_max_frames = extractor.n_samples // extractor.hop_length
    elif getattr(settings, "feat_extract_norm", None) == "group" and not isinstance(
        extractor, WaveformFeatureExtractor
    ):
        extractor = WaveformFeatureExtractor(
            sampling_rate=extractor.sampling_rate,
            num_samples=math.ceil(max_seconds * extractor.sampling_rate),
            zero_mean_unit_variance=extractor.do_normalize,
        )
    return extractor


def extract_features(
    extractor: FeatureExtractionMixin, clips: list[np.ndarray], max_seconds: float
) -> dict[str, np.ndarray]:
    """Features of clips `(samples,)` at the extractor's rate, all of one shape, not yet normalised over a corpus.

    Raises:
        ValueError: where the extractor gives clips of different shapes.
    """
    if isinstance(extractor, WaveformFeatureExtractor):
        return {extractor.model_input_names[0]: extractor.extract(clips)}
    padding = {}
    if type(extractor).__name__ == "Wav2Vec2FeatureExtractor":
        padding = {
            "max_length": math.ceil(max_seconds * extractor.sampling_rate),
            "return_attention_mask": True,
        }
    elif type(extractor).__name__ == "SeamlessM4TFeatureExtractor":
        padding = {"max_length": 2 * math.ceil(max_seconds * 50)}  # frames of 10 ms, stacked in pairs
    if padding:
        padding |= {"padding": "max_length", "truncation": True}
    features = extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="np", **padding)
    return dict(features)


def _check_fit(mismatched: Iterable[tuple], folder: Path) -> None:
    # a head for other labels is made anew, and Whisper's positions are cut; anything else would be another network
    made_anew = re.compile(r"(.*\.)?(classifier|projector|head|embed_positions)\b")
    names = sorted(key[0] for key in mismatched if not made_anew.match(key[0]))
    if names:
        raise ValueError(
            f"{len(names)} weights of {folder} do not fit the configuration that is asked for (first: {names[0]}); "
            "leave out --model_config, give other weights, or start with --from_scratch."
        )


def _check_weights(folder: Path) -> None:
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"expected weights as model.safetensors in {folder}, found none; convert them with safetensors (pickled "
            "weights are not read), or start with --from_scratch."
        )


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise ValueError(f"expected a checkpoint with config.json, found none in {path.parent}; check the folder.")
    return json.loads(path.read_text(encoding="utf-8"))

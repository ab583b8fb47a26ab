"""Models ready to train: by name from scratch or pretrained, or any audio-classification checkpoint.

Weights are read from safetensors only, and nothing is executed from a checkpoint without consent. Library encoders
get inputs as long as the clips rather than the 30 s that some of them were made for.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedModel,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.utils import logging

from .audio import MAX_RATE, MIN_RATE
from .extractors import fit_extractor_length, matching_extractor
from .models import MODELS, build_config
from .models.padding import ignore_padding
from .models.probe import ProbeConfig

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
        raise ValueError(
            f"--model {name} expects a checkpoint of type {spec.config_class.model_type!r}, found "
            f"{settings.get('model_type')!r} in {folder}; give another --model_name_or_path, or use it as --model."
        )
    build_config(name, **config)  # refuses fields that are misspelt
    fields = {**spec.config, **config, **label_config}
    with hushed():
        model, loaded = spec.model_class.from_pretrained(
            folder, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **fields
        )
    _check_fit(loaded, folder)
    return ignore_padding(model), matching_extractor(name, model.config)


def load_any(
    folder: Path,
    labels: dict[int, str],
    config: dict,
    max_seconds: float,
    from_scratch: bool = False,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """`load_library`, with encoders whose first layers see padding kept from it (see `ignore_padding`).

    So a score does not depend on how a clip was padded.
    """
    model, extractor = load_library(folder, labels, config, max_seconds, from_scratch, trust_remote_code)
    return ignore_padding(model), extractor


def load_library(
    folder: Path,
    labels: dict[int, str],
    config: dict,
    max_seconds: float,
    from_scratch: bool = False,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """Any checkpoint that `AutoModelForAudioClassification` can load, fed with clips of `max_seconds`.

    A Whisper encoder has its position table cut to the clips (its own accepts nothing but 30 s), and positions stay
    fixed, which the library would train.

    Raises:
        ValueError: for folders without `config.json` or safetensors, and for code without consent.
    """
    fields = read_json(folder / "config.json")
    if fields.get("model_type") == ProbeConfig.model_type:
        raise ValueError(
            f"expected a checkpoint to train further, found {folder}, whose encoder is frozen; give that encoder, or "
            "probe: and the encoder for another probe."
        )
    for key in config.keys() - fields.keys():
        known = type(AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code))().to_dict()
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(f"the configuration of {folder.name} has no field {key!r}{hint}; correct or remove it.")
    label_config = {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    settings = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **config, **label_config)
    _check_rate(folder)
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=trust_remote_code)
    extractor = fit_extractor_length(extractor, settings, max_seconds)
    if settings.model_type == "whisper":
        settings.max_source_positions = extractor.nb_max_frames // 2
    if from_scratch:
        model = AutoModelForAudioClassification.from_config(settings, trust_remote_code=trust_remote_code)
    else:
        check_weights(folder)
        with hushed():
            model, loaded = AutoModelForAudioClassification.from_pretrained(
                folder,
                config=settings,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                trust_remote_code=trust_remote_code,
            )
        _check_fit(loaded, folder)
    if settings.model_type == "whisper":
        model.encoder.embed_positions.requires_grad_(False)
    return model, extractor


@contextmanager
def hushed() -> Iterator[None]:
    """Without the library's report of weights that are made anew, which its caller reads."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _check_fit(loaded: dict[str, Iterable], folder: Path) -> None:
    # a head for other labels is made anew, Whisper's positions are cut, and masks and layer weights serve training
    # only; anything else would be another network
    made_anew = re.compile(r"(.*\.)?(classifier|projector|head|embed_positions|masked_spec_embed|layer_weights)\b")
    cure = "leave out --model_config, give other weights, or start with --from_scratch."
    names = sorted(key[0] for key in loaded["mismatched_keys"] if not made_anew.match(key[0]))
    if names:
        raise ValueError(
            f"{len(names)} weights of {folder} do not fit the configuration that is asked for (first: {names[0]}); "
            f"{cure}"
        )
    missing = sorted(name for name in loaded["missing_keys"] if not made_anew.match(name))
    if missing:
        raise ValueError(
            f"expected the weights of a whole network in {folder}, found none of {len(missing)} (first: "
            f"{missing[0]}); {cure}"
        )


def _check_rate(folder: Path) -> None:
    """Refuse a rate that no clip can be resampled to; clips have any, and are resampled to the extractor's."""
    if (folder / "processor_config.json").is_file():  # which the library reads, too
        return
    rate = read_json(folder / "preprocessor_config.json").get("sampling_rate", 16000)
    if type(rate) is not int or not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(
            f"expected a sampling_rate of {MIN_RATE} to {MAX_RATE} Hz in {folder / 'preprocessor_config.json'}, found "
            f"{rate!r}; correct it, or give another checkpoint."
        )


def check_weights(folder: Path, otherwise: str = "start with --from_scratch") -> None:
    """Refuse a checkpoint without safetensors.

    Raises:
        ValueError: saying what to do `otherwise`.
    """
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"expected weights as model.safetensors in {folder}, found none; convert them with safetensors (pickled "
            f"weights are not read), or {otherwise}."
        )


def read_json(path: Path) -> dict:
    """The content of a file of a checkpoint.

    Raises:
        ValueError: where there is none.
    """
    if not path.is_file():
        raise ValueError(f"expected a checkpoint with {path.name}, found none in {path.parent}; check the folder.")
    return json.loads(path.read_text(encoding="utf-8"))

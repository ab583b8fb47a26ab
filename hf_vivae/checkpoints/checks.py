"""What a checkpoint must hold to be trained further: weights that fit, and a rate that clips can have."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..audio import MAX_RATE, MIN_RATE
from ..models.wrapped import LAYER_DROPS
from ..validation import UserError
from .adapters import ADAPTER

MAX_JSON_BYTES = 8 * 2**20  # names of 100,000 labels
MAX_LABELS = 100_000  # the library makes names for all of them, which takes hours for more
KINDS = {"model_type": str, "auto_map": dict}  # of fields that the library looks up without a look at their type


class UnfitError(UserError):
    """Weights that are not those of the network which they were loaded into."""


def read_json(path: Path) -> dict:
    """The content of a file of a checkpoint.

    Raises:
        ValueError: where there is none, and for one that may not be read, is damaged or beyond all measure.
    """
    try:
        if not path.is_file():
            raise UserError(f"expected a checkpoint with {path.name}, found none in {path.parent}; check the folder.")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(
                f"expected at most {MAX_JSON_BYTES // 2**20} MiB in {path}, found {path.stat().st_size / 2**20:.0f}; "
                "get the checkpoint again from its source."
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"expected a checkpoint that can be read, found {path} ({error.strerror}); change its permissions, or "
            "copy the checkpoint again."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(
            f"expected JSON in {path}, found a damaged file ({error}); get the checkpoint again from its source."
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"expected a JSON object in {path}, found {type(content).__name__}; get the checkpoint again from its "
            "source."
        )
    for name, kind in KINDS.items():
        if content.get(name) is not None and not isinstance(content[name], kind):
            raise UserError(
                f"expected {name} as {'text' if kind is str else 'an object'} in {path}, found {content[name]!r:.99}; "
                "get the checkpoint again from its source."
            )
    labels = content.get("num_labels")
    if isinstance(labels, int) and labels > MAX_LABELS:
        raise UserError(
            f"expected at most {MAX_LABELS} labels in {path}, found num_labels {labels}; get the checkpoint again "
            "from its source."
        )
    return content


@contextmanager
def building(what: str, cure: str = "correct them") -> Iterator[None]:
    """Turn what classes raise for values that they cannot be built with into one sentence.

    Args:
        what: whose values they are.
        cure: what to do.

    Raises:
        UserError: naming it, with the library's reason.
    """
    try:
        yield
    except UserError:
        raise
    except (
        # what a library raises of values that it was not made for; NotImplementedError is a RuntimeError
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RuntimeError,
        StrictDataclassError,
        TypeError,
        ValueError,
    ) as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        reason = kind + " ".join(str(error).split())
        raise UserError(
            f"expected values that {what} can be built with, found some that it cannot ({reason[:300].rstrip('.')}); "
            f"{cure}."
        ) from error


def read_config(folder: Path, trust_remote_code: bool = False, **changes: Any) -> PreTrainedConfig:
    """The configuration of an audio classifier, or of an encoder that one can be made of.

    Args:
        folder: of the checkpoint.
        trust_remote_code: execute code of the folder.
        changes: fields that shall differ.

    Raises:
        UserError: for a type that transformers does not know or has no audio classifier of, and for code without
            consent.
    """
    fields = read_json(folder / "config.json")
    kind, own_code = fields.get("model_type"), "auto_map" in fields
    if kind not in CONFIG_MAPPING and not (own_code and trust_remote_code):
        if own_code:
            raise _code_without_consent(folder)
        raise UserError(
            f"expected a model_type that transformers or hf_vivae knows in {folder / 'config.json'}, found {kind!r}; "
            "give another checkpoint, or install the release of transformers that has it."
        )
    with building(f"the configuration of {folder}"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **changes)
    if type(config) not in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING and not (own_code and trust_remote_code):
        raise UserError(
            f"expected an audio classifier, or an encoder that one is made of, in {folder}, found a {kind}; give "
            "another checkpoint."
        )
    return config


def read_extractor(folder: Path, trust_remote_code: bool = False) -> FeatureExtractionMixin:
    """The feature extractor of a checkpoint.

    Args:
        folder: of the checkpoint.
        trust_remote_code: execute code of the folder.

    Raises:
        UserError: where there is none that can be built and makes finite features of a clip, for an impossible rate,
            and for code without consent.
    """
    check_rate(folder)
    with building(f"the feature extractor of {folder}"):
        extractor = _build_extractor(folder, trust_remote_code)
        # most values are used with the first clip only
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, extractor.sampling_rate).astype(np.float32)
        features = extractor(noise, sampling_rate=extractor.sampling_rate, return_tensors="np")
        if not all(np.isfinite(values).all() for values in features.values()):
            raise ValueError("its features of a second of noise are infinite or NaN")
    return extractor


def _build_extractor(folder: Path, trust_remote_code: bool) -> FeatureExtractionMixin:
    try:
        return AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except ValueError as error:  # the library has no class of its own for what it refuses
        if "trust_remote_code" in str(error):
            raise _code_without_consent(folder) from error
        if "Unrecognized feature extractor" not in str(error):
            raise
        kind = read_json(folder / "preprocessor_config.json").get("feature_extractor_type")
        raise UserError(
            f"expected a feature_extractor_type that transformers or hf_vivae knows in {folder}, found {kind!r}; "
            "give another checkpoint, or install the release of transformers that has it."
        ) from error


def _code_without_consent(folder: Path) -> UserError:
    return UserError(
        f"expected a checkpoint whose class is in transformers or hf_vivae, found code of its own in {folder}; read "
        "that code, and if you trust it add --trust_remote_code to train or evaluate, or use transformers.pipeline "
        "with trust_remote_code=True."
    )


def check_weights(folder: Path, otherwise: str = "start with --from_scratch") -> None:
    """Refuse a checkpoint without safetensors, and one whose index of them is damaged.

    Raises:
        ValueError: saying what to do `otherwise`.
    """
    if (folder / ADAPTER).is_dir():
        raise UserError(
            f"expected a whole network in {folder}, found LoRA's matrices alone; train it with --lora_save merged, "
            "and go on from that."
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"expected weights as model.safetensors in {folder}, found none; convert them with safetensors (pickled "
            f"weights are not read), or {otherwise}."
        )
    for index in folder.glob("*.safetensors.index.json"):
        read_json(index)


def check_labels(config: PreTrainedConfig, folder: Path) -> None:
    """Refuse labels that scores cannot be given by.

    Raises:
        ValueError: unless they are different names, numbered from 0 without a gap.
    """
    labels = config.id2label
    names = list(labels.values())
    if sorted(labels) != list(range(len(labels))):
        problem = f"the numbers {', '.join(map(str, sorted(labels)))}"
    elif odd := [name for name in names if not (isinstance(name, str) and name.strip())]:
        problem = f"{odd[0]!r:.100}"
    elif len(set(names)) < len(names):
        problem = f"{Counter(names).most_common(1)[0][0]!r:.100} more than once"
    else:
        return
    raise UserError(
        f"expected different names of labels, numbered from 0 without a gap, as id2label in {folder / 'config.json'}, "
        f"found {problem:.300}; correct them, or give another checkpoint."
    )


def check_finite(model: PreTrainedModel, folder: Path) -> None:
    """Refuse weights of which nothing but NaN would come.

    Raises:
        ValueError: naming one of them.
    """
    weights = {name: weight for name, weight in model.state_dict().items() if weight.is_floating_point()}
    # both ends tell it in a tenth of the time that isfinite takes with all of a weight
    names = [
        name for name, weight in weights.items() if weight.numel() and not all(map(torch.isfinite, weight.aminmax()))
    ]
    if names:
        raise UserError(
            f"expected finite weights in {folder}, found NaN or infinity in {len(names)} of them (first: {names[0]}); "
            "get the checkpoint again from its source, or train it again."
        )


@contextmanager
def whole_weights(folder: Path) -> Iterator[None]:
    """Say in one sentence that weights which the library reads inside are damaged, or of another shape.

    Raises:
        ValueError: naming the folder.
    """
    try:
        yield
    except SafetensorError as error:
        raise UserError(
            f"expected whole weights in {folder}, found damaged ones ({error}); get the checkpoint again from its "
            "source, or train it again."
        ) from error
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(
            f"expected weights that can be read in {folder}, found some that cannot ({reason}); change their "
            "permissions, or copy them again."
        ) from error
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):  # what the library says of shapes, without naming one
            raise
        raise UserError(
            f"expected weights in {folder} of the shapes that its config.json says, found others; get the checkpoint "
            "again from its source."
        ) from error


def check_fit(loaded: dict[str, Iterable], folder: Path) -> None:
    """Refuse weights that are not those of the network which they were loaded into.

    Args:
        loaded: what `from_pretrained` says of the weights.
        folder: of the checkpoint.

    Raises:
        UnfitError: for weights that are missing or do not fit, except those that are made anew.
    """
    # a head for other labels is made anew, Whisper's positions are cut, and masks and layer weights serve training
    # only; anything else would be another network
    made_anew = re.compile(r"(.*\.)?(classifier|projector|head|embed_positions|masked_spec_embed|layer_weights)\b")
    cure = "leave out --model_config, give other weights, or start with --from_scratch."
    names = sorted(key[0] for key in loaded["mismatched_keys"] if not made_anew.match(key[0]))
    if names:
        raise UnfitError(
            f"{len(names)} weights of {folder} do not fit the configuration that is asked for (first: {names[0]}); "
            f"{cure}"
        )
    missing = sorted(name for name in loaded["missing_keys"] if not made_anew.match(name))
    if missing:
        raise UnfitError(
            f"expected the weights of a whole network in {folder}, found none of {len(missing)} (first: "
            f"{missing[0]}); {cure}"
        )


def check_rate(folder: Path) -> None:
    """Refuse a rate that no clip can be resampled to; clips have any, and are resampled to the extractor's.

    Raises:
        ValueError: with the rates that there are.
    """
    if (folder / "processor_config.json").is_file():  # which the library reads, too
        return
    rate = read_json(folder / "preprocessor_config.json").get("sampling_rate", 16000)
    if type(rate) is not int or not MIN_RATE <= rate <= MAX_RATE:
        raise UserError(
            f"expected a sampling_rate of {MIN_RATE} to {MAX_RATE} Hz in {folder / 'preprocessor_config.json'}, found "
            f"{rate!r}; correct it, or give another checkpoint."
        )


def check_masks(fields: dict[str, Any], config: PreTrainedConfig) -> None:
    """Refuse masks of Whisper's own, which the library makes for its decoder's training alone.

    Args:
        fields: of the configuration, that shall differ.
        config: as it was saved.

    Raises:
        ValueError: naming the field, and what masks instead.
    """
    changed = [name for name, value in fields.items() if value != getattr(config, name, None)]
    masks = [name for name in changed if name.startswith("mask_") or name == "apply_spec_augment"]
    if config.model_type == "whisper" and masks:
        raise UserError(
            f"expected no masks of Whisper's own, which its encoder never makes, found {masks[0]} in --model_config; "
            "leave it out, and give time_masks and mel_masks in --augment."
        )


def check_encoder_fields(fields: Any) -> None:
    """Refuse what cannot be said of the encoder in another model.

    Raises:
        ValueError: for what are no fields, and for layers that are left out at random.
    """
    if not isinstance(fields, dict):
        raise UserError(
            f"expected the encoder's fields in --model_config as an object, found {fields!r}; give one, such as "
            '{"encoder": {"mask_time_prob": 0.1}}, or leave it out.'
        )
    for name in LAYER_DROPS:
        if fields.get(name):
            raise UserError(
                f"expected {name} 0 of an encoder all of whose layers are heard, found {fields[name]}; leave it out."
            )

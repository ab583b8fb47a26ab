"""Checks of a checkpoint folder: its JSON files, configuration, feature extractor, labels and weights.

Checkpoints come from anywhere, so each mistake in one is a `UserError` that names the file.
"""

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
from ..files import read_json
from ..models import OpenSmileFeatureExtractor, check_opensmile
from ..models.wrapped import LAYER_DROPS
from ..validation import UserError
from .adapters import ADAPTER

MAX_JSON_BYTES = 8 * 2**20  # names of 100,000 labels
MAX_LABELS = 100_000  # the library makes names for all of them, which takes hours for more
KINDS = {"model_type": str, "auto_map": dict}  # of fields that the library looks up without checking their type
# raised by the library for values of the wrong type or size; its NotImplementedError is caught as a RuntimeError
BUILD_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, StrictDataclassError, TypeError,
    ValueError,
)  # fmt: skip
REMEDY = "get the checkpoint again from its source"


class UnfitError(UserError):
    """Weights of another network than the one they were loaded into."""


@contextmanager
def explain_build_errors(what: str, remedy: str = "correct them") -> Iterator[None]:
    """Raise the errors of classes that are built with impossible values as a `UserError`.

    Args:
        what: name of the object whose values they are.
        remedy: end of the sentence.

    Raises:
        UserError: with `what` and the reason that the library gives.
    """
    try:
        yield
    except UserError:
        raise
    except BUILD_ERRORS as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        reason = kind + " ".join(str(error).split())
        raise UserError(
            f"expected values that {what} can be built with, found some that it cannot ({reason[:300].rstrip('.')}); "
            f"{remedy}."
        ) from error


@contextmanager
def explain_weight_errors(folder: Path) -> Iterator[None]:
    """Raise the library's errors about the weights of a folder as a `UserError`.

    Raises:
        UserError: for weights that are damaged, cannot be read or have other shapes than `config.json` states.
    """
    try:
        yield
    except SafetensorError as error:
        raise UserError(
            f"expected whole weights in {folder}, found damaged ones ({error}); {REMEDY}, or train it again."
        ) from error
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(
            f"expected weights that can be read in {folder}, found some that cannot ({reason}); change their "
            "permissions, or copy them again."
        ) from error
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):  # in the library's message about shapes, which names none
            raise
        raise UserError(
            f"expected weights in {folder} of the shapes that its config.json states, found others; {REMEDY}."
        ) from error


def read_checkpoint_json(file: Path) -> dict[str, Any]:
    """Return the content of a JSON file of a checkpoint.

    Raises:
        UserError: for a file that is missing, cannot be read, is damaged or larger than 8 MiB, for a `model_type` or
            `auto_map` of the wrong type, and for more than 100,000 labels.
    """
    try:
        if not file.is_file():
            raise UserError(f"expected a checkpoint with {file.name}, found none in {file.parent}; check the folder.")
        size = file.stat().st_size
        file.open("rb").close()  # the remedy for a locked file is another one than for a damaged one
    except OSError as error:
        raise UserError(
            f"expected a checkpoint that can be read, found {file} ({error.strerror}); change its permissions, or "
            "copy the checkpoint again."
        ) from error
    if size > MAX_JSON_BYTES:
        raise UserError(
            f"expected at most {MAX_JSON_BYTES // 2**20} MiB in {file}, found {size / 2**20:.0f}; {REMEDY}."
        )
    content = read_json(file, REMEDY)
    for name, kind in KINDS.items():
        if content.get(name) is not None and not isinstance(content[name], kind):
            raise UserError(
                f"expected {name} as {'text' if kind is str else 'an object'} in {file}, found {content[name]!r:.99}; "
                f"{REMEDY}."
            )
    labels = content.get("num_labels")
    if isinstance(labels, int) and labels > MAX_LABELS:
        raise UserError(f"expected at most {MAX_LABELS} labels in {file}, found num_labels {labels}; {REMEDY}.")
    return content


def read_config(folder: Path, trust_remote_code: bool = False, **changes: Any) -> PreTrainedConfig:
    """Return the configuration of an audio classifier, or of an encoder that can be made one.

    Args:
        folder: folder of the checkpoint.
        trust_remote_code: execute code of the folder.
        changes: fields with other values than in `config.json`.

    Raises:
        UserError: for a type that transformers does not have or has no audio classifier of, and for code without
            consent.
    """
    fields = read_checkpoint_json(folder / "config.json")
    kind, own_code = fields.get("model_type"), "auto_map" in fields
    if kind not in CONFIG_MAPPING and not (own_code and trust_remote_code):
        if own_code:
            raise _code_without_consent(folder)
        raise UserError(
            f"expected a model_type that transformers or hf_vivae knows in {folder / 'config.json'}, found {kind!r}; "
            "give another checkpoint, or install the release of transformers that has it."
        )
    with explain_build_errors(f"the configuration of {folder}"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **changes)
    if type(config) not in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING and not (own_code and trust_remote_code):
        raise UserError(
            f"expected an audio classifier, or an encoder that can be made one, in {folder}, found a {kind}; give "
            "another checkpoint."
        )
    return config


def read_extractor(folder: Path, trust_remote_code: bool = False) -> FeatureExtractionMixin:
    """Return the feature extractor of a checkpoint, after a trial on one second of noise.

    Args:
        folder: folder of the checkpoint.
        trust_remote_code: execute code of the folder.

    Raises:
        UserError: for an extractor that is missing, cannot be built or returns infinite or NaN features, for a
            sampling rate that clips cannot be resampled to, for features of opensmile where it is not installed, and
            for code without consent.
    """
    file = folder / "preprocessor_config.json"
    if not (folder / "processor_config.json").is_file():  # the library reads this one too
        rate = read_checkpoint_json(file).get("sampling_rate", 16000)
        if type(rate) is not int or not MIN_RATE <= rate <= MAX_RATE:
            raise UserError(
                f"expected a sampling_rate of {MIN_RATE} to {MAX_RATE} Hz in {file}, found {rate!r}; correct it, or "
                "give another checkpoint."
            )
    with explain_build_errors(f"the feature extractor of {folder}"):
        try:
            extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=trust_remote_code)
        except ValueError as error:  # the library has no class of its own for these refusals
            if "trust_remote_code" in str(error):
                raise _code_without_consent(folder) from error
            if "Unrecognized feature extractor" not in str(error):
                raise
            kind = read_checkpoint_json(file).get("feature_extractor_type")
            raise UserError(
                f"expected a feature_extractor_type that transformers or hf_vivae knows in {folder}, found {kind!r}; "
                "give another checkpoint, or install the release of transformers that has it."
            ) from error
        if isinstance(extractor, OpenSmileFeatureExtractor):
            check_opensmile(f"the checkpoint {folder}")
        # most values are used with the first clip only
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, extractor.sampling_rate).astype(np.float32)
        features = extractor(noise, sampling_rate=extractor.sampling_rate, return_tensors="np")
        if not all(np.isfinite(values).all() for values in features.values()):
            raise ValueError("its features of a second of noise are infinite or NaN")
    return extractor


def _code_without_consent(folder: Path) -> UserError:
    return UserError(
        f"expected a checkpoint whose class is in transformers or hf_vivae, found code of its own in {folder}; read "
        "that code, and if you trust it add --trust_remote_code to train or evaluate, or use transformers.pipeline "
        "with trust_remote_code=True."
    )


def check_labels(config: PreTrainedConfig, folder: Path) -> None:
    """Check that the labels are different names, numbered from 0 without a gap.

    Raises:
        UserError: for other labels.
    """
    labels = config.id2label
    names = list(labels.values())
    if sorted(labels) != list(range(len(labels))):
        problem = f"the numbers {', '.join(map(str, sorted(labels)))}"
    elif empty := [name for name in names if not (isinstance(name, str) and name.strip())]:
        problem = f"{empty[0]!r:.100}"
    elif len(set(names)) < len(names):
        problem = f"{Counter(names).most_common(1)[0][0]!r:.100} more than once"
    else:
        return
    raise UserError(
        f"expected different names of labels, numbered from 0 without a gap, as id2label in {folder / 'config.json'}, "
        f"found {problem:.300}; correct them, or give another checkpoint."
    )


def check_weights(folder: Path, alternative: str = "start with --from_scratch") -> None:
    """Check that a checkpoint has its weights as safetensors, with an undamaged index.

    Args:
        folder: folder of the checkpoint.
        alternative: second remedy of the sentence about missing weights.

    Raises:
        UserError: for a folder without such weights, or with those of a LoRA adapter only.
    """
    if (folder / ADAPTER).is_dir():
        raise UserError(
            f"expected a whole network in {folder}, found LoRA's matrices alone; train it with --lora_save merged, "
            "and go on from that."
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"expected weights as model.safetensors in {folder}, found none; convert them with safetensors (pickled "
            f"weights are not read), or {alternative}."
        )
    for index in folder.glob("*.safetensors.index.json"):
        read_checkpoint_json(index)


def check_fit(loaded: dict[str, Iterable], folder: Path) -> None:
    """Check that the weights of a checkpoint are those of the network they were loaded into.

    Args:
        loaded: the loading information that `from_pretrained` returns.
        folder: folder of the checkpoint.

    Raises:
        UnfitError: for weights that are missing or have another shape, except those that are initialised again.
    """
    # a head for other labels is initialised again, Whisper's positions are cut, and masks and layer weights are used
    # in training only; without any other weight it would be another network
    initialised = re.compile(r"(.*\.)?(classifier|projector|head|embed_positions|masked_spec_embed|layer_weights)\b")
    remedy = "leave out --model_config, give other weights, or start with --from_scratch."
    names = sorted(key[0] for key in loaded["mismatched_keys"] if not initialised.match(key[0]))
    if names:
        raise UnfitError(
            f"{len(names)} weights of {folder} do not fit the configuration that is asked for (first: {names[0]}); "
            f"{remedy}"
        )
    missing = sorted(name for name in loaded["missing_keys"] if not initialised.match(name))
    if missing:
        raise UnfitError(
            f"expected the weights of a whole network in {folder}, found none of {len(missing)} (first: "
            f"{missing[0]}); {remedy}"
        )


def check_finite(model: PreTrainedModel, folder: Path) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        UserError: with the name of the first such weight.
    """
    weights = {name: weight for name, weight in model.state_dict().items() if weight.is_floating_point()}
    # minimum and maximum show it in a tenth of the time that isfinite takes with all of a weight
    names = [
        name for name, weight in weights.items() if weight.numel() and not all(map(torch.isfinite, weight.aminmax()))
    ]
    if names:
        raise UserError(
            f"expected finite weights in {folder}, found NaN or infinity in {len(names)} of them (first: {names[0]}); "
            f"{REMEDY}, or train it again."
        )


def check_masks(fields: dict[str, Any], config: PreTrainedConfig) -> None:
    """Check that no field turns on Whisper's own masks, which the library applies for its decoder's training only.

    Args:
        fields: fields of `--model_config`.
        config: configuration as it was saved.

    Raises:
        UserError: with the field, and the flag that masks instead.
    """
    changed = [name for name, value in fields.items() if value != getattr(config, name, None)]
    masks = [name for name in changed if name.startswith("mask_") or name == "apply_spec_augment"]
    if config.model_type == "whisper" and masks:
        raise UserError(
            f"expected no masks of Whisper's own, which its encoder never makes, found {masks[0]} in --model_config; "
            "leave it out, and give time_masks and mel_masks in --augment."
        )


def check_encoder_fields(fields: Any) -> None:
    """Check the fields of the encoder that a model of this package wraps.

    Raises:
        UserError: for a value that is not an object, and for layers that are dropped at random.
    """
    if not isinstance(fields, dict):
        raise UserError(
            f"expected the encoder's fields in --model_config as an object, found {fields!r}; give one, such as "
            '{"encoder": {"mask_time_prob": 0.1}}, or leave it out.'
        )
    for name in LAYER_DROPS:
        if fields.get(name):
            raise UserError(
                f"expected {name} 0 of an encoder whose layers are all used, found {fields[name]}; leave it out."
            )
